"""Training of the classification models: warm-up, and the approximate loss."""

import dataclasses

import numpy as np
import pytest
import torch
from safetygym_small import POINT, near_hazards

from experiments.safetygym.agents.grid import default_candidates
from experiments.safetygym.guard import learning
from experiments.safetygym.guard.classifier import LogitClassifier, PathClassifier
from experiments.safetygym.guard.learning import tailor, warm_up
from experiments.safetygym.learning_settings import LearningSettings
from experiments.safetygym.records import METRES_PER_MARGIN
from experiments.safetygym.sim.clearance import CLEARANCE_HIGH, CLEARANCE_LOW
from experiments.safetygym.sim.task import get_task
from experiments.safetygym.sim.vector import SafetyGymVector
from experiments.safetygym.states import backup
from experiments.safetygym.states.internal_data import Shard
from experiments.support.tailoring_settings import AnchoredTailoringSettings
from safeframe.training.tailored_loss import TailoredLoss
from safeframe.types import SafeframeError

CANDIDATES = default_candidates(POINT)[[0, 7, 11, 14]]


def labelled(n: int, seed: int) -> Shard:
    """States with one hazard near, every candidate labelled, with paths."""
    state = near_hazards(n, seed)
    state.hazards[:, 1:] = 50.0
    observation = SafetyGymVector(POINT, n, seed=0, vase="fixed").set_state(state)
    task = get_task(POINT)
    clearance = backup.clearances(task, state, CANDIDATES)
    path = backup.paths(task, state, CANDIDATES)
    return Shard(observation, (clearance <= 0).astype(np.int8), clearance, path)


def separable(n: int, seed: int, boundary: float = 0.0) -> Shard:
    """Random observations; candidate j is unsafe where input 3 + j is above the boundary."""
    observation = np.random.default_rng(seed).normal(size=(n, 60)).astype(np.float32)
    return Shard(observation, (observation[:, 3:6] > boundary).astype(np.int8))


def quiet(*_: object) -> None:
    pass


def trained(data: Shard, settings: LearningSettings, seed: int = 0) -> LogitClassifier:
    torch.manual_seed(seed)
    classifier = LogitClassifier(get_task(POINT), 3, (16,))
    warm_up(classifier, data, settings, seed, quiet)
    return classifier


def test_paths_learned_from_some_states_give_clearances_in_others():
    torch.manual_seed(0)
    classifier = PathClassifier(get_task(POINT), len(CANDIDATES), (64,))
    held_out = labelled(400, 99)
    inside = (held_out.clearance > CLEARANCE_LOW) & (held_out.clearance < CLEARANCE_HIGH)

    def error() -> np.ndarray:
        return np.abs(-METRES_PER_MARGIN * classifier.margin(held_out.observation) - held_out.clearance)[
            inside
        ]

    classifier.standardise(held_out.observation)
    before = np.median(error())
    warm_up(classifier, labelled(3000, 1), LearningSettings(steps=1500, batch=250, rate=8e-3), 0, quiet)
    assert inside.mean() > 0.2
    assert before > 0.03
    assert np.median(error()) < 0.004
    assert np.quantile(error(), 0.9) < 0.025


def test_a_path_classifier_needs_paths():
    classifier = PathClassifier(get_task(POINT), 3, (8,))
    with pytest.raises(SafeframeError, match="with_paths"):
        warm_up(classifier, separable(50, 0), LearningSettings(steps=1), 0, quiet)


def test_cross_entropy_separates_and_leaves_out_what_is_not_labelled():
    """A third of the labels is missing; the truth there is inverted, so that using it would be noticed."""
    data, held_out = separable(3000, 1), separable(1000, 2)
    hidden = np.random.default_rng(0).random(data.unsafe.shape) < 0.33
    classifier = trained(
        dataclasses.replace(data, unsafe=np.where(hidden, -1, data.unsafe).astype(np.int8)),
        LearningSettings(steps=300, batch=300, rate=1e-2),
    )
    assert ((classifier.margin(held_out.observation) > 0) == held_out.unsafe).mean() > 0.93


def test_unlabelled_candidates_get_no_gradient():
    data = separable(500, 1)
    unsafe = data.unsafe.copy()
    unsafe[:, 2] = -1
    settings = LearningSettings(steps=20, batch=100)
    one = trained(dataclasses.replace(data, unsafe=unsafe), settings).network[-1].weight.detach()
    torch.manual_seed(0)
    start = LogitClassifier(get_task(POINT), 3, (16,)).network[-1].weight.detach()
    assert torch.equal(one[4:], start[4:])
    assert not torch.equal(one[:4], start[:4])


SMALL = LearningSettings(
    steps=150, batch=300, rate=1e-2, tailored_steps=15, tailored_rate=2e-3, inputs=300, test_states=600
)


def test_the_same_seed_trains_the_same():
    data = separable(1000, 3, boundary=1.5)
    results = []
    for seed in (0, 0, 1):
        classifier = trained(data, SMALL)
        tailor(classifier, data, 0.05, 0.1, SMALL, seed, quiet)
        results.append(classifier.margin(data.observation))
    np.testing.assert_array_equal(results[0], results[1])
    assert not np.array_equal(results[0], results[2])
    assert np.isfinite(results[0]).all()


