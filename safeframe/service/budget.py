"""LongRunBudget: a guard whose share of violations keeps to r_t in the long run, on any sequence of cases.

    budget = LongRunBudget(guard, r_t=1e-2, late=24)
    done = budget.act(measurement)          # done.action, done.accepted, done.ids
    budget.learn(done.ids, labels)          # when they are known, in any order

The guard decides at a level that is lowered by what was overspent, and an action that it accepts is withheld
where the budget has no room. Then violations <= r_t x accepted + c at every time, adversarial cases included;
c is ``budget.constant``, and :mod:`safeframe.service.ledger` has the proposition with its proof. The guard's
own bound says what happens on cases like its internal test data; the budget holds where they are not.

In service both the log and the budget have to know: ``log.act(measurement, budget=budget)``, and a label goes
to both by the ids of each (:class:`safeframe.service.log.LoggedActions`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np

from safeframe.guard.report import GuardedActions
from safeframe.guard.safety_guard import SafetyGuard
from safeframe.guard.settings import Priced
from safeframe.service.ledger import BudgetLedger, Per
from safeframe.service.outcome import BudgetedActions, outcome
from safeframe.tensors import is_tensor, like, to_numpy


class LongRunBudget:
    """A guard with a long-run promise; see :mod:`safeframe.service.ledger` for the rule and its proof.

    Args:
        guard: a calibrated guard. With certificates, or where risk is priced, it serves its listed thresholds
            only, of which the largest within the level is used.
        r_t: the share of violations that is promised in the long run, in (0, 1).
        reserve: violations beyond it that may be spent at once, at least 1. With less than a few
            times r_t x late the budget stops where a lower level would have been enough.
        per: "accepted": per accepted decision; "decision": per decision, rejected ones counted as safe.
        late: accepted decisions that may wait for their labels without being counted as unsafe (about as many
            as are accepted before labels come); it enters the constant.
        recover_after: rejections for want of budget after which one violation more is allowed, then twice as
            many, and so on; "auto": 1 / r_t; None: never, and the constant does not grow.
        strictest: the level at which all of the reserve is spent, as a share of r_t, in (0, 1).

    Raises:
        SafeframeError: on a setting outside its range.
    """

    def __init__(
        self,
        guard: SafetyGuard,
        r_t: float,
        reserve: float = 10.0,
        per: Per = "accepted",
        late: int = 0,
        recover_after: int | Literal["auto"] | None = "auto",
        strictest: float = 0.01,
    ) -> None:
        self.guard = guard
        self.ledger = BudgetLedger(r_t, reserve, per, late, recover_after, strictest)

    @property
    def level(self) -> float:
        """The r_t at which the guard decides now."""
        return self.ledger.level

    @property
    def constant(self) -> float:
        """c: violations are at most r_t x accepted (or decisions) + c."""
        return self.ledger.constant

    @property
    def promised(self) -> float:
        """The share of violations that is not exceeded so far, whatever the labels will be."""
        return self.ledger.promised

    def act(self, measurement: Any, group: Any = None) -> BudgetedActions:
        """Actions for a batch of measurements, decided in their order at one level.

        Args:
            measurement: n cases, as the guard takes them.
            group: (n,) ids, where the guard is group-conditional; the budget is one for all groups.

        Returns:
            The actions, with ids under which labels are to be entered.

        Raises:
            SafeframeError: as the guard does.
        """
        return self.decide(self.guard.act, measurement, group, self._listed())

    def decide(
        self,
        act: Callable[[Any, float, Any], GuardedActions],
        measurement: Any,
        group: Any = None,
        listed: Sequence[float] | None = None,
    ) -> BudgetedActions:
        """Like :meth:`act`, where somebody else decides for the guard: a recalibrated one, for example.

        Args:
            act: (measurement, r_t, group) -> what the guard does at that r_t.
            measurement: n cases.
            group: (n,) ids, or None.
            listed: the r_t that ``act`` serves, at least one; None: all in (0, 1].

        Returns:
            The actions, with ids under which labels are to be entered.

        Raises:
            SafeframeError: as ``act`` does; nothing is entered then.
        """
        level = self.level
        served = level if listed is None else max((r_t for r_t in listed if r_t <= level), default=0.0)
        strict = served if served > 0.0 or listed is None else min(listed)
        guarded = act(measurement, strict, group)
        wanted = to_numpy(guarded.accepted).astype(bool)
        within = to_numpy(guarded.bound) <= self.ledger.r_t
        if guarded.priced is not None and not self.ledger.exhausted:
            # What r_t would accept is not known where the price of a stricter one took the default action:
            # all count, or the level would stay where next to nothing is accepted. The promise holds anyway.
            within |= ~wanted & (served < max((r for r in listed or () if r <= self.ledger.r_t), default=0.0))
        if served > 0.0:
            ids, taken = self.ledger.take(wanted, within & ~wanted)
        else:
            ids, taken = self.ledger.take(np.zeros_like(wanted), within)
        withheld = wanted & ~taken
        kind = guarded.action if is_tensor(guarded.action) else None
        left = outcome(guarded, withheld, self.guard.default_action)
        action, accepted = like(left.action, kind), like(left.accepted, kind)
        return BudgetedActions(action, accepted, ids, served, withheld, guarded)

    def _listed(self) -> list[float] | None:
        """The r_t that the guard serves; None: all of them."""
        settings, found = self.guard.settings, self.guard.calibrations
        if isinstance(settings.choice, Priced):  # where no price qualifies nothing would ever be learnt
            fine = [r_t for r_t, groups in found.items() if any(one.feasible for one in groups.values())]
            return fine or list(found) or None
        return list(found) or None if settings.delta is not None else None

    def learn(self, ids: Any, label: Any) -> int:
        """Enter labels, as they come and in any order.

        Args:
            ids: (n,) of decisions, as ``act`` gave them, or one.
            label: (n,) 0 safe or 1 unsafe, or one.

        Returns:
            How many were waited for; labels of rejected decisions and second ones are ignored.

        Raises:
            SafeframeError: on ids that were never given, an id twice, or labels that are missing or neither 0
                nor 1; nothing is entered then.
        """
        return self.ledger.learn(ids, label)

    def state(self) -> dict[str, Any]:
        """The ledger's state; the guard is saved by its own ``save``.

        Returns:
            Settings, counts and the ids that wait, fit for JSON.
        """
        return self.ledger.state()

    @classmethod
    def from_state(cls, guard: SafetyGuard, state: dict[str, Any]) -> LongRunBudget:
        """A budget that goes on from a state.

        Args:
            guard: the guard.
            state: of :meth:`state`.

        Returns:
            The budget.

        Raises:
            SafeframeError: on what is no state of a ledger, or of another format.
        """
        ledger = BudgetLedger.from_state(state)
        found = cls(guard, ledger.r_t)
        found.ledger = ledger
        return found

    def __str__(self) -> str:
        ledger = self.ledger
        known = f"{ledger.unsafe:,} violations known among {ledger.accepted:,} accepted"
        waiting = f"{len(ledger.waiting):,} wait for labels"
        stopped = "; stopped: no room until labels come or rejections have gone on" if not ledger.room else ""
        whose = "decisions" if ledger.per == "decision" else "accepted"
        return (
            f"{known}, {waiting}; level {self.level:.3g} of r_t = {ledger.r_t:g}; at most "
            f"{ledger.promised:.3g} of {whose} are violations, whatever comes{stopped}"
        )
