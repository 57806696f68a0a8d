"""Entries traced back to the decision that made them inevitable."""

import numpy as np
import pytest
from safetygym_small import CAR, POINT, untrained

from experiments.safetygym.evaluation import entries
from experiments.safetygym.evaluation.entries import EntryLog
from experiments.safetygym.evaluation.episodes import run_episodes
from experiments.safetygym.guard.classifier import LogitClassifier
from experiments.safetygym.guard.guarding import Guard, GuardedPolicy
from experiments.safetygym.sim.task import get_task
from experiments.safetygym.states import backup


class Permissive(LogitClassifier):
    """Accepts every candidate in nine of ten states, by a digit of the observation, else none."""

    def margin(self, observation: np.ndarray) -> np.ndarray:
        out = np.full((len(observation), self.n_candidates), -1.0, np.float32)
        out += np.arange(self.n_candidates, dtype=np.float32) / 100
        out[np.abs(observation[:, 0] * 1e3).astype(int) % 10 == 0] = 1.0
        return out


class Keeping(EntryLog):
    """Keeps all states and actions, for a second look."""

    def __init__(self, policy):
        super().__init__(policy)
        self.every: list[tuple] = []
        self.ends: list[tuple[int, int]] = []

    def decided(self, state, observation, action):
        super().decided(state, observation, action)
        self.every.append(self.past[-1])

    def entered(self, rows, step, first_episode):
        self.ends += [(int(row), step) for row in rows]
        super().entered(rows, step, first_episode)


@pytest.fixture(scope="module", params=[POINT, CAR])
def logged(request):
    task = get_task(request.param)
    agent = untrained(request.param)
    classifier = Permissive(task, len(agent.candidates), (4,))
    log = Keeping(GuardedPolicy(agent, Guard(classifier, 0.0), 0, task))
    table = run_episodes(log.policy, 24_000, seed=3, vase="fixed", log=log)
    return log, table


def test_every_entry_has_a_row(logged):
    log, table = logged
    assert table["entries"].sum() == len(log.ends) == len(log.table) > 3
    np.testing.assert_array_equal(
        np.bincount(log.table["episode"], minlength=len(table)), table["entries"].to_numpy()
    )


def test_the_decision_is_the_last_one_before_which_all_was_safe(logged):
    """Looked up anew: unsafe from the decision to the entry, safe just before it."""
    log, _ = logged
    task = log.classifier.task
    for row, (environment, end) in zip(log.table.itertuples(), log.ends, strict=True):
        assert row.step + row.age == end
        clearance = []
        for step in range(max(row.step - 1, 0), end + 1):
            state, _, action, _ = log.every[step]
            one = state.select(np.array([environment]))
            clearance.append(float(backup.clearances(task, one, action[[environment]])[0, 0]))
        if row.step > 0:
            before, clearance = clearance[0], clearance[1:]
            assert before > 0 or row.age == entries.WINDOW - 1
        if row.clearance <= 0:
            assert max(clearance) <= 0
        assert row.clearance == pytest.approx(clearance[0])
        state, _, _, candidate = log.every[row.step]
        assert row.candidate == candidate[environment]
        one = state.select(np.array([environment]))
        assert row.possible == pytest.approx(
            backup.clearances(task, one, log.policy.agent.candidates).max(), abs=1e-7
        )
        expected = np.nan if row.candidate < 0 else -1.0 + row.candidate / 100
        np.testing.assert_allclose(row.margin, expected, rtol=1e-6)
    assert (log.table["candidate"] >= 0).any()


def test_no_more_than_the_most_are_traced(logged, monkeypatch):
    log, table = logged
    monkeypatch.setattr(entries, "MOST", 2)
    again = EntryLog(GuardedPolicy(log.policy.agent, log.policy.guard, 0, log.classifier.task))
    counted = run_episodes(again.policy, 24_000, seed=3, vase="fixed", log=again)
    assert counted["entries"].sum() == table["entries"].sum()
    assert len(again.table) == 2
