"""What was done with a batch: what the guard decided, less what a budget withheld; as a log records it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from safeframe.guard.report import GuardedActions
from safeframe.optimisation.candidates import DEFAULT
from safeframe.tensors import to_numpy
from safeframe.types import BoolArray, IntArray, Status

WITHHELD = (
    "default action: the guard would accept this, but the violations known and the decisions that still wait "
    "for a label leave no room in the budget"
)


@dataclass(frozen=True, eq=False)
class Outcome:
    """What was done with n measurements.

    Attributes:
        action: (n, ...) actions, the default action where rejected or withheld.
        accepted: (n,) bool.
        index: (n,) chosen candidates, -1 where the default action is taken.
        status: (n,) as :attr:`safeframe.guard.report.GuardedActions.status`, or "withheld".
        reason: (n) why a row was in error or withheld, else empty.
    """

    action: np.ndarray
    accepted: BoolArray
    index: IntArray
    status: np.ndarray
    reason: list[str]


def outcome(
    guarded: GuardedActions,
    withheld: BoolArray | None = None,
    default_action: np.ndarray | float = 0.0,
) -> Outcome:
    """What is left of a guard's decisions where some are withheld.

    Args:
        guarded: what the guard decided.
        withheld: (n,) bool, which of the accepted ones are not carried out; None: none.
        default_action: broadcast to one action.

    Returns:
        What was done.
    """
    action, index = to_numpy(guarded.action), to_numpy(guarded.index)
    accepted, status = to_numpy(guarded.accepted).astype(bool), guarded.status
    n = len(status)
    reason = [""] * n if guarded.error is None else [str(one) for one in guarded.error]
    if withheld is not None and withheld.any():
        action, index = action.copy(), index.copy()
        action[withheld], index[withheld] = default_action, DEFAULT
        accepted = accepted & ~withheld
        status = np.where(withheld, Status.WITHHELD.value, status)
        reason = [WITHHELD if late else one for late, one in zip(withheld.tolist(), reason, strict=True)]
    return Outcome(action, accepted, index, status, reason)


@dataclass(frozen=True)
class BudgetedActions:
    """What a guard with a budget did with a batch of n measurements.

    Attributes:
        action: (n, ...) actions, the default action where rejected or withheld.
        accepted: (n,) bool.
        ids: (n,) of the decisions, for :meth:`safeframe.service.budget.LongRunBudget.learn`.
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
        return WITHHELD


@dataclass(frozen=True, eq=False)
class LoggedActions:
    """What was done with a batch of n measurements, as it was recorded.

    Attributes:
        guarded: what the guard decided, with what decided on it.
        ids: (n) texts, by which the log takes labels later.
        version: of the calibration that decided on the whole batch.
        audit: (n,) bool, drawn at random whatever the margin: these are to be labelled whether accepted or
            not.
        budgeted: what the budget left of the guard's decisions, with the ids by which it takes labels; None
            without one.
    """

    guarded: GuardedActions
    ids: list[str]
    version: int
    audit: BoolArray
    budgeted: BudgetedActions | None = None

    @property
    def action(self) -> Any:
        """(n, ...) actions, the default action where rejected or withheld."""
        return self.guarded.action if self.budgeted is None else self.budgeted.action

    @property
    def accepted(self) -> Any:
        """(n,) bool."""
        return self.guarded.accepted if self.budgeted is None else self.budgeted.accepted

    def explain(self, i: int) -> str:
        """Why an action was taken.

        Args:
            i: its position in the batch.

        Returns:
            One sentence.
        """
        return self.guarded.explain(i) if self.budgeted is None else self.budgeted.explain(i)
