"""Where vases cost: labels against long rollouts in the faithful simulator, vases read back, the score."""

import numpy as np
import pytest
from safetygym_small import Driver, untrained

from experiments.safetygym.agents.grid import default_candidates
from experiments.safetygym.guard import classifier as guard_classifier
from experiments.safetygym.guard.classifier import PathClassifier, new_classifier
from experiments.safetygym.guard.guarding import Guard, GuardedPolicy
from experiments.safetygym.guard.learning import warm_up
from experiments.safetygym.learning_settings import LearningSettings
from experiments.safetygym.perception.decoding import BETWEEN_VASES, FAR, MAX_HAZARDS, decode, decoded
from experiments.safetygym.sim.clearance import CLEARANCE_HIGH, VASE_KEEP
from experiments.safetygym.sim.point.dynamics import MASS
from experiments.safetygym.sim.state import State
from experiments.safetygym.sim.task import get_task
from experiments.safetygym.sim.vase_contact import overlaps
from experiments.safetygym.sim.vector import SafetyGymVector
from experiments.safetygym.states import backup, collection
from experiments.safetygym.states.backup import DefaultAction
from experiments.safetygym.states.internal_data import InternalData

TASK = "Safexp-PointGoal2-v0"


def states(n: int, seed: int) -> State:
    """Up to n layouts with the robot put near a hazard or a vase, at any speed that it reaches; it cannot
    touch a vase yet."""
    env = SafetyGymVector(TASK, n, seed=seed)
    env.reset()
    state, rng = env.get_state(), np.random.default_rng(seed)
    places = np.concatenate([state.hazards, state.vases[:, :, :2]], axis=1)
    chosen = places[np.arange(n), rng.integers(0, 20, n)]
    angle, distance = rng.uniform(-np.pi, np.pi, n), rng.uniform(0.22, 0.8, n)
    state.robot[:, :2] = chosen + distance[:, None] * np.column_stack([np.cos(angle), np.sin(angle)])
    state.robot[:, 2] = heading = rng.uniform(-np.pi, np.pi, n)
    forward, side = rng.uniform(-1.5, 1.5, n), rng.normal(0, 0.15, n)
    state.robot[:, 3] = np.cos(heading) * forward - np.sin(heading) * side
    state.robot[:, 4] = np.sin(heading) * forward + np.cos(heading) * side
    state.robot[:, 5] = rng.uniform(-5, 5, n)
    touching = (
        np.linalg.norm(state.vases[:, :, :2] - state.robot[:, None, :2], axis=2).min(axis=1) < VASE_KEEP
    )
    return state.select(np.flatnonzero(~touching))


def braking(robot: np.ndarray) -> np.ndarray:
    actions = np.zeros((len(robot), 2))
    forward = np.cos(robot[:, 2]) * robot[:, 3] + np.sin(robot[:, 2]) * robot[:, 4]
    actions[:, 0] = np.clip(-forward * MASS / (0.02 * 0.3), -0.05, 0.05)
    return actions


def check_labels(n: int, seed: int, steps: int = 250) -> None:
    """n states, a random candidate each: what is labelled safe never costs, with contacts and all."""
    state, candidates = states(n, seed), default_candidates(TASK)
    n = len(state)
    choice = np.random.default_rng(seed).integers(0, len(candidates), n)
    clearance = backup.clearances(get_task(TASK), state, candidates)[np.arange(n), choice]
    env = SafetyGymVector(TASK, n, seed=0)
    env.set_state(state)
    hazards, touched, actions = np.zeros(n, bool), np.zeros(n, bool), candidates[choice]
    for _ in range(steps):
        _, _, _, _, info = env.step(actions)
        hazards |= info["cost_hazards"] > 0
        touched |= info["cost_vases"] > 0
        actions = braking(env.state.robot)
    safe = clearance > 0
    assert 0.1 < safe.mean() < 0.95
    assert not (safe & (hazards | touched)).any()
    assert ((env.state.vases == state.vases).all(axis=(1, 2)) | ~safe).all()
    assert hazards.sum() > 0.05 * n  # and they are no idle promise
    assert touched.sum() > 0.02 * n
    unsafe_for_nothing = (~safe & ~hazards & ~touched).mean()
    assert unsafe_for_nothing < 0.2  # a disc about a vase is larger than the vase


def test_what_is_labelled_safe_never_costs():
    check_labels(1500, 0)


@pytest.mark.long
def test_what_is_labelled_safe_never_costs_in_very_many_states():
    for part in range(10):
        check_labels(13_000, part + 1)


