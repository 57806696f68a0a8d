"""Counting of episodes, intervals, and the score."""

import numpy as np
import pandas as pd
import pytest
from safetygym_small import POINT, Driver, untrained
from scipy import stats

from experiments.safetygym.evaluation import episodes
from experiments.safetygym.evaluation.episodes import interval_of_mean, rare, run_episodes, score, summarise
from experiments.safetygym.guard.classifier import LogitClassifier
from experiments.safetygym.guard.guarding import Guard, GuardedPolicy
from experiments.safetygym.sim.task import get_task
from experiments.safetygym.sim.vector import SafetyGymVector
from experiments.safetygym.states import backup

AHEAD = 12
"""Index of full thrust without turning among the Point's candidates."""


class Watched(SafetyGymVector):
    """Keeps rewards, costs and observations of all its steps."""

    made: list["Watched"]

    def reset(self, **options):
        self.made.append(self)
        self.record = getattr(self, "record", [])
        return super().reset(**options)

    def step(self, actions):
        state = self.get_state()
        result = super().step(actions)
        self.record.append((result[1], result[4]["cost"], result[3], state))
        return result


@pytest.fixture
def watched(monkeypatch) -> list[Watched]:
    made: list[Watched] = []
    monkeypatch.setattr(Watched, "made", made, raising=False)
    monkeypatch.setattr(episodes, "SafetyGymVector", Watched)
    return made


class Straight(LogitClassifier):
    """Accepts full thrust straight ahead alone, where the observation's first number allows."""

    def __init__(self):
        super().__init__(get_task(POINT), 15, (4,))

    def margin(self, observation: np.ndarray) -> np.ndarray:
        out = np.ones((len(observation), 15), np.float32)
        out[:, AHEAD] = -1.0
        out[observation[:, get_task(POINT).block("goal_lidar")].argmax(axis=1) > 7] = 1.0
        return out


def test_counts_are_those_of_the_steps(watched):
    """Eight whole episodes, driven about at random."""
    table = run_episodes(Driver(POINT), 7500, seed=1, vase="fixed")
    (env,) = watched
    reward, cost, truncated = (np.stack([step[part] for step in env.record]) for part in range(3))
    assert reward.shape == (1000, 8)
    assert truncated[-1].all()
    assert not truncated[:-1].any()
    np.testing.assert_allclose(table["return"], reward.sum(axis=0), atol=1e-9)
    np.testing.assert_array_equal(table["cost"], cost.sum(axis=0))
    entries = (cost[0] > 0) + ((cost[1:] > 0) & (cost[:-1] == 0)).sum(axis=0)
    np.testing.assert_array_equal(table["entries"], entries)
    assert 0 < table["entries"].sum() < table["cost"].sum()
    assert (table[["defaults", "judged", "unsafe"]] == 0).all(axis=None)


def test_the_truth_about_accepted_actions_is_looked_up(watched):
    policy = GuardedPolicy(untrained(), Guard(Straight(), 0.0), 0, get_task(POINT))
    table = run_episodes(policy, 8000, seed=2, vase="fixed", judge_every=5)
    (env,) = watched
    ahead = policy.agent.candidates[[AHEAD]]
    judged, unsafe, taken = np.zeros(8), np.zeros(8), np.zeros(8)
    observer = SafetyGymVector(POINT, 8, vase="fixed")
    for step, (*_, state) in enumerate(env.record):
        accepted = (Straight().margin(observer.set_state(state)) < 0).any(axis=1)
        taken += accepted
        if step % 5 == 0:
            clearance = backup.clearances(get_task(POINT), state, ahead)[:, 0]
            judged += accepted
            unsafe += accepted & (clearance <= 0)
    np.testing.assert_array_equal(table["judged"], judged)
    np.testing.assert_array_equal(table["unsafe"], unsafe)
    np.testing.assert_array_equal(table["defaults"], 1000 - taken)
    assert 0 < unsafe.sum() < judged.sum() < 1600
    share = next(r for r in summarise(table, {}) if r["metric"] == "unsafe_accepted")
    assert share["value"] == pytest.approx(unsafe.sum() / judged.sum())


