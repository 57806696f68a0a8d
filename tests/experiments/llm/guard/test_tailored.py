"""The approximate loss of choosing an answer: minimisers by enumeration, gradients by finite differences."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from llm_fake import FakeSource

from experiments.llm.answers.pools import Pool
from experiments.llm.capacity import Capacity
from experiments.llm.config import ClassifierConfig, TailoredConfig
from experiments.llm.guard import tailored
from experiments.llm.guard.backends import DecoderBackend, place_of
from experiments.llm.guard.tailored import AnswerProblem, answer_actions
from experiments.support.tailoring_settings import TailoringSettings
from safeframe.training.finite_actions import FiniteActions
from safeframe.training.loop import TrainingSettings
from safeframe.types import SafeframeError

R_T, BETA, LAMBDA = 0.05, 0.3, 1.5


def cases(n: int = 40, k: int = 3, seed: int = 0, harm_cost: float = 1.0) -> tuple[FiniteActions, dict]:
    rng = np.random.default_rng(seed)
    content = {
        "reward": rng.normal(size=(n, k)),
        "harmful": rng.integers(2, size=(n, k)),
        "mask": rng.random((n, k)) < 0.8,
        "default_reward": rng.normal(size=n) - 1,
    }
    return answer_actions(**content, harm_cost=harm_cost), content


def by_enumeration(content: dict, log_violation: np.ndarray, i: int, harm_cost: float = 1.0) -> float:
    """L~ of one prompt, candidate by candidate."""
    scale = content["reward"][content["mask"]].std()
    best = {}
    for weight in (LAMBDA, 0.0):
        values = [(1 + weight) * -content["default_reward"][i] / scale]
        for j in range(log_violation.shape[1]):
            if content["mask"][i, j]:
                own = (1 + weight) * -content["reward"][i, j] / scale
                own += weight * harm_cost * content["harmful"][i, j]
                values.append(own + BETA * max(log_violation[i, j] - np.log(R_T), 0.0))
        best[weight] = min(values)
    return (best[LAMBDA] - best[0.0]) / LAMBDA


def test_value_is_that_of_the_enumeration():
    found, content = cases()
    log_violation = np.random.default_rng(1).normal(-3, 2, size=(40, 3))
    loss = found.gated(R_T, BETA, LAMBDA)(torch.from_numpy(log_violation).float())
    expected = [by_enumeration(content, log_violation, i) for i in range(40)]
    assert loss.numpy() == pytest.approx(np.array(expected), abs=1e-5)


def test_gradient_is_that_of_finite_differences():
    found, _ = cases(seed=3)
    loss = FiniteActions(found.objective.double(), found.loss.double(), found.uses.double()).gated(
        R_T, BETA, LAMBDA
    )
    start = torch.from_numpy(np.random.default_rng(2).normal(-3, 1.5, size=(40, 3))).double()
    at = start.clone().requires_grad_()
    loss(at).sum().backward()
    assert at.grad is not None
    step = 1e-6
    for i, j in [(0, 0), (5, 1), (17, 2), (33, 0), *np.argwhere(at.grad.numpy() != 0)[:6]]:
        up, down = start.clone(), start.clone()
        up[i, j] += step
        down[i, j] -= step
        slope = (loss(up).sum() - loss(down).sum()) / (2 * step)
        assert float(at.grad[i, j]) == pytest.approx(float(slope), abs=1e-4)
    assert (at.grad != 0).any()


def test_a_missing_candidate_is_never_chosen():
    found, content = cases(seed=5)
    chosen = found.objective.argmin(1).numpy()
    for i, j in enumerate(chosen):
        assert j == 3 or content["mask"][i, j]


def test_a_step_gives_a_finite_gradient_and_draws_by_its_generator():
    source = FakeSource(candidates=4)
    pool = source.pool("train", 60)
    backend = DecoderBackend(source, ClassifierConfig())
    table, _ = backend.table(pool)
    settings = TailoredConfig(inputs=20, test_cases=100, temperature=0.5, temperature_output=0.5)
    step = step_with(table, pool, source, settings)
    module = backend.new(Capacity("all"), 0)
    value = step(module, torch.Generator().manual_seed(0))
    value.backward()
    weight = module.model.score.weight.grad
    assert torch.isfinite(value)
    assert weight is not None
    assert float(weight.abs().sum()) > 0
    again = step(module, torch.Generator().manual_seed(0))
    assert again.item() == value.item()


def test_as_many_harmful_as_harmless_cases_are_drawn_and_weighed_back():
    """The spread of margins is the one of natural data, whatever the draw."""
    rng = np.random.default_rng(3)
    margin, unsafe = rng.normal(size=4000), rng.random(4000) < 0.1
    margin[unsafe] += 2.0
    everything = tailored._spread(
        torch.tensor(margin)[:, None], torch.tensor(unsafe).float()[:, None], float(unsafe.mean())
    )
    assert float(everything) == pytest.approx(margin.std(), rel=1e-9)
    kept = np.concatenate([np.flatnonzero(unsafe), np.flatnonzero(~unsafe)[: int(unsafe.sum())]])
    balanced = tailored._spread(
        torch.tensor(margin[kept])[:, None], torch.tensor(unsafe[kept]).float()[:, None], float(unsafe.mean())
    )
    assert float(balanced) == pytest.approx(margin.std(), rel=0.1)
    assert margin[kept].std() > 1.1 * margin.std()


def step_with(table, pool, source, settings):
    """(module, generator) -> loss of a step at r_t = .1 and radius 0."""
    content = answer_actions(pool.reward, pool.harmful, pool.mask, source.default_reward(pool.prompt), 1.0)
    problem = AnswerProblem(
        table, place_of(pool), pool.harmful[pool.mask], content, 0.0, settings.inputs, settings.test_cases
    )
    chosen = TailoringSettings().of(
        0.1, TrainingSettings(1, 1e-3), settings.penalty, settings.perturbation, settings.temperature,
        settings.temperature_output, settings.anchor,
    )  # fmt: skip
    return lambda module, generator: chosen.loss(problem.cases(module, generator))


def step_of(pool, **change):
    source = FakeSource(candidates=4)
    backend = DecoderBackend(source, ClassifierConfig())
    table, _ = backend.table(pool)
    settings = TailoredConfig(inputs=20, test_cases=100, **change)
    return step_with(table, pool, source, settings)(
        backend.new(Capacity("all"), 0), torch.Generator().manual_seed(0)
    ).item()


def test_the_anchor_adds_the_cross_entropy_in_natural_proportions():
    pool = FakeSource(candidates=4).pool("train", 60)
    alone = step_of(pool, anchor=0.0)
    added = [step_of(pool, anchor=value) - alone for value in (1.0, 2.0)]
    assert added[1] == pytest.approx(2 * added[0], rel=1e-4)
    backend = DecoderBackend(FakeSource(candidates=4), ClassifierConfig())
    logits = backend.new(Capacity("all"), 0)(*backend.table(pool)[0].batch(np.arange(240)))
    natural = torch.nn.functional.cross_entropy(logits, torch.tensor(pool.harmful[pool.mask]).long())
    assert added[0] == pytest.approx(float(natural.detach()), rel=0.05)


def test_halves_need_both_classes():
    pool = FakeSource(candidates=4).pool("train", 60)
    harmful = pool.harmful.copy()
    harmful[::2] = 0
    lacking = Pool(**{name: getattr(pool, name) for name in Pool.__dataclass_fields__} | {"harmful": harmful})
    with pytest.raises(SafeframeError, match=r"each half .* needs harmful and harmless"):
        step_of(lacking)


def test_parts_of_a_step_give_the_same_gradient():
    source = FakeSource(candidates=4)
    pool = source.pool("train", 60)
    backend = DecoderBackend(source, ClassifierConfig())
    table, _ = backend.table(pool)
    content = answer_actions(pool.reward, pool.harmful, pool.mask, source.default_reward(pool.prompt), 1.0)
    found = []
    for size in (None, 17):
        problem = AnswerProblem(
            table, place_of(pool), pool.harmful[pool.mask], content, 0.0, 20, 100, micro_batch=size
        )
        module = backend.new(Capacity("all"), 0)
        chosen = TailoringSettings().of(0.1, TrainingSettings(1, 1e-3), 0.3, 1.5, 1.0, 1.0, 2.0)
        chosen.loss(problem.cases(module, torch.Generator().manual_seed(0))).backward()
        found.append(module.model.score.weight.grad)
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-6)