def test_from_outside_its_disc_a_vase_cannot_be_touched():
    """Every heading of the robot against every turn of the vase, at the edge of the disc."""
    turns = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    for side in turns[:15]:
        ux, uy = np.cos(side), np.sin(side)
        for heading in turns:
            for place in turns:
                c, s = np.cos(heading), np.sin(heading)
                dx, dy = np.cos(place), np.sin(place)
                assert not overlaps(VASE_KEEP * dx, VASE_KEEP * dy, c, s, ux, uy)
    corner, reach = np.arctan2(0.05, 0.15), np.hypot(0.15, 0.05) + 0.1 * np.sqrt(2)
    c, s, side = np.cos(-corner), np.sin(-corner), np.cos(np.pi / 4)
    assert overlaps(-reach, 0.0, c, s, side, side)  # corner to corner, which is as far as they reach
    assert pytest.approx(0.302) == VASE_KEEP
    assert reach + 0.0015 < VASE_KEEP


def test_hazards_alone_count_where_vases_do_not_cost():
    task = get_task("Safexp-PointGoal1-v0")
    env = SafetyGymVector(task.name, 50, seed=0, vase="fixed")
    env.reset()
    state = env.get_state()
    before = backup.clearances(task, state, default_candidates(task.name))
    state.vases[:, 0, :2] = state.robot[:, :2]
    np.testing.assert_array_equal(backup.clearances(task, state, default_candidates(task.name)), before)


def test_a_vase_counts_as_a_disc():
    """At rest before a vase: the least distance to its disc along the way, which standing still keeps."""
    task = get_task(TASK)
    state = states(10, 0).select(np.arange(1))
    state.robot[:], state.hazards[:], state.vases[:, :, :2] = 0.0, 50.0, 60.0
    for distance in (VASE_KEEP - 0.02, VASE_KEEP + 0.05):
        state.vases[0, 5, :2] = 0.0, distance
        found = backup.clearances(task, state, np.zeros((1, 2)))[0, 0]
        assert found == pytest.approx(distance - VASE_KEEP, abs=2.1e-3)
    state.vases[0, 5, :2] = 0.0, 3.0
    assert backup.clearances(task, state, np.zeros((1, 2)))[0, 0] == np.float32(CLEARANCE_HIGH)


def test_vases_are_read_back_from_their_lidar():
    env = SafetyGymVector(TASK, 2000, seed=4)
    observation, _ = env.reset()
    state, task = env.get_state(), get_task(TASK)
    out = np.empty((2000, MAX_HAZARDS, 2, 2))
    decode(np.ascontiguousarray(observation[:, task.block("vases_lidar")]), 1.4, BETWEEN_VASES, out)
    offset = state.vases[:, :, :2] - state.robot[:, None, :2]
    c, s = np.cos(state.robot[:, 2])[:, None], np.sin(state.robot[:, 2])[:, None]
    body = np.stack([c * offset[..., 0] + s * offset[..., 1], c * offset[..., 1] - s * offset[..., 0]], -1)
    distance = np.linalg.norm(body, axis=2)
    missed, exact, near = 0, 0, 0
    for i in range(2000):
        seen = out[i][out[i, :, 0, 0] < FAR]
        for place in body[i][distance[i] < 1.0]:
            # between both ends of an arc of its own distance
            own = np.abs(np.linalg.norm(seen[:, 0], axis=1) - np.linalg.norm(place)) < 1e-5
            low, high = (np.arctan2(seen[own, e, 1], seen[own, e, 0]) for e in (0, 1))
            angle = np.arctan2(place[1], place[0])
            width = np.mod(high - low + 1e-6, 2 * np.pi)  # an end may be rounded behind the other
            inside = np.mod(angle - low + 1e-4, 2 * np.pi) <= width + 2e-4
            near += 1
            missed += not inside.any()
            exact += bool((inside & (width < 1e-3)).any())
    assert near > 2000
    assert missed / near < 0.02  # hidden by a nearer one in its bin
    assert exact / near > 0.3  # of the others both ends are kept, as of hazards


