"""Labels of collected cases against what was recorded while they were collected."""

import numpy as np
import pytest
from safetygym_small import POINT, Braking, Driver, near_hazards, untrained

from experiments.safetygym.agents.grid import default_candidates
from experiments.safetygym.guard.guarding import GuardedPolicy
from experiments.safetygym.sim.task import get_task
from experiments.safetygym.sim.vector import SafetyGymVector
from experiments.safetygym.states import backup, collection
from experiments.safetygym.states.collection import collect
from experiments.safetygym.states.internal_data import InternalData

CANDIDATES = default_candidates(POINT)
ENVS = 6


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(collection, "NUM_ENVS", ENVS)
    monkeypatch.setattr(collection, "BURN_IN", 30)


class Recorded(SafetyGymVector):
    """Remembers what it was given and gave back."""

    made: list["Recorded"]

    def reset(self, **options):
        observation, info = super().reset(**options)
        self.observations, self.actions, self.costs, self.states = [observation], [], [], [self.get_state()]
        self.made.append(self)
        return observation, info

    def step(self, actions):
        observation, reward, terminated, truncated, info = super().step(actions)
        self.observations.append(observation)
        self.actions.append(np.array(actions))
        self.costs.append(info["cost"])
        self.states.append(self.get_state())
        return observation, reward, terminated, truncated, info


@pytest.fixture
def recorded(small, monkeypatch) -> list[Recorded]:
    made: list[Recorded] = []
    monkeypatch.setattr(Recorded, "made", made, raising=False)
    monkeypatch.setattr(collection, "SafetyGymVector", Recorded)
    return made


def found(env: Recorded, row: np.ndarray) -> tuple[int, int]:
    """The step and the environment in which an observation was made."""
    (where,) = np.argwhere((np.stack(env.observations) == row).all(axis=2))
    return int(where[0]), int(where[1])


def test_logged_labels_are_what_happened_within_the_window(tmp_path, recorded):
    data, window = InternalData(tmp_path, {}), 60
    collect(data, Driver(POINT), 200, "logged", seed=1, vase="fixed", every=25, window=window)
    whole, (env, *_) = data.load(), recorded
    assert len(whole.observation) == 200 == data.n_t
    costs, steps = np.stack(env.costs), set()
    for row in range(200):
        step, i = found(env, whole.observation[row])
        steps.add(step)
        (candidate,) = np.flatnonzero(whole.unsafe[row] >= 0)
        np.testing.assert_array_equal(CANDIDATES[candidate], env.actions[step][i])
        assert whole.unsafe[row, candidate] == costs[step : step + window, i].any()
    assert max(steps) + window <= 1000  # no window is cut
    assert set(np.diff(sorted(steps))) == {25}
    assert 0.02 < (whole.unsafe == 1).sum() / 200 < 0.9


def test_a_continuous_action_counts_for_the_nearest_candidate(tmp_path, recorded):
    class Between(Driver):
        def __call__(self, observation):
            return super().__call__(observation) + np.array([0.02, -0.2])  # levels are .05 and .5 apart

    data = InternalData(tmp_path, {})
    collect(data, Between(POINT), 50, "logged", seed=1, vase="fixed", every=100)
    whole = data.load()
    for row in range(50):
        step, i = found(recorded[0], whole.observation[row])
        gap = np.abs(recorded[0].actions[step][i] - CANDIDATES) - [0.0201, 0.2001]
        (candidate,) = np.flatnonzero(whole.unsafe[row] >= 0)
        assert (gap[candidate] < 0).all()


def test_backup_labels_belong_to_the_states_that_were_seen(tmp_path, recorded):
    data = InternalData(tmp_path, {})
    collect(data, Driver(POINT), 600, "backup", seed=2, vase="fixed", every=10, with_paths=True)
    whole, (env,) = data.load(), recorded
    assert len(whole.observation) == 40
    np.testing.assert_array_equal(whole.unsafe, whole.clearance <= 0)
    first = None
    for row in range(40):
        step, i = found(env, whole.observation[row])
        first = step if first is None else first
        assert step >= 30  # after the burn-in
        assert (step - first) % 10 == 0
        state = env.states[step].select(np.array([i]))
        expected = backup.clearances(get_task(POINT), state, CANDIDATES)[0]
        np.testing.assert_array_equal(whole.clearance[row], expected)
        np.testing.assert_array_equal(whole.path[row], backup.paths(get_task(POINT), state, CANDIDATES)[0])


