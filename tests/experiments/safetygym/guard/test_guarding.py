"""The guard around an agent."""

import numpy as np
import pytest
import torch
from safetygym_margins import Given
from safetygym_small import CAR, POINT, driven, untrained

from experiments.safetygym.agents.grid import default_candidates
from experiments.safetygym.guard.guarding import Guard, GuardedPolicy
from experiments.safetygym.sim.task import get_task
from experiments.safetygym.states.backup import DefaultAction
from safeframe.types import SafeframeError

TASK = get_task(POINT)
CANDIDATES = default_candidates(POINT)


@pytest.fixture(scope="module")
def observation() -> np.ndarray:
    return driven(POINT, 500, 40, 0).last_observation.copy()


def test_only_feasible_candidates_are_taken_and_else_the_default_action(observation):
    margins = np.random.default_rng(0).normal(size=(500, 15)).astype(np.float32)
    margins[:100] = 3.0  # nothing is feasible
    margins[100, :14] = 3.0
    margins[100, 14] = 0.5  # equal to tau: not below it
    given = Given(margins)
    policy = GuardedPolicy(untrained(), Guard(given, 0.5), 0, TASK)
    default = DefaultAction(TASK, CANDIDATES, given.margin)
    for _ in range(5):
        action = policy(observation)
        assert (policy.candidate[:101] == -1).all()
        np.testing.assert_array_equal(action[:101], default(observation[:101]))
        some = (margins[101:] < 0.5).any(axis=1)
        chosen = policy.candidate[101:][some]
        assert some.all()
        assert (margins[101:][some, chosen] < 0.5).all()
        np.testing.assert_array_equal(action[101:][some], CANDIDATES[chosen])
    assert len(np.unique(policy.candidate)) == 16
    assert np.abs(action[:101, 0]).max() > 0.01  # the default action brakes; it is not nothing


def test_a_threshold_for_every_candidate(observation):
    margins = np.zeros((500, 15), np.float32)
    tau = np.full(15, -1.0)
    tau[[3, 8]] = 1.0
    policy = GuardedPolicy(untrained(), Guard(Given(margins), tau), 0, TASK)
    policy(observation)
    assert set(policy.candidate) == {3, 8}


def test_a_threshold_of_minus_infinity_always_brakes(observation):
    policy = GuardedPolicy(untrained(), Guard(Given(np.full((500, 15), -1e30)), -np.inf), 0, TASK)
    policy(observation)
    assert (policy.candidate == -1).all()


def test_choices_follow_the_agents_own_probabilities(observation):
    """One observation many times, two feasible candidates."""
    agent, n = untrained(seed=2), 20_000
    agent.networks.actor[-1].bias.data += float(np.log(2.0)) * (torch.arange(15) % 3)
    margins = np.ones((n, 15), np.float32)
    margins[:, [2, 4]] = -1.0
    policy = GuardedPolicy(agent, Guard(Given(margins), 0.0), 0, TASK)
    policy(np.repeat(observation[:1], n, axis=0))
    probability = agent.candidate_probabilities(observation[:1])[0]
    share = probability[2] / (probability[2] + probability[4])
    assert 0.6 < share < 0.75
    assert (policy.candidate == 2).mean() == pytest.approx(share, abs=5 * (0.25 / n) ** 0.5)


def test_without_a_guard_the_agent_acts_as_it_is(observation):
    agent = untrained()
    policy = GuardedPolicy(agent, None, [4, 2], TASK)
    np.testing.assert_array_equal(policy(observation), agent.act(observation, np.random.default_rng([4, 2])))
    assert (policy.candidate == -2).all()


@pytest.mark.parametrize(
    ("agent", "classifier", "message"),
    [
        (CAR, None, f"agent was trained on {CAR}; this run is of {POINT}"),
        (POINT, Given(np.zeros((1, 15)), CAR), f"classifier belongs to {CAR}, not to {POINT}"),
        (POINT, Given(np.zeros((1, 25))), "judges 25 candidates, the agent has 15"),
    ],
)
def test_what_does_not_belong_together_is_refused(agent, classifier, message):
    guard = None if classifier is None else Guard(classifier, 0.0)
    with pytest.raises(SafeframeError, match=message):
        GuardedPolicy(untrained(agent), guard, 0, TASK)
