"""A budget of violations: which decisions may be accepted so that a long-run promise holds on any sequence.

Nothing is assumed about the cases: they may depend on all that was done and shown before, the level in force
included. The promise is kept by counting, not by a model (in the way of online risk control: Gibbs & Candes,
arXiv 2106.00170; Feldman, Ringel, Bates & Romano, arXiv 2205.09095).

Accepted so far: V of which the label says unsafe, S of which it says safe, O that wait for a label. N = V + S
+ O, and V* >= V is what V would be with all labels. Let b = V - r_t (V + S) be what is overspent, R the
decisions that r_t would accept and that were rejected while b alone left no room, and

    c_0 = reserve + log2(1 + R / recover_after).

A decision is accepted only if afterwards  b + (1 - r_t) max(0, O - late) <= c_0.

Proposition. At every time, on every sequence,  V* <= r_t N + c  with  c = c_0 + (1 - r_t) late.

Proof. V* and N count what was accepted, with labels that are fixed though not yet known: they change at
acceptances only, and c never falls. So it is enough to look at the last acceptance. Just after it V* <= V +
O, so V* - r_t N <= b + (1 - r_t) O <= b + (1 - r_t) max(0, O - late) + (1 - r_t) late <= c_0 + (1 - r_t)
late. Before the first acceptance V* = 0. QED.

With ``per="decision"`` rejected decisions count as safe ones and pay back too: T decisions in all, b = V -
r_t T, a decision that waits weighs 1, and V* <= r_t T + c_0 + late, by the same proof, since T only grows.
This is the rolling risk of arXiv 2205.09095.

Why c may have to grow. A constant c, accepted cases and any sequence: if each next case may be unsafe, then
once b > c - (1 - r_t) nothing may ever be accepted again, since nothing that is rejected lowers b. Whoever
wants that sets ``recover_after=None``. Otherwise one violation more is allowed after ``recover_after`` such
rejections, the next after twice as many, and so on: c grows like the logarithm of their number.

Good service is remembered: N safe cases leave room for r_t N violations later. That is what a long-run share
means; whoever wants to hear of a change at once has a monitor beside the budget.

The level is a choice of its own, on which the promise does not rest: r_t as long as b <= 0, and lowered by
what was overspent to  r_t strictest^(b / c_0),  so that the strictest cases pay back what laxer ones cost.
It is doubled, up to r_t, whenever 1 / r_t decisions more that r_t would accept were rejected for it since the
last violation, while there was room: a guard that accepts nothing at the lower level does not stay there.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np

from safeframe.service.monitoring.bets import open_unit
from safeframe.service.monitoring.entries import checked_labels, restoring
from safeframe.tensors import to_numpy
from safeframe.types import BoolArray, IntArray, SafeframeError, number

Per = Literal["accepted", "decision"]
_FORMAT = 1
_ROUNDING = 1e-9


class BudgetLedger:
    """Counts accepted decisions and their labels, and says how many more the promise allows.

    Args:
        r_t: the share of violations that is promised in the long run, in (0, 1).
        reserve: violations beyond it that may be spent at once, at least 1. With less than a few times r_t x
            late the budget stops where lowering the level in time would have been enough.
        per: "accepted": per accepted decision; "decision": per decision, rejected ones counted as safe.
        late: accepted decisions that may wait for their labels without being counted as unsafe; it enters the
            constant. 0: all that wait count as unsafe.
        recover_after: rejections for want of budget after which one violation more is allowed, then twice as
            many, and so on; "auto": 1 / r_t; None: never.
        strictest: the level at which all of the reserve is spent, as a share of r_t, in (0, 1).

    Raises:
        SafeframeError: on a setting outside its range.
    """

    def __init__(
        self,
        r_t: float,
        reserve: float = 10.0,
        per: Per = "accepted",
        late: int = 0,
        recover_after: int | Literal["auto"] | None = "auto",
        strictest: float = 0.01,
    ) -> None:
        self.r_t, self.strictest = open_unit(r_t, "r_t"), open_unit(strictest, "strictest")
        if not (math.isfinite(number(reserve, "reserve")) and reserve >= 1.0):
            raise SafeframeError(f"reserve is {reserve}; below 1 nothing could ever be accepted")
        if not isinstance(per, str) or per not in ("accepted", "decision"):
            raise SafeframeError(f"per is {per!r}; it must be one of accepted, decision")
        if not math.isfinite(number(late, "late")) or late % 1 or late < 0:
            raise SafeframeError(f"late is {late}; it must be a number of decisions, at least 0")
        if isinstance(recover_after, str) and recover_after == "auto":
            recover_after = math.ceil(1.0 / self.r_t)
        elif recover_after is not None and (
            not math.isfinite(number(recover_after, "recover_after"))
            or recover_after % 1
            or recover_after < 1
        ):
            raise SafeframeError(
                f'recover_after is {recover_after!r}; it must be a number of decisions, "auto" or None'
            )
        self.reserve, self.per, self.late = float(reserve), per, int(late)
        self.recover_after = recover_after
        self.decisions = self.unsafe = self.safe = self.withheld = self.barred = self.ignored = 0
        self.waiting: set[int] = set()

    @property
    def accepted(self) -> int:
        """Decisions accepted so far."""
        return self.unsafe + self.safe + len(self.waiting)

    @property
    def debt(self) -> float:
        """Known violations beyond the promised share; negative where there are fewer."""
        paying = self.decisions if self.per == "decision" else self.unsafe + self.safe
        return self.unsafe - self.r_t * paying

    @property
    def _limit(self) -> float:
        """c_0."""
        grown = 0.0 if self.recover_after is None else math.log2(1.0 + self.withheld / self.recover_after)
        return self.reserve + grown

    @property
    def _weight(self) -> float:
        return 1.0 if self.per == "decision" else 1.0 - self.r_t

    @property
    def constant(self) -> float:
        """c: violations are at most r_t x accepted (or decisions) + c, whatever the labels will be."""
        return self._limit + self._weight * self.late

    @property
    def promised(self) -> float:
        """The share of violations, among accepted or all decisions, that is not exceeded; 1 before any."""
        n = self.decisions if self.per == "decision" else self.accepted
        return min(1.0, self.r_t + self.constant / n) if n else 1.0

    @property
    def _capacity(self) -> int:
        """How many decisions may wait for labels at once."""
        left = self._limit - self.debt
        return 0 if left < 0.0 else self.late + math.floor(left / self._weight + _ROUNDING)

    @property
    def room(self) -> int:
        """How many decisions may be accepted before another label comes."""
        return max(0, self._capacity - len(self.waiting))

    @property
    def exhausted(self) -> bool:
        """Whether known violations alone leave no room for one more."""
        return self._capacity == 0

    @property
    def level(self) -> float:
        """The r_t at which the guard should decide now, in (0, r_t]."""
        spent = min(max(self.debt / self._limit, 0.0), 1.0)
        doublings = min(self.barred // math.ceil(1.0 / self.r_t), 1000)
        return min(self.r_t, self.r_t * self.strictest**spent * 2.0**doublings)

    def take(self, wanted: BoolArray, barred: BoolArray | None = None) -> tuple[IntArray, BoolArray]:
        """Enter decisions; of those that are wanted the first are accepted, as many as there is room for.

        Args:
            wanted: (n,) bool, in their order.
            barred: (n,) bool, decisions that r_t would accept and the level in force does not; None: none.

        Returns:
            (n,) their ids, which number all decisions from 0 on; (n,) bool, which are accepted.
        """
        wanted = np.asarray(wanted, dtype=bool)
        ids = self.decisions + np.arange(len(wanted))
        taken = wanted & (np.cumsum(wanted) <= self.room)
        lost = np.zeros(len(wanted), bool) if barred is None else np.asarray(barred, dtype=bool) & ~wanted
        if self.exhausted:
            self.withheld += int(np.count_nonzero(wanted & ~taken | lost))
        else:
            self.barred += int(np.count_nonzero(lost))
        self.decisions += len(wanted)
        self.waiting.update(ids[taken].tolist())
        return ids, taken

    def learn(self, ids: Any, label: Any) -> int:
        """Enter labels, as they come and in any order.

        Args:
            ids: (n,) of decisions, or one.
            label: (n,) 0 safe or 1 unsafe, or one.

        Returns:
            How many were waited for. Those of rejected decisions, and second labels of a decision, change
                nothing and are counted in ``ignored``; see :meth:`revise`.

        Raises:
            SafeframeError: on ids that were never given, an id twice, or labels that are missing or neither 0
                nor 1; nothing is entered then.
        """
        labels = checked_labels(label)
        keys = np.atleast_1d(to_numpy(ids))
        if keys.shape != labels.shape or (keys.size and keys.dtype.kind not in "iu"):
            raise SafeframeError(
                f"ids have shape {keys.shape} and type {keys.dtype}; expected {labels.shape} integers, as "
                "act() gave them"
            )
        strange = np.flatnonzero((keys < 0) | (keys >= self.decisions))
        if strange.size:
            raise SafeframeError(
                f"id {int(keys[strange[0]])} is of no decision: they run from 0 to {self.decisions - 1}"
            )
        if len(np.unique(keys)) < len(keys):
            raise SafeframeError("an id occurs twice among these labels; give one label for a decision")
        pairs = zip(keys.tolist(), labels.tolist(), strict=True)
        known = [(key, one) for key, one in pairs if key in self.waiting]
        self.waiting.difference_update(key for key, _ in known)
        bad = sum(one for _, one in known)
        self.unsafe += bad
        self.safe += len(known) - bad
        self.barred = 0 if bad else self.barred
        self.ignored += len(keys) - len(known)
        return len(known)

    def revise(self, more_unsafe: int) -> None:
        """Correct labels of accepted decisions that were entered wrongly.

        Args:
            more_unsafe: by how many unsafe ones there are more, safe ones fewer; negative the other way. What
                was accepted in reliance on the wrong labels stays accepted, so that the constant may be
                exceeded by as many.

        Raises:
            SafeframeError: where there are not so many.
        """
        if self.unsafe + more_unsafe < 0 or self.safe - more_unsafe < 0:
            raise SafeframeError(
                f"{more_unsafe} labels cannot be corrected: {self.safe} safe and {self.unsafe} unsafe ones "
                "were entered"
            )
        self.unsafe, self.safe = self.unsafe + more_unsafe, self.safe - more_unsafe

    def state(self) -> dict[str, Any]:
        """All that has to be kept to go on equally.

        Returns:
            Settings, counts and the ids that wait, fit for JSON.
        """
        names = ("r_t", "reserve", "per", "late", "recover_after", "strictest", *_COUNTS)
        kept = {name: getattr(self, name) for name in names}
        return {"kind": "BudgetLedger", "format": _FORMAT, **kept, "waiting": sorted(self.waiting)}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> BudgetLedger:
        """A ledger that goes on from a state.

        Args:
            state: of :meth:`state`.

        Returns:
            The ledger.

        Raises:
            SafeframeError: on what is no state of a ledger, or of another format.
        """
        with restoring(state, "BudgetLedger", _FORMAT, "ledger"):
            settings = ("r_t", "reserve", "per", "late", "recover_after", "strictest")
            ledger = cls(**{name: state[name] for name in settings})
            for name in _COUNTS:
                setattr(ledger, name, int(state[name]))
            ledger.waiting = set(state["waiting"])
        return ledger


_COUNTS = ("decisions", "unsafe", "safe", "withheld", "barred", "ignored")
