"""Parts of the agents, each against an independent computation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetygym_toy import ToyVector

from experiments.safetygym.agents.advantages import gae
from experiments.safetygym.agents.agent import new_agent
from experiments.safetygym.agents.grid import default_candidates, grid_of
from experiments.safetygym.agents.methods.barrier import (
    invariant_loss,
    multi_step_violation,
    time_to_collision,
)
from experiments.safetygym.agents.methods.lagrangian import Multiplier
from experiments.safetygym.agents.methods.saute import SauteVector
from experiments.safetygym.agents.networks import Networks
from experiments.safetygym.agents.normalisation import Normaliser
from experiments.safetygym.agents.policies import categorical_terms, gaussian_terms, sample_masked
from experiments.safetygym.agents.ppo import standardise
from experiments.safetygym.agents.rollout import collect
from experiments.safetygym.agents.settings import AgentSettings
from safeframe.types import SafeframeError

TASK = "Safexp-PointGoal1-v0"


def brute_force_gae(rewards, values, ended, ends, discount, decay):
    """Equation 16 of arXiv 1506.02438 as the sum of its definition, episode by episode."""
    horizon, n = rewards.shape
    result = np.zeros((horizon, n))
    for env in range(n):
        for start in range(horizon):
            total = 0.0
            for offset in range(horizon - start):
                t = start + offset
                following = ends[t, env] if ended[t, env] else values[t + 1, env]
                error = rewards[t, env] + discount * following - values[t, env]
                total += (discount * decay) ** offset * error
                if ended[t, env]:
                    break
            result[start, env] = total
    return result


def test_gae_is_the_sum_of_its_definition_and_bootstraps_time_limits():
    rng = np.random.default_rng(0)
    rewards, values = rng.normal(size=(30, 4)).astype(np.float32), rng.normal(size=(31, 4)).astype(np.float32)
    ended = rng.random((30, 4)) < 0.1
    ended[10, 0] = True
    ends = np.where(ended, rng.normal(size=(30, 4)), 0).astype(np.float32)
    advantages, returns = gae(rewards, values, ended, ends, 0.9, 0.8)
    np.testing.assert_allclose(advantages, brute_force_gae(rewards, values, ended, ends, 0.9, 0.8), atol=2e-6)
    np.testing.assert_allclose(returns, advantages + values[:-1], atol=1e-6)
    changed = ends.copy()
    changed[10, 0] += 1.0
    again = gae(rewards, values, ended, changed, 0.9, 0.8)[0]
    assert again[10, 0] - advantages[10, 0] == pytest.approx(0.9, abs=1e-5)


def test_masked_candidates_are_never_drawn_and_log_probabilities_are_torchs():
    rng = np.random.default_rng(1)
    logits = rng.normal(size=(4000, 5)).astype(np.float32) * 3
    feasible = rng.random((4000, 5)) < 0.5
    feasible[7] = False
    index, log_probability, active = sample_masked(logits, rng.random(4000), feasible)
    assert not active[7]
    assert index[7] == -1
    assert (active == feasible.any(axis=1)).all()
    rows = np.flatnonzero(active)
    assert feasible[rows, index[rows]].all()
    masked = torch.from_numpy(np.where(feasible, logits, -np.inf))[rows]
    expected = torch.distributions.Categorical(logits=masked).log_prob(torch.from_numpy(index[rows]))
    np.testing.assert_allclose(log_probability[rows], expected, atol=1e-5)


def test_draws_have_the_policys_frequencies():
    logits = np.tile(np.log(np.array([0.5, 0.3, 0.2], np.float32)), (60_000, 1))
    mask = np.tile(np.array([True, False, True]), (60_000, 1))
    index, _, _ = sample_masked(logits, np.random.default_rng(2).random(60_000), mask)
    shares = np.bincount(index, minlength=3) / 60_000
    np.testing.assert_allclose(shares, [5 / 7, 0, 2 / 7], atol=0.01)


def test_the_updates_masked_log_probabilities_are_the_rollouts():
    torch.manual_seed(0)
    networks = Networks(6, (8,), 4, "categorical", ())
    with torch.no_grad():
        for parameter in networks.actor[-1].parameters():
            parameter.normal_()
    inputs = torch.randn(50, 6)
    feasible = np.random.default_rng(3).random((50, 4)) < 0.6
    feasible[:, 1] = True
    index, expected, _ = sample_masked(
        networks.actor(inputs).detach().numpy(), np.random.default_rng(4).random(50), feasible
    )
    found, entropy = categorical_terms(networks, inputs, torch.from_numpy(index), torch.from_numpy(feasible))
    np.testing.assert_allclose(found.detach().numpy(), expected, atol=1e-5)
    masked = networks.actor(inputs).masked_fill(~torch.from_numpy(feasible), -float("inf"))
    np.testing.assert_allclose(
        entropy.detach(), torch.distributions.Categorical(logits=masked).entropy().detach(), atol=1e-5
    )


def test_gaussian_densities_and_entropies_are_torchs():
    torch.manual_seed(1)
    networks = Networks(6, (8,), 4, "gaussian", ())
    inputs, actions = torch.randn(20, 6), torch.randn(20, 2)
    density, entropy = gaussian_terms(networks, inputs, actions)
    reference = torch.distributions.Normal(networks.actor(inputs), networks.log_std.exp())
    torch.testing.assert_close(density, reference.log_prob(actions).sum(1))
    torch.testing.assert_close(entropy, reference.entropy().sum(1))


def test_a_gaussians_candidate_probabilities_are_its_bins_masses_by_monte_carlo():
    settings = AgentSettings(policy="gaussian")
    agent = new_agent(settings, default_candidates(TASK), 60, 60, ("reward",))
    with torch.no_grad():
        agent.networks.actor[-1].bias.copy_(torch.tensor([0.02, -0.4]))
        agent.networks.log_std.copy_(torch.tensor([-3.5, -0.7]))
    observation = np.zeros((1, 60), np.float32)
    masses = agent.candidate_probabilities(observation)[0]
    draws = agent.act(np.repeat(observation, 200_000, axis=0), np.random.default_rng(5))
    grid = agent.candidates
    nearest = np.argmin(
        np.abs(draws[:, None, 0] - grid[None, :, 0]) * 1e3 + np.abs(draws[:, None, 1] - grid[None, :, 1]), 1
    )
    shares = np.bincount(nearest, minlength=15) / len(draws)
    np.testing.assert_allclose(masses, shares, atol=0.005)
    assert masses.sum() == pytest.approx(1)


def test_candidates_that_are_no_grid_are_refused():
    with pytest.raises(SafeframeError, match="not a grid of"):
        grid_of(np.array([[0.0, 0.0], [0.1, 0.1]]))
    with pytest.raises(SafeframeError, match="unknown task"):
        default_candidates("Safexp-DoggoGoal1-v0")


def test_normalisation_is_that_of_all_data_and_clips_spikes():
    rng = np.random.default_rng(6)
    data = rng.normal(3.0, 4.0, size=(1000, 2)).astype(np.float32)
    normaliser = Normaliser(2, 5.0)
    for part in np.array_split(data, [10, 300, 700]):
        normaliser.update(part)
    np.testing.assert_allclose(normaliser.mean, data.mean(0), rtol=1e-5)
    np.testing.assert_allclose(normaliser.variance, data.var(0), rtol=1e-5)
    assert float(normaliser(np.array([[1e3, 3.0]]))[0, 0]) == 5.0
    with pytest.raises(SafeframeError, match="not finite"):
        normaliser.update(np.array([[np.nan, 0.0]]))


def test_standardised_advantages_ignore_cases_without_weight():
    values = torch.tensor([1.0, 3.0, 1000.0])
    weights = torch.tensor([1.0, 1.0, 0.0])
    torch.testing.assert_close(standardise(values, weights)[:2], torch.tensor([-1.0, 1.0]))
    torch.testing.assert_close(standardise(values, weights, rescale=False)[:2], torch.tensor([-1.0, 1.0]))


def test_the_multiplier_rises_above_the_limit_and_falls_below_it():
    multiplier = Multiplier(1.0, 0.05)
    assert multiplier.value == pytest.approx(1.0)
    for _ in range(5):
        multiplier.step(10.0)
    high = multiplier.value
    assert high > 1.1
    for _ in range(30):
        multiplier.step(-10.0)
    assert 0 <= multiplier.value < high
    capped = Multiplier(1.99, 0.5, largest=2.0)
    for _ in range(20):
        capped.step(1.0)
    assert capped.value < 3.0


def test_steps_of_the_default_action_are_marked_and_taken():
    env = ToyVector(4)
    agent = new_agent(AgentSettings(), default_candidates(TASK), 60, 60, ("reward",))
    observations, _ = env.reset(seed=0)
    taken = []
    original = env.step
    env.step = lambda actions: taken.append(actions.copy()) or original(actions)

    def guard(seen):
        answer = np.zeros((len(seen), 15), bool)
        answer[::2, 3] = True
        return answer

    data, _, _ = collect(
        env, agent.networks, agent.normaliser, agent.candidates, observations, np.zeros(4, bool), 6,
        np.random.default_rng(0), guard, lambda seen: np.full((len(seen), 2), 0.125),
    )  # fmt: skip
    assert (data.active == np.array([True, False, True, False])).all()
    assert (data.actions[:, ::2] == 3).all()
    assert (np.stack(taken)[:, 1::2] == 0.125).all()
    with pytest.raises(SafeframeError, match="one column per candidate"):
        collect(
            env, agent.networks, agent.normaliser, agent.candidates, observations, np.zeros(4, bool), 1,
            np.random.default_rng(0), lambda seen: np.ones((len(seen), 3), bool), lambda seen: seen[:, :2],
        )  # fmt: skip


def test_time_to_collision_by_hand():
    hazards = np.array([[[1.0, 0.0], [0.0, 3.0]]]).repeat(4, axis=0)
    position = np.array([[0.0, 0.0], [0.0, 0.0], [0.9, 0.0], [0.0, 0.0]])
    velocity = np.array([[0.4, 0.0], [-0.4, 0.0], [0.0, 0.0], [0.0, 1.4]])
    np.testing.assert_allclose(time_to_collision(position, velocity, hazards), [2.0, np.inf, 0.0, 2.0])


def test_the_invariant_loss_and_the_penalty_are_the_same_sum():
    rng = np.random.default_rng(7)
    barrier = rng.normal(size=(13, 3)).astype(np.float32)
    ended = rng.random((12, 3)) < 0.2
    steps, rate, margin, discount = 4, 0.1, 0.01, 0.9
    expected = np.zeros((12, 3))
    for t in range(12):
        for env in range(3):
            for i in range(1, steps + 1):
                if t + i > 12 or ended[t : t + i, env].any():
                    break
                bound = (1 - rate) ** i * barrier[t, env] - margin * sum((1 - rate) ** j for j in range(i))
                expected[t, env] += discount ** (i - 1) * max(0.0, barrier[t + i, env] - bound)
    expected /= sum(discount**i for i in range(steps))
    found = multi_step_violation(barrier, ended, steps, rate, margin, discount)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    loss = invariant_loss(torch.from_numpy(barrier), torch.from_numpy(ended), steps, rate, margin, discount)
    assert float(loss) == pytest.approx(expected.mean(), abs=1e-6)


def test_saute_takes_the_reward_away_once_the_budget_is_overdrawn():
    env = SauteVector(ToyVector(2, length=6), budget=2.0, unsafe_reward=-0.5, training=False)
    observations, _ = env.reset(seed=0)
    assert observations.shape == (2, 61)
    actions = np.array([[0.0, 1.0], [0.0, 0.5]])
    shares, rewards = [], []
    for step in range(6):
        observations, reward, terminated, truncated, info = env.step(actions)
        shares.append(observations[0, 60])
        rewards.append(reward[0])
        assert reward[1] == info["task_reward"][1] == 0.5
        assert truncated.all() == (step == 5)
        assert not terminated.any()
    np.testing.assert_allclose(rewards, [1.0, 1.0, -0.5, -0.5, -0.5, -0.5])
    np.testing.assert_allclose(shares, [0.5, 0.0, 0.0, 0.0, 0.0, 1.0])
    state = env.get_state()
    env.step(actions)
    restored = env.set_state(state)
    np.testing.assert_array_equal(restored, observations)


def test_saute_charges_the_constant_rewards_at_once_and_ends_training_episodes_outside():
    env = SauteVector(ToyVector(2, length=50), budget=1.0, unsafe_reward=-0.5, reward_discount=0.9)
    env.reset(seed=0)
    rewards, ends, shares = [], [], []
    for turn in (1.0, 1.0, 1.0, 0.5, 0.5, 0.5):  # unsafe three times, then outside
        observations, reward, terminated, truncated, _ = env.step(np.array([[0.0, turn], [0.0, 0.5]]))
        rewards.append(reward[0])
        shares.append(observations[0, 60])
        ends.append((bool(terminated[0]), bool(truncated[0])))
        assert not (terminated | truncated)[1]
        assert reward[1] == 0.5
    np.testing.assert_allclose(rewards, [1.0, -5.0, -0.5, -0.5, 0.0, 0.5])
    assert ends == [(False, False)] * 4 + [(True, False), (False, False)]
    np.testing.assert_allclose(shares, [0.0, -1.0, -1.0, -1.0, 1.0, 1.0])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ({"method": "sac"}, "method is 'sac'"),
        ({"steps": "0"}, "steps is 0"),
        ({"discount": "1.5"}, "discount is 1.5"),
        ({"stepz": "5"}, "unknown setting 'stepz'"),
        ({"steps": "many"}, "steps=many"),
        ({"minibatch": "1e9"}, "more than the 32768 steps"),
        ({"method": "saute", "cost_limit": "0"}, "cost_limit must be > 0"),
        ({"learning_rate": "nan"}, "learning_rate is nan"),
    ],
)
def test_wrong_settings_are_refused(text, message):
    with pytest.raises(SafeframeError, match=message):
        AgentSettings.parse(text)
