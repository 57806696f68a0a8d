"""PPO-Lagrangian: each part by hand, the loop on a problem with a known best policy, kill and resume."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from llm_small import SMALL, TOKENIZER

from experiments.llm.models.language_model import new_language_model
from experiments.llm.models.ppo_lag import (
    Multiplier,
    PPOSettings,
    actor_loss,
    combined,
    gae,
    per_token,
    value_loss,
)
from experiments.llm.models.ppo_training import PPOLag, two_headed
from experiments.llm.models.preference_models import TokenScores, new_score_model
from experiments.llm.models.tokenizer import SYNTHETIC_TEMPLATE
from experiments.llm.world import corpus, grammar
from experiments.llm.world.conversation_world import World
from safeframe.types import SafeframeError

MASK = torch.tensor([[1.0, 1, 1, 1], [1, 1, 0, 0]])


def test_per_token_rewards_by_hand():
    ratio = torch.tensor([[0.1, -0.2, 0.3, 0.4], [0.5, 0.5, 9.0, 9.0]])
    end = torch.tensor([2.0, -1.0])
    np.testing.assert_allclose(
        per_token(end, ratio, MASK, 0.2, -1.0), [[-0.01, 0.02, -0.03, 1.96], [-0.05, -1.05, 0, 0]], atol=1e-6
    )
    np.testing.assert_allclose(
        per_token(end, ratio, MASK, 0.2, +1.0), [[0.01, -0.02, 0.03, 2.04], [0.05, -0.95, 0, 0]], atol=1e-6
    )


@pytest.mark.parametrize("multiplier", [0.0, 1.0, 7.0])
def test_the_charge_for_kl_does_not_depend_on_the_multiplier(multiplier):
    ratio, zero = torch.randn(2, 4), torch.zeros(2)
    both = [per_token(zero, ratio, MASK, 0.3, sign) for sign in (-1.0, 1.0)]
    together = (both[0] - multiplier * both[1]) / (1 + multiplier)
    torch.testing.assert_close(together, -0.15 * ratio * MASK)


@pytest.mark.parametrize(("discount", "gae_lambda"), [(1.0, 0.95), (0.9, 0.5), (1.0, 1.0), (1.0, 0.0)])
def test_gae_is_the_sum_of_its_definition(discount, gae_lambda):
    torch.manual_seed(0)
    value, reward = torch.randn(2, 4), torch.randn(2, 4) * MASK
    advantage, returned = gae(value, reward, MASK, discount, gae_lambda)
    for i, length in enumerate((4, 2)):
        v = [float(x) for x in value[i, :length]] + [0.0]
        delta = [float(reward[i, t]) + discount * v[t + 1] - v[t] for t in range(length)]
        for t in range(length):
            expected = sum((discount * gae_lambda) ** (u - t) * delta[u] for u in range(t, length))
            assert float(advantage[i, t]) == pytest.approx(expected, abs=1e-5)
            assert float(returned[i, t]) == pytest.approx(expected + v[t], abs=1e-5)
    assert not advantage[1, 2:].any()
    if gae_lambda == discount == 1.0:
        assert float(returned[0, 0]) == pytest.approx(float(reward[0].sum()), abs=1e-5)


def test_the_advantage_weighs_cost_by_the_multiplier_and_is_standardised():
    torch.manual_seed(0)
    reward, cost, mask = torch.randn(50, 4), torch.randn(50, 4), MASK.repeat(25, 1)
    found = combined(reward, cost, mask, 3.0)
    inside = found[mask > 0]
    assert float(inside.mean()) == pytest.approx(0, abs=1e-6)
    assert float(inside.square().mean()) == pytest.approx(1, abs=1e-4)
    plain = ((reward - 3 * cost) / 4)[mask > 0]
    assert np.corrcoef(inside, plain)[0, 1] == pytest.approx(1, abs=1e-5)
    assert not found[mask == 0].any()


def test_the_surrogate_is_clipped_where_it_would_gain():
    old, mask = torch.zeros(1, 4), torch.ones(1, 4)
    ratio = torch.tensor([[1.5, 0.5, 1.5, 0.5]])
    log_p = ratio.log().requires_grad_(True)
    advantage = torch.tensor([[1.0, 1.0, -1.0, -1.0]])
    loss = actor_loss(log_p, old, advantage, mask, 0.2)
    assert float(loss) == pytest.approx(-(1.2 + 0.5 - 1.5 - 0.8) / 4)
    loss.backward()
    assert log_p.grad is not None
    np.testing.assert_allclose(log_p.grad, [[0, -0.125, 0.375, 0]], atol=1e-6)


def test_the_value_loss_takes_the_worse_of_two_errors():
    value, old, target = torch.tensor([[3.0]]), torch.tensor([[0.0]]), torch.tensor([[3.0]])
    one = torch.ones(1, 1)
    assert float(value_loss(value, old, target, one, 1.0)) == pytest.approx(0.5 * 4)
    assert float(value_loss(value, old, target, one, 10.0)) == 0


def test_the_multiplier_rises_above_the_limit_and_falls_below():
    found = Multiplier(0.0, 0.5, 0.1, window=2, most=2.0)
    found.update(0.5)
    assert found.log_value == pytest.approx(0.5 * 1.0 * 0.4)
    before = found.value
    found.update(0.1)  # the mean of the window is 0.3
    assert math.log(found.value / before) == pytest.approx(0.5 * before * 0.2)
    for _ in range(50):
        found.update(1.0)
    assert found.value == pytest.approx(2.0)
    for _ in range(400):
        found.update(0.0)
    assert found.value < 0.2


def prompts(i: int) -> list[str]:
    return corpus.model_prompts(32, np.random.default_rng([4, i])).text()


def say(word: str):
    """Whether an answer has a word."""
    return lambda _prompts, answers: np.array([float(word in text.split()) for text in answers])


def training(settings: PPOSettings, seed: int = 0, reward=None, cost=None, **more) -> PPOLag:
    policy = new_language_model(TOKENIZER, SMALL, 0)
    with torch.no_grad():  # a policy of a few words: so that ten rollouts show something
        bias = torch.full((len(TOKENIZER),), 0.0)
        bias[[grammar.INDEX[w] for w in ("lock", "door", "the", "open")]] = 1.0
        policy.model.decoder.embed_tokens.weight.add_(0.3 * bias[:, None])
    critic = two_headed(new_score_model(policy, 0))
    return PPOLag(
        policy,
        critic,
        TOKENIZER,
        SYNTHETIC_TEMPLATE,
        prompts,
        reward or say("door"),
        cost or say("lock"),
        settings,
        seed,
        40,
        6,
        **more,
    )


TINY = PPOSettings(
    cost_limit=0.0,
    iterations=4,
    batch=32,
    minibatch=16,
    epochs=1,
    learning_rate=3e-3,
    every=2,
    cost_form="score",
)


def test_the_critic_starts_as_the_reward_model():
    model = new_score_model(new_language_model(TOKENIZER, SMALL, 1), 1).eval()
    batch = corpus.written(World(0), 4, 0)(0)
    with torch.no_grad():
        value = TokenScores(two_headed(model))(**batch.arguments())
        expected = TokenScores(model)(**batch.arguments())[..., 0]
    torch.testing.assert_close(value[..., 0], expected)
    assert not value[..., 1].any()


def test_a_killed_training_goes_on_as_if_it_had_not_been(tmp_path):
    whole = training(TINY)
    expected = whole.train()

    def killed(iterations):
        for i in iterations:
            if i == 3:
                raise KeyboardInterrupt
            yield i

    path = tmp_path / "checkpoint"
    with pytest.raises(KeyboardInterrupt):
        training(TINY).train(path, killed)
    resumed = training(TINY)
    found = resumed.train(path)
    for a, b in zip(found.state_dict().values(), expected.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    assert resumed.history == whole.history
    with pytest.raises(SafeframeError, match=r"another training \(seed differ\)"):
        training(TINY, seed=1).train(path)


def test_the_first_update_sees_no_change_of_policy():
    row = training(TINY).iterate()
    assert row["kl"] == pytest.approx(0, abs=1e-4)


@pytest.mark.long
def test_it_learns_to_earn_without_what_costs():
    """Saying "door" earns, saying "lock" costs: more of the one, and the other no more than the limit."""
    settings = PPOSettings(
        cost_limit=0.02, iterations=60, batch=64, minibatch=32, epochs=2, learning_rate=3e-3, multiplier=2.0,
        kl_coefficient=0.01, cost_form="score",
    )  # fmt: skip
    found = training(settings)
    found.train()
    first, last = found.history[:5], found.history[-10:]
    mean = lambda rows, name: float(np.mean([row[name] for row in rows]))  # noqa: E731
    assert mean(last, "reward") > mean(first, "reward") + 0.3
    assert mean(last, "cost") < 0.06
    free = training(PPOSettings(**(vars(settings) | {"cost_limit": 10.0})), cost=say("door"))
    free.train()  # what earns costs, but the limit is far
    assert mean(free.history[-10:], "cost") > 0.5
    assert free.multiplier.value < 0.1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"cost_form": "rank"}, "cost_form='rank'"),
        ({"iterations": 0}, "iterations=0"),
        ({"clip": 0.0}, "clip=0.0: more than 0"),
        ({"gae_lambda": 1.2}, "gae_lambda=1.2"),
        ({"multiplier": -1.0}, "multiplier=-1.0"),
    ],
)
def test_settings_out_of_range(settings, message):
    with pytest.raises(SafeframeError, match=message):
        PPOSettings(**settings)


def test_ptx_needs_conversations_and_moves_the_policy():
    with pytest.raises(SafeframeError, match="conversations of people are needed"):
        training(PPOSettings(ptx_coefficient=1.0))
    settings = PPOSettings(**(vars(TINY) | {"ptx_coefficient": 1.0, "iterations": 1}))
    with_people = training(settings, ptx=corpus.written(World(0), 8, 0))
    without = training(PPOSettings(**(vars(TINY) | {"iterations": 1})))
    one, other = with_people.train(), without.train()
    assert not torch.equal(one.lm_head.weight, other.lm_head.weight)


def test_a_reward_that_is_no_number_stops_the_training():
    broken = training(TINY, reward=lambda p, a: np.full(len(p), np.nan))
    with pytest.raises(
        SafeframeError, match=r"gradient is nan in iteration 0 \(loss nan\): see whether rewards"
    ):
        broken.iterate()
