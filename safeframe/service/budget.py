"""LongRunBudget: a guard whose share of violations keeps to r_t in the long run, on any sequence of cases.

    budget = LongRunBudget(guard, r_t=1e-2, late=24)
    done = budget.act(measurement)          # done.action, done.accepted, done.ids
    budget.learn(done.ids, labels)          # when they are known, in any order

The guard decides at a level that is lowered by what was overspent, and an action that it accepts is withheld
where the budget has no room. Then violations <= r_t x accepted + c at every time, adversarial cases included;
c is ``budget.constant``, and :mod:`safeframe.service.ledger` has the proposition with its proof. The guard's
own bound says what happens on cases like its internal test data; the budget holds where they are not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from safeframe.guard.report import GuardedActions
from safeframe.guard.safety_guard import SafetyGuard
from safeframe.service.ledger import BudgetLedger, Per
from safeframe.tensors import is_tensor, like, to_numpy
from safeframe.types import BoolArray, IntArray


@dataclass(frozen=True)
class BudgetedActions:
    """What a guard with a budget did with a batch of n measurements.

    Attributes:
        action: (n, ...) actions, the default action where rejected or withheld.
        accepted: (n,) bool.
        ids: (n,) of the decisions, for :meth:`LongRunBudget.learn`.
        level: the r_t at which the guard decided; 0 where no certified threshold is that strict.
        withheld: (n,) bool, accepted by the guard and not by the budget.
        guarded: what the guard itself decided.
    """

    action: Any
    accepted: Any
    ids: IntArray
    level: float
    withheld: BoolArray
    guarded: GuardedActions

    def explain(self, i: int) -> str:
        """Why an action was taken.

        Args:
            i: its position in the batch.

        Returns:
            One sentence.
        """
        if not self.withheld[i]:
            return self.guarded.explain(i)
        return (
            "default action: the guard would accept this, but the violations known and the decisions that "
            "still wait for a label leave no room in the budget"
        )


class LongRunBudget:
    """A guard with a long-run promise; see :mod:`safeframe.service.ledger` for the rule and its proof.

    Args:
        guard: a calibrated guard. With certificates it serves its certified thresholds only, of which the
            largest within the level is used.
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
        level = self.level
        served = self._served(level)
        strict = served if served > 0.0 else min(self.guard.calibrations, default=level)
        guarded = self.guard.act(measurement, r_t=strict, group=group)
        wanted = to_numpy(guarded.accepted).astype(bool)
        within = to_numpy(guarded.bound) <= self.ledger.r_t
        if served > 0.0:
            ids, taken = self.ledger.take(wanted, within & ~wanted)
        else:
            ids, taken = self.ledger.take(np.zeros_like(wanted), within)
        withheld = wanted & ~taken
        kind = guarded.action if is_tensor(guarded.action) else None
        action = to_numpy(guarded.action)
        if withheld.any():
            action = action.copy()
            action[withheld] = self.guard.default_action
        return BudgetedActions(like(action, kind), like(taken, kind), ids, served, withheld, guarded)

    def _served(self, level: float) -> float:
        if self.guard.settings.delta is None:
            return level
        return max((r_t for r_t in self.guard.calibrations if r_t <= level), default=0.0)

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
