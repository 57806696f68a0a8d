"""Classification models: the compiled path model against plain code, logits, what standardising does."""

import numpy as np
import pytest
import torch
from safetygym_small import CAR, POINT, driven, near_hazards

from experiments.safetygym.guard.classifier import (
    CLASSIFIERS,
    LogitClassifier,
    PathClassifier,
)
from experiments.safetygym.perception.decoding import FAR, decoded
from experiments.safetygym.records import METRES_PER_MARGIN
from experiments.safetygym.sim.clearance import CLEARANCE_HIGH, CLEARANCE_LOW
from experiments.safetygym.sim.task import HAZARD_RADIUS, get_task
from experiments.safetygym.sim.vector import SafetyGymVector


def lively(task: str, candidates: int = 5, seed: int = 0) -> PathClassifier:
    """An untrained path classifier whose paths are some 30 cm long, with offsets."""
    torch.manual_seed(seed)
    classifier = PathClassifier(get_task(task), candidates, (16,))
    with torch.no_grad():
        classifier.network[-1].weight *= 2.0
        classifier.offset.copy_(torch.linspace(-1.0, 1.0, candidates))
    return classifier


def observations(task: str, n: int, seed: int) -> np.ndarray:
    if task == CAR:
        env, rng = driven(CAR, n, 30, seed), np.random.default_rng(seed)
        state = env.get_state()
        state.hazards[:] = 50.0
        state.hazards[:, :2] = state.robot[:, None, :2] + rng.uniform(-0.5, 0.5, (n, 2, 2))
        return env.set_state(state)
    env = SafetyGymVector(POINT, n, seed=0, vase="fixed")
    return env.set_state(near_hazards(n, seed))


def plain_margin(classifier: PathClassifier, observation: np.ndarray) -> np.ndarray:
    """The model's margins by plain array code: ends and middle of each arc against pieces of each path."""
    with torch.no_grad():
        path = classifier.paths(classifier.velocity(observation)).numpy()[:, :, :, None]  # (n, k, T, 1, 2)
    ends, _ = next(decoded(classifier.task, observation))
    middle = ends.mean(axis=2)
    middle *= (np.linalg.norm(ends, axis=3).mean(axis=2) / np.linalg.norm(middle, axis=2))[..., None]
    points = np.concatenate([ends.reshape(len(ends), -1, 2), middle], axis=1)[:, None, None]
    start, step = path[:, :, :-1], path[:, :, 1:] - path[:, :, :-1]
    to = points - start
    along = (to * step).sum(-1) / np.maximum((step * step).sum(-1), 1e-12)
    gap = np.linalg.norm(to - np.clip(along, 0.0, 1.0)[..., None] * step, axis=-1).min(axis=(2, 3))
    clearance = np.clip(gap - HAZARD_RADIUS, CLEARANCE_LOW, CLEARANCE_HIGH)
    return classifier.offset.detach().numpy() - clearance / METRES_PER_MARGIN


@pytest.mark.parametrize("task", [POINT, CAR])
def test_compiled_margins_are_those_of_plain_code_where_hazards_are_exact(task):
    observation = observations(task, 200, 1)
    classifier = lively(task)
    classifier.standardise(observation)
    arcs, _ = next(decoded(classifier.task, observation))
    known = arcs[:, :, 0, 0] < FAR
    width = np.where(known, np.linalg.norm(arcs[:, :, 0] - arcs[:, :, 1], axis=2), 0.0)
    exact = (width < 1e-4).all(axis=1) & known.any(axis=1)
    assert exact.mean() > 0.2
    compiled = classifier.margin(observation)
    forward = plain_margin(classifier, observation)
    clearance = METRES_PER_MARGIN * (classifier.offset.detach().numpy() - compiled)
    assert ((clearance > CLEARANCE_LOW) & (clearance < CLEARANCE_HIGH))[exact].mean() > 0.2
    np.testing.assert_allclose(compiled[exact], forward[exact], atol=0.05)  # half a millimetre
    # on a wide arc both put points, 2 to 4 and 3; neither may lie more than their gaps apart
    assert np.abs(compiled - forward).max() < 0.12 / METRES_PER_MARGIN


def test_a_candidate_whose_path_meets_a_hazard_has_the_higher_margin():
    """Paths set by hand: straight ahead 40 cm, and back; the hazard lies ahead."""
    classifier = lively(POINT, 2)
    ahead = torch.linspace(0.0, 0.4, classifier.times + 1)[1:]
    with torch.no_grad():
        for layer in classifier.network:
            if hasattr(layer, "weight"):
                layer.weight.zero_()
        path = torch.stack([torch.stack([ahead, 0 * ahead], -1), torch.stack([-ahead, 0 * ahead], -1)])
        classifier.network[-1].bias.copy_(path.flatten())
        classifier.offset.zero_()
    state = near_hazards(1, 0)
    state.hazards[:] = 50.0
    c, s = np.cos(state.robot[0, 2]), np.sin(state.robot[0, 2])
    state.hazards[0, 0] = state.robot[0, :2] + 0.5 * np.array([c, s])
    observation = SafetyGymVector(POINT, 1, vase="fixed").set_state(state)
    # ahead: 10 cm from the centre is 10 cm inside; back: the start, 30 cm from the edge, is clipped at 15
    np.testing.assert_allclose(classifier.margin(observation), [[10.0, -15.0]], atol=0.02)


@pytest.mark.parametrize("kind", list(CLASSIFIERS))
def test_the_pair_of_logits_differs_by_the_margin(kind):
    torch.manual_seed(0)
    observation = observations(POINT, 50, 2)
    classifier = CLASSIFIERS[kind](get_task(POINT), 15, (8,))
    classifier.standardise(observation)
    logits = classifier.logits(observation)
    assert logits.shape == (50, 15, 2)
    np.testing.assert_allclose(logits[..., 1] - logits[..., 0], classifier.margin(observation), atol=1e-5)
    assert classifier.margin(observation[:0]).shape == (0, 15)


def test_the_logit_model_standardises_and_clips_its_inputs():
    rng = np.random.default_rng(3)
    observation = (5 + 3 * rng.normal(size=(4000, 60))).astype(np.float32)
    observation[:, 7] = 2.0  # a constant must not be divided by
    torch.manual_seed(0)
    classifier = LogitClassifier(get_task(POINT), 3, (8,))
    classifier.standardise(observation)
    (inputs,) = classifier.features(observation)
    assert abs(float(inputs.mean())) < 1e-3
    assert abs(float(inputs[:, 0].std()) - 1) < 1e-3
    assert (inputs[:, 7] == 0).all()
    far = observation[:1] + np.float32(1e3)
    assert float(classifier.features(far)[0].max()) == 5.0
    many = np.concatenate([observation] * 3)  # more than one chunk
    np.testing.assert_allclose(classifier.margin(many)[-50:], classifier.margin(observation[-50:]), atol=1e-5)