@pytest.mark.parametrize(
    ("steps", "num_envs", "number"), [(1000, 2, 1), (2500, 2, 4), (4000, 2, 4), (1, 2, 1)]
)
def test_episodes_are_whole_and_no_fewer_than_asked_for(steps, num_envs, number):
    table = run_episodes(Driver(POINT), steps, seed=0, vase="fixed", num_envs=num_envs)
    assert len(table) == number
    assert len(table) * 1000 >= steps


def test_no_cost_counts_as_half_a_step():
    """Half a step in a million is .0005 in a thousand."""
    assert score(20.0, 0.0, 10**6) == pytest.approx(20 - 10 * np.log10(0.0005))
    assert score(20.0, 0.0, 10**6) == score(20.0, 0.0005, 10**6)
    assert score(20.0, 0.0, 10**7) == pytest.approx(score(20.0, 0.0, 10**6) + 10)
    assert score(20.0, 50.0, 10**6) == pytest.approx(20 - 10 * np.log10(50))
    assert score(20.0, 0.001, 10**6) > score(20.0, 0.002, 10**6)


def table(n: int, share: float, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    some = rng.random(n) < share
    entries = np.where(some, rng.integers(1, 4, n), 0)
    columns = {"return": rng.normal(20, 3, n), "cost": entries * 7, "entries": entries}
    columns |= {"defaults": rng.integers(0, 5, n), "judged": 90, "unsafe": np.where(some, 1, 0)}
    return pd.DataFrame(columns)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 1.0])
@pytest.mark.parametrize("n", [1, 2, 50, 1000])
def test_every_interval_holds_its_value(n, share):
    rows = {row["metric"]: row for row in summarise(table(n, share), {"method": "x"})}
    for row in rows.values():
        assert row["method"] == "x"
        assert np.isfinite(row["value"])
        if "low" in row:
            assert row["low"] <= row["value"] <= row["high"], row
    assert {"return", "cost", "entries", "episode_violation", "unsafe_accepted"} <= {
        m for m, r in rows.items() if "low" in r
    }
    if share == 0:  # an event that was never seen may still happen
        assert rows["entries"]["low"] == 0
        assert rows["entries"]["high"] == pytest.approx(1 - 0.025 ** (1 / n))
        assert rows["score"]["value"] > rows["return"]["value"] - 10
    assert rows["entries_total"]["value"] == table(n, share)["entries"].sum()
    assert rows["entries_total"]["n"] == 1000 * n
    assert rows["episode_violation"]["value"] == (table(n, share)["entries"] > 0).mean()


def test_intervals_of_rare_counts_are_exact_for_single_events():
    values = np.zeros(200)
    values[:3] = 1
    low, high = rare(values)
    exact = stats.binomtest(3, 200).proportion_ci(0.95, "exact")
    assert (low, high) == pytest.approx((exact.low, exact.high), rel=1e-6)
    assert rare(2 * values) == pytest.approx((2 * low, 2 * high))


def test_intervals_of_means_cover_as_often_as_they_say():
    rng = np.random.default_rng(1)
    ends = np.array([interval_of_mean(rng.normal(5, 2, 12)) for _ in range(2000)])
    covered = ((ends[:, 0] <= 5) & (ends[:, 1] >= 5)).mean()
    assert covered == pytest.approx(0.95, abs=0.025)
    assert interval_of_mean(np.array([3.0])) == (3.0, 3.0)


def test_a_policy_of_a_wrapped_agent_is_given_the_environment_that_it_knows():
    """`wrap` is asked: an agent that sees more than the task (a budget) gets it."""
    calls = []
    policy = Driver(POINT)
    policy.agent.wrap = lambda env: calls.append(env) or env
    run_episodes(policy, 1, seed=0, vase="fixed")
    assert [type(env) for env in calls] == [SafetyGymVector]