def test_the_weights_end_as_their_running_average():
    data = separable(1000, 3, boundary=1.5)
    start = trained(data, SMALL)
    moved = {}
    for average in (0.0, 0.999):
        classifier = LogitClassifier(get_task(POINT), 3, (16,))
        classifier.load_state_dict(start.state_dict())
        tailor(classifier, data, 0.05, 0.1, dataclasses.replace(SMALL, average=average), 0, quiet)
        difference = classifier.network[-1].weight - start.network[-1].weight
        moved[average] = float(difference.detach().norm())
    assert 0 < moved[0.999] < 0.5 * moved[0.0]


def test_the_gradient_descends_by_what_it_promises():
    """A small step against the gradient lowers the loss, though the posterior of the output "unsafe", held
    fixed in the gradient, takes part of it back."""
    data = separable(1000, 3, boundary=1.5)
    classifier = trained(data, SMALL).double()
    problem = learning.AcceptProblem(classifier, data, 0.1 / 2**0.5, SMALL, 5)
    problem.features = tuple(part.double() for part in problem.features)
    problem.unsafe, problem.prior = problem.unsafe.double(), problem.prior.double()
    step_loss = TailoredLoss(0.05, SMALL.penalty, SMALL.perturbation, 0.5, 0.5)

    def loss() -> torch.Tensor:
        problem.stream.manual_seed(5)
        return step_loss(problem.cases(classifier, problem.stream))

    value = loss()
    value.backward()
    gradients = [p.grad.clone() for p in classifier.parameters()]
    square = float(sum((g * g).sum() for g in gradients))
    assert square > 0
    step = 1e-4 / square**0.5
    with torch.no_grad():
        for p, g in zip(classifier.parameters(), gradients, strict=True):
            p -= step * g
    drop = float(value.detach() - loss().detach())
    assert 0.1 < drop / (step * square) < 1.2


def test_accepting_is_judged_by_the_bound():
    """Two candidates, one hardly ever and one almost surely unsafe; minimisers by hand."""
    settings = dataclasses.replace(SMALL, penalty=0.3, perturbation=1.5, violation_cost=10.0)
    actions = learning.accept_or_not(torch.tensor([0.0, 1.0]), settings)
    loss = actions.gated(1e-3, settings.penalty, settings.perturbation)
    output = torch.tensor([[np.log(1e-5)], [np.log(0.9)]], dtype=torch.float32)
    np.testing.assert_array_equal(loss.minimiser(0.0, output)[0], [1, 0])
    np.testing.assert_array_equal(loss.minimiser(1.5, output)[0], [1, 0])
    # safe and feasible: accepted with and without L, so L~ is its L = -1; rejected both ways: 0
    np.testing.assert_allclose(loss(output), [-1.0, 0.0], atol=1e-6)
    # unsafe but feasible by a little: without L it is accepted (J = -1), with L not (0): (0 + 1) / 1.5
    output = torch.full((2, 1), float(np.log(1e-4)))
    np.testing.assert_allclose(loss(output), [-1.0, 1 / 1.5], atol=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda u: np.zeros_like(u), "safe and unsafe ones"),
        (lambda u: np.ones_like(u), "safe and unsafe ones"),
        (lambda u: np.where(np.arange(u.size).reshape(u.shape) == 4, -1, u), "every candidate labelled"),
    ],
)
def test_the_approximate_loss_refuses_data_that_it_cannot_use(change, message):
    data = separable(1000, 3)
    classifier = LogitClassifier(get_task(POINT), 3, (8,))
    changed = dataclasses.replace(data, unsafe=change(data.unsafe).astype(np.int8))
    settings = dataclasses.replace(SMALL, inputs=10, test_states=20)
    with pytest.raises(SafeframeError, match=message):
        tailor(classifier, changed, 0.05, 0.1, settings, 0, quiet)


def test_steps_whose_states_have_no_unsafe_case_are_drawn_again(monkeypatch):
    data = separable(2000, 3)
    data.unsafe[:] = 0
    data.unsafe[1234, 1] = 1  # one state of 2,000, where a step has 50
    settings = dataclasses.replace(SMALL, test_states=50, inputs=50, tailored_steps=2)
    classifier = LogitClassifier(get_task(POINT), 3, (8,))

    def some_steps():
        tailor(classifier, data, 0.1, 0.0, settings, 0, quiet)

    some_steps()
    monkeypatch.setattr(learning, "DRAWS", 1)
    with pytest.raises(SafeframeError, match="drawn 1 times; raise test_states"):
        some_steps()


def test_states_are_held_out_by_blocks_and_a_checkpoint_is_chosen_on_them():
    data = separable(2000, 3, boundary=1.5)
    more = AnchoredTailoringSettings(selection_share=0.25, checkpoints=3, alpha=0.1, anchor=0.1)
    kept, held_out = learning.split_states(data, more)
    assert held_out is not None
    assert len(held_out.observation) == 500
    assert len(kept.observation) == 1500
    both = {row.tobytes() for part in (kept, held_out) for row in part.observation}
    assert len(both) == 2000
    assert learning.split_states(data, AnchoredTailoringSettings())[1] is None
    classifier = trained(kept, SMALL)
    before = classifier.margin(held_out.observation)
    report = tailor(classifier, kept, 0.05, 0.1, SMALL, 0, quiet, more, held_out)
    assert report is not None
    assert report.selected is not None
    assert report.kept == (5, 10, 15)
    same = np.array_equal(classifier.margin(held_out.observation), before)
    assert same == (report.step == 0)
