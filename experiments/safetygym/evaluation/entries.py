"""The states of every entry into a hazard: which decision made it inevitable, and its predicted margin.

Where vases cost, every cost that begins counts as an entry. An entry is traced back through the labels: the
last decision before which the action taken was still truly safe. It is either an accepted candidate that was
unsafe, an error of classification, or a default action."""

from __future__ import annotations

from collections import deque
from pathlib import Path

import numpy as np
import pandas as pd

from experiments.safetygym.guard.guarding import GuardedPolicy
from experiments.safetygym.records import ENTRIES
from experiments.safetygym.sim.clearance import costly, nearest_of
from experiments.safetygym.sim.state import State
from experiments.safetygym.states import backup
from experiments.support.files import atomic_path

WINDOW = 60
"""Steps that are traced back."""
MOST = 200
"""Entries that are recorded in one evaluation; the counts in its episodes are complete."""
COLUMNS = ("episode", "step", "age", "candidate", "margin", "clearance", "possible", "speed", "gap")


class EntryLog:
    """Keeps the last WINDOW decisions of a guarded policy's environments; `table` has a row for each entry.

    Columns: episode, step of the decision, age (steps from there to the entry), candidate (-1: default
    action), margin of the chosen candidate (NaN for the default action), clearance (m, true, of the action
    taken; positive where the labels do not explain the entry), possible (m, the largest clearance of any
    candidate there), speed (m/s), gap (m from the nearest hazard's edge
    or, where vases cost, that of the disc to be kept from one)."""

    def __init__(self, policy: GuardedPolicy):
        assert policy.guard is not None
        self.policy, self.classifier = policy, policy.guard.classifier
        self.rows: list[tuple] = []
        self.past: deque[tuple[State, np.ndarray, np.ndarray, np.ndarray]] = deque(maxlen=WINDOW)

    def reset(self) -> None:
        """New episodes begin in all environments."""
        self.past.clear()

    def decided(self, state: State, observation: np.ndarray, action: np.ndarray) -> None:
        """The policy has just chosen `action` (n, 2) in `state` on `observation` (n, d)."""
        self.past.append((state, observation, action, self.policy.candidate))

    def entered(self, rows: np.ndarray, step: int, first_episode: int) -> None:
        """Environments `rows` have entered a hazard at the end of the last decision's step."""
        for row in rows[: max(MOST - len(self.rows), 0)]:
            self.rows.append(self._trace(int(row), step, first_episode))

    def _trace(self, row: int, step: int, first_episode: int) -> tuple:
        age = 0
        while age < len(self.past) and self._clearance(row, age) <= 0:
            age += 1
        age = max(age - 1, 0)
        state, observation, _, candidate = self.past[-1 - age]
        chosen, one = int(candidate[row]), state.select(np.array([row]))
        seen, task = observation[[row], : self.policy.size], self.classifier.task
        margin = float(self.classifier.margin(seen)[0, chosen]) if chosen >= 0 else np.nan
        start = task.block("velocimeter").start
        possible = backup.clearances(task, one, self.policy.agent.candidates).max()
        gap = nearest_of(*one.robot[0, :2], one.hazards[0], costly(task.level, one.vases)[0])
        speed = float(np.hypot(seen[0, start], seen[0, start + 1]))
        return (
            first_episode + row, step - age, age, chosen, margin, self._clearance(row, age), float(possible),
            speed, float(gap),
        )  # fmt: skip

    def _clearance(self, row: int, age: int) -> float:
        """True clearance (m) of what environment `row` did `age` decisions ago."""
        state, _, action, _ = self.past[-1 - age]
        taken = np.clip(action[[row]].astype(np.float64), -1.0, 1.0)
        return float(backup.clearances(self.classifier.task, state.select(np.array([row])), taken)[0, 0])

    @property
    def table(self) -> pd.DataFrame:
        """One row for each recorded entry."""
        return pd.DataFrame(self.rows, columns=list(COLUMNS))


def write(table: pd.DataFrame, directory: Path, name: str = ENTRIES) -> None:
    """A table as csv in a run's directory."""
    with atomic_path(directory / f"{name}.csv") as path:
        table.to_csv(path, index=False)
