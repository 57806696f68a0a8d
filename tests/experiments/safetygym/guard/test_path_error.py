"""A path classifier that predicts its own error: the distance it learns, its quantile, what the margin is."""

import numpy as np
import pytest
import torch
from safetygym_small import CAR, POINT, near_hazards

from experiments.safetygym.guard.classifier import BoundedPathClassifier, PathClassifier
from experiments.safetygym.guard.path_error import errors, learn_error, quantile_loss
from experiments.safetygym.learning_settings import PathErrorSettings
from experiments.safetygym.sim.task import get_task
from experiments.safetygym.sim.vector import SafetyGymVector
from experiments.safetygym.states.geometry import departures


def wandering(n: int, seed: int) -> np.ndarray:
    """Random paths (n, 3, 6, 2) of some 10 cm."""
    steps = np.random.default_rng(seed).normal(0.0, 0.02, (n, 3, 6, 2))
    return steps.cumsum(axis=2).astype(np.float32)


def departed(predicted: np.ndarray, true: np.ndarray) -> np.ndarray:
    out = np.empty(true.shape[:2], np.float32)
    departures(predicted, true, out)
    return out


def test_departures_are_the_farthest_of_the_nearest_points():
    """Against 400 points on each piece of the predicted path."""
    predicted, true = wandering(40, 0), wandering(40, 1)
    share = np.linspace(0.0, 1.0, 400)[:, None]
    pieces = predicted[:, :, :-1, None] * (1 - share) + predicted[:, :, 1:, None] * share
    points = pieces.reshape(40, 3, 1, -1, 2)
    brute = np.linalg.norm(true[:, :, :, None] - points, axis=-1).min(axis=3).max(axis=2)
    np.testing.assert_allclose(departed(predicted, true), brute, atol=2e-4)


def test_stopping_short_on_the_predicted_path_is_no_error_and_going_on_is():
    predicted = np.zeros((1, 1, 6, 2), np.float32)
    predicted[0, 0, :, 0] = np.linspace(0.01, 0.06, 6)
    short, far = predicted * np.float32(0.5), predicted.copy()
    short += np.float32(0.01) * np.array([1.0, 0.0], np.float32)
    far[0, 0, -1, 0] = 0.09
    assert departed(predicted, short)[0, 0] == pytest.approx(0.0, abs=1e-7)
    assert departed(predicted, far)[0, 0] == pytest.approx(0.03, abs=1e-6)


def test_the_true_clearance_is_at_least_the_predicted_one_less_the_departure():
    predicted, true = wandering(500, 2), wandering(500, 3)
    hazard = np.random.default_rng(4).uniform(-0.3, 0.3, (500, 1, 1, 2))
    a, b = predicted[:, :, :-1], predicted[:, :, 1:]
    along = ((hazard - a) * (b - a)).sum(-1) / np.maximum(((b - a) ** 2).sum(-1), 1e-12)
    near = a + np.clip(along, 0.0, 1.0)[..., None] * (b - a)
    from_predicted = np.linalg.norm(hazard - near, axis=-1).min(axis=2)
    from_true = np.linalg.norm(hazard - true, axis=-1).min(axis=2)
    least = from_true - (from_predicted - departed(predicted, true))
    assert least.min() >= -1e-6
    assert np.quantile(least, 0.01) < 0.01  # nor is it much more everywhere


@pytest.mark.parametrize("level", [0.5, 0.9, 0.99])
def test_the_loss_is_least_at_the_quantile(level):
    observed = torch.from_numpy(np.random.default_rng(0).normal(size=20_001))
    tried = torch.linspace(-3.0, 4.0, 1401)
    losses = torch.stack([quantile_loss(observed - value, level) for value in tried])
    assert float(tried[losses.argmin()]) == pytest.approx(float(observed.quantile(level)), abs=0.01)


def bounded(level: float, task: str = POINT, candidates: int = 3) -> BoundedPathClassifier:
    torch.manual_seed(0)
    settings = PathErrorSettings(quantile=level, hidden=[32], steps=1200, rate=5e-3)
    return BoundedPathClassifier(get_task(task), candidates, (8,), settings)


def noisy(classifier: BoundedPathClassifier, n: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs, and paths that leave the predicted ones by 1 cm of noise, five where the first input is > 0."""
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn((n, len(classifier.inputs)), generator=generator)
    size = torch.where(inputs[:, 0] > 0, 0.05, 0.01)[:, None, None, None]
    with torch.no_grad():
        paths = classifier.paths(inputs)
    off = torch.randn((n, classifier.n_candidates, 1, 2), generator=generator)
    return inputs, paths + size * off


def test_the_predicted_quantile_holds_on_fresh_states_where_errors_are_large_and_where_small():
    classifier = bounded(0.9)
    learn_error(classifier, *noisy(classifier, 4000, 1), batch=500, seed=0, progress=lambda *_: None)
    inputs, paths = noisy(classifier, 4000, 2)
    with torch.no_grad():
        predicted = classifier.error(inputs).exp().numpy()
    above = errors(classifier, inputs, paths) > predicted
    large = (inputs[:, 0] > 0.3).numpy()
    small = (inputs[:, 0] < -0.3).numpy()
    assert 0.04 < above[large].mean() < 0.2
    assert 0.02 < above[small].mean() < 0.2
    assert np.median(predicted[large]) > 2 * np.median(predicted[small])


def test_learning_the_error_leaves_paths_as_they_are():
    classifier = bounded(0.9)
    before = {name: value.clone() for name, value in classifier.state_dict().items()}
    learn_error(classifier, *noisy(classifier, 300, 1), batch=100, seed=0, progress=lambda *_: None)
    changed = {
        name for name, value in classifier.state_dict().items() if not torch.equal(value, before[name])
    }
    assert changed == {name for name in before if name.startswith("error.")}


def test_the_same_seed_learns_the_same_error():
    found = []
    for _ in range(2):
        classifier = bounded(0.9)
        learn_error(classifier, *noisy(classifier, 300, 1), batch=100, seed=3, progress=lambda *_: None)
        found.append(classifier.error[0].weight.detach())
    assert torch.equal(*found)


@pytest.mark.parametrize("task", [POINT, CAR])
def test_the_margin_is_that_of_the_paths_and_the_weighted_error(task):
    torch.manual_seed(0)
    plain = PathClassifier(get_task(task), 3, (8,))
    classifier = bounded(0.99, task)
    assert torch.equal(plain.network[0].weight, classifier.network[0].weight)  # the same start of the paths
    if task == POINT:
        observation = SafetyGymVector(POINT, 60, vase="fixed").set_state(near_hazards(60, 0))
    else:
        env = SafetyGymVector(CAR, 60, seed=0, vase="fixed")
        observation, _ = env.reset()
    with torch.no_grad():
        error = classifier.error(classifier.velocity(observation)).exp().numpy()
    assert (error > 0.8).any()
    expected = plain.margin(observation) + 2.0 * np.maximum(error - 0.8, 0.0)
    np.testing.assert_allclose(classifier.margin(observation), expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(classifier.way_out(observation), plain.margin(observation), atol=1e-6)