def test_vases_that_were_pushed_together_are_read_back_too():
    """Two that touch, at every distance and turn: one of the two is never placed where it is not."""
    rng, n, task = np.random.default_rng(0), 4000, get_task(TASK)
    env = SafetyGymVector(TASK, n, seed=0)
    env.reset()
    state = env.get_state()
    state.robot[:], state.vases[:, :, :2] = 0.0, 60.0
    first, between = rng.uniform(-np.pi, np.pi, n), rng.uniform(-np.pi, np.pi, n)
    far = rng.uniform(0.35, 0.9, n)
    state.vases[:, 0, :2] = far[:, None] * np.column_stack([np.cos(first), np.sin(first)])
    state.vases[:, 1, :2] = state.vases[:, 0, :2] + 0.2 * np.column_stack([np.cos(between), np.sin(between)])
    observation = env.set_state(state)
    out = np.empty((n, MAX_HAZARDS, 2, 2))
    decode(np.ascontiguousarray(observation[:, task.block("vases_lidar")]), 1.4, BETWEEN_VASES, out)
    nearer = np.linalg.norm(state.vases[:, :2, :2], axis=2).argmin(axis=1)
    place = state.vases[np.arange(n), nearer, :2]  # nothing hides it
    angle = np.arctan2(place[:, 1], place[:, 0])
    ends = np.arctan2(out[:, 0, :, 1], out[:, 0, :, 0])
    np.testing.assert_allclose(np.linalg.norm(out[:, 0, 0], axis=1), np.linalg.norm(place, axis=1), atol=1e-5)
    width = np.mod(ends[:, 1] - ends[:, 0] + 1e-5, 2 * np.pi)
    assert (np.mod(angle - ends[:, 0] + 1e-4, 2 * np.pi) <= width + 2e-4).all()


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """A path classifier after a short training on states of PointGoal2."""
    task = get_task(TASK)
    data = InternalData(tmp_path_factory.mktemp("data"), {"task": TASK})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(collection, "NUM_ENVS", 100)
        collection.collect(data, Driver(TASK), 15_000, "backup", seed=0, with_paths=True)
    shard, classifier = data.load(), PathClassifier(task, 15)
    extra = backup.random_paths(task, default_candidates(TASK), 4000, np.random.default_rng(0))
    warm_up(classifier, shard, LearningSettings(steps=700), 0, lambda *_: None, extra)
    return shard, classifier


def test_the_score_sees_vases_and_hazards(fitted, monkeypatch):
    shard, classifier = fitted
    assert 0.02 < (shard.unsafe == 1).mean() < 0.7
    predicted = -0.01 * classifier.margin(shard.observation)
    error = np.abs(predicted - shard.clearance)
    # what is hidden behind a nearer one in its bin is not seen
    assert np.median(error) < 3e-3
    assert np.quantile(error, 0.9) < 0.03
    monkeypatch.setattr(guard_classifier, "decoded", lambda *seen: list(decoded(*seen))[1:])  # vases alone
    blind = -0.01 * classifier.margin(shard.observation)
    assert (blind >= predicted - 1e-6).all()
    assert (blind > predicted + 0.05).mean() > 0.01


def test_a_guard_keeps_a_driver_from_costs(fitted):
    """Not calibrated, but far better than none; and a robot inside a vase's disc finds its way out."""
    _, classifier = fitted
    task, agent = get_task(TASK), untrained(TASK)
    costs = []
    for guard in (None, Guard(classifier, -3.0)):
        policy = GuardedPolicy(agent, guard, 0, task)
        env = SafetyGymVector(TASK, 100, seed=1)
        observation, _ = env.reset()
        total = 0.0
        for _ in range(300):
            observation, _, _, _, info = env.step(policy(observation))
            total += info["cost"].sum()
        costs.append(total)
    assert costs[0] > 20
    assert costs[1] < 0.2 * costs[0]


def test_the_default_action_leaves_a_vases_disc(fitted):
    _, classifier = fitted
    n, task = 200, get_task(TASK)
    state, rng = states(n, 9), np.random.default_rng(2)
    n = len(state)
    env = SafetyGymVector(TASK, n, seed=0)
    state.hazards[:], state.vases[:, :, :2] = 50.0, 60.0
    angle = rng.uniform(-np.pi, np.pi, n)
    state.vases[:, 0, :2] = state.robot[:, :2] + 0.297 * np.column_stack([np.cos(angle), np.sin(angle)])
    state.robot[:, 3:] = 0.0
    default = DefaultAction(task, default_candidates(TASK), classifier.way_out)
    observation = env.set_state(state)
    for _ in range(60):
        action = default(observation)
        outside = np.linalg.norm(env.state.robot[:, :2] - env.state.vases[:, 0, :2], axis=1) > VASE_KEEP
        action[outside] = braking(env.state.robot[outside])
        observation, *_ = env.step(action)
    distance = np.linalg.norm(env.state.robot[:, :2] - env.state.vases[:, 0, :2], axis=1)
    assert (distance > VASE_KEEP).mean() > 0.95


def test_other_kinds_of_classifier_are_as_they_were():
    from experiments.safetygym.config import SafetyGymConfig

    config = SafetyGymConfig(task=TASK)
    config.classifier.kind = "logits"
    model = new_classifier(config, get_task(TASK), 15)
    model.standardise(np.random.default_rng(0).normal(size=(50, 60)).astype(np.float32))
    assert model.margin(np.zeros((3, 60), np.float32)).shape == (3, 15)