@pytest.mark.parametrize("any_age", [True, False])
def test_states_of_any_age_are_as_old_as_those_of_episodes(tmp_path, recorded, any_age):
    data = InternalData(tmp_path, {})
    collect(data, Driver(POINT, 0.1, 3), 15 * 4 * ENVS, "backup", seed=3, every=10, any_age=any_age)
    (env,) = recorded
    places = [found(env, row) for row in np.asarray(data.load().observation)]
    ages = []
    for step, row in places:
        layouts = [env.states[t].hazards[row] for t in range(step + 1)]
        ages.append(sum((layout == layouts[-1]).all() for layout in layouts) - 1)
    assert len(places) == 4 * ENVS
    assert (min(step for step, _ in places) >= 1000) == any_age
    assert (max(ages) > 700) == any_age
    if any_age:
        assert min(ages) < 300


def test_branched_labels_of_a_braking_agent_are_backup_labels():
    """Within a window as long as braking takes; the last millimetres are left to the trembling."""
    n = 500
    env = SafetyGymVector(POINT, n, seed=0, vase="fixed")
    state = near_hazards(n, 5)
    env.set_state(state)
    labels = collection._branch(env, Braking(POINT, seed=1), 250)
    assert ((labels >= 0).sum(axis=1) == 1).all()
    row, candidate = np.nonzero(labels >= 0)
    assert len(np.unique(candidate)) == len(CANDIDATES)
    clearance = backup.clearances(get_task(POINT), state, CANDIDATES)[row, candidate]
    clear = np.abs(clearance) > 0.004
    assert clear.mean() > 0.9
    np.testing.assert_array_equal(labels[row, candidate][clear], (clearance <= 0)[clear])
    assert 0.1 < labels[row, candidate].mean() < 0.9
    np.testing.assert_array_equal(env.get_state().robot, state.robot)  # the environment itself stood still


def test_a_branch_that_outlives_its_episode_is_judged_by_that_episode():
    """Whoever stands in a hazard two steps before the end costs; the next episode does not count."""
    n = 200
    env = SafetyGymVector(POINT, n, seed=0, vase="fixed")
    state = near_hazards(n, 6)
    state.step[:] = 998
    env.set_state(state)
    labels = collection._branch(env, Driver(POINT, seed=1), 200).max(axis=1)
    inside = np.linalg.norm(state.hazards - state.robot[:, None, :2], axis=2).min(axis=1)
    assert (labels[inside > 0.3] == 0).all()  # too far for two steps
    assert (labels[inside < 0.165] == 1).all()
    assert (inside > 0.3).any()
    assert (inside < 0.165).any()


def test_branched_cases_are_counted_one_a_state(tmp_path, small):
    data = InternalData(tmp_path, {})
    collect(data, Driver(POINT), 25, "branched", seed=3, vase="fixed", every=10, window=20)
    assert data.n_t == 25 == len(data.load().observation)


def test_the_same_seed_collects_the_same_and_another_one_something_else(tmp_path, small):
    rows = []
    for name, seed in (("a", 4), ("b", 4), ("c", 5)):
        data = InternalData(tmp_path / name, {})
        policy = GuardedPolicy(untrained(), None, 0, get_task(POINT))
        collect(data, policy, 300, "backup", seed=seed, every=10)
        rows.append(data.load())
    np.testing.assert_array_equal(rows[0].observation, rows[1].observation)
    np.testing.assert_array_equal(rows[0].clearance, rows[1].clearance)
    assert not np.array_equal(rows[0].observation, rows[2].observation)
