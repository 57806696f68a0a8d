"""Tailored training: gradients by differences, anchor, open cases, noise, parts of a batch, interruptions."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits

from safeframe.threshold_rule import Conservative
from safeframe.training.finite_actions import FiniteActions
from safeframe.training.gradient_noise import gradient_noise
from safeframe.training.loop import TrainingSettings, generator_of
from safeframe.training.micro_batches import in_parts
from safeframe.training.never_harm import NeverHarm, SelectionFold
from safeframe.training.schedules import geometric
from safeframe.training.tailored import Fold, TailoredSettings, tailor
from safeframe.training.tailored_loss import StepCases, TailoredLoss, anchor_of, logistic
from safeframe.types import SafeframeError

R_T = 0.1
PLAIN = {"penalty": 1.2, "perturbation": 1.5, "temperature": 0.5, "temperature_output": 0.7}


def cases_of(margin, test_margin, seed=0):
    """Step cases of two constraints with all four actions; labels and values are fixed by the seed."""
    generator = torch.Generator().manual_seed(seed)
    b, n = len(margin), len(test_margin)
    draw = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)  # noqa: E731
    uses = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]], dtype=torch.float64)
    objective = -uses.sum(1) + 0.1 * draw(b, 4)
    inner = FiniteActions(objective, objective + 0.5 * draw(b, 4), uses)
    unsafe = (torch.rand(n, 2, generator=generator) < 0.3).double()
    own = (torch.rand(b, 2, generator=generator) < 0.3).double()
    prior = torch.tensor([0.3, 0.25], dtype=torch.float64)
    return StepCases(  # unsafe cases have the larger margins
        margin + 2.5 * own,
        test_margin + 2.5 * unsafe,
        unsafe,
        prior,
        torch.tensor([0.1, 0.0], dtype=torch.float64),
        inner,
        unsafe=own,
    )


def margins(b=16, n=24, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(k, 2, generator=generator, dtype=torch.float64) for k in (b, n))


def slope(loss, margin, test_margin):
    leaves = [part.clone().requires_grad_() for part in (margin, test_margin)]
    return torch.autograd.grad(loss(cases_of(*leaves)), leaves)


@pytest.mark.parametrize("anchor", [0.0, 0.7])
def test_the_gradient_of_both_paths_by_differences(anchor):
    """Through the inputs and through the internal test cases; the posterior of a rejected case is held."""
    loss, h = TailoredLoss(R_T, **PLAIN, anchor=anchor), 1e-5
    found = margins()
    slopes = slope(loss, *found)
    checked = 0
    for which in (0, 1):
        for i in np.ndindex(*found[which].shape):
            values = []
            for sign in (1, -1, 0):
                moved = [part.clone() for part in found]
                moved[which][i] += sign * h
                values.append(_with_fixed_posterior(loss, found, moved))
            up, down, middle = values
            if abs(up + down - 2 * middle) / h > 1e-3:
                continue  # a minimiser changes within the step
            checked += 1
            assert float(slopes[which][i]) == pytest.approx((up - down) / (2 * h), abs=2e-6)
    assert checked > 30
    assert slopes[1].abs().max() > 1e-3


def _with_fixed_posterior(loss, at, moved):
    """The loss at moved margins, with q of RelaxedBound.log_violation as at the first ones: it is held
    fixed by definition, so differences hold it too."""
    from safeframe.training.relaxed_bound import RelaxedBound

    base = cases_of(*at)
    bound = RelaxedBound(
        R_T, base.prior, base.margin_shift, PLAIN["temperature"], PLAIN["temperature_output"]
    )
    cases = cases_of(*moved)
    with torch.no_grad():
        tau0 = bound.threshold(base.test_margin, base.test_unsafe)
        u, s = bound._log_shares(base.test_margin - tau0, base.test_unsafe)
        q = u - torch.logaddexp(u, s)
        tau = bound.threshold(cases.test_margin, cases.test_unsafe)
        position = (cases.margin - tau) / PLAIN["temperature_output"]
        log_violation = torch.logaddexp(
            nn.functional.logsigmoid(-position) + math.log(R_T), nn.functional.logsigmoid(position) + q
        )
        value = cases.inner.gated(R_T, PLAIN["penalty"], PLAIN["perturbation"])(log_violation).mean()
        return float(value + loss.anchor * anchor_of(cases))


def test_the_priced_gradient_passes_through_inputs_and_internal_test_cases():
    loss = TailoredLoss(R_T, **PLAIN, form="priced", price=3.0)
    own, through_tests = slope(loss, *margins(40, 80))
    assert own.abs().max() > 1e-3
    assert through_tests.abs().max() > 1e-4
    # moving all margins alike moves tau with them: nothing changes
    total = own.sum(0) + through_tests.sum(0)
    assert total.abs().max() < 1e-9 * (own.abs().sum() + through_tests.abs().sum())


def test_the_anchor_is_the_mean_cross_entropy_of_the_same_cases():
    margin, test_margin = margins()
    leaves = [part.clone().requires_grad_() for part in (margin, test_margin)]
    cases = cases_of(*leaves)
    got = torch.autograd.grad(anchor_of(cases), leaves)
    count = margin.numel() + test_margin.numel()
    pairs = (cases.margin, cases.unsafe), (cases.test_margin, cases.test_unsafe)
    for slopes, (part, label) in zip(got, pairs, strict=True):
        torch.testing.assert_close(slopes, (torch.sigmoid(part.detach()) - label) / count)
    plain, anchored = (
        TailoredLoss(R_T, **PLAIN, anchor=a)(cases_of(margin, test_margin)) for a in (0.0, 2.0)
    )
    torch.testing.assert_close(anchored, plain + 2.0 * anchor_of(cases_of(margin, test_margin)))


def test_weights_of_the_anchor():
    cases = cases_of(*margins())
    only = torch.zeros_like(cases.test_margin)
    only[3, 0] = 5.0
    weighed = StepCases(
        cases.margin, cases.test_margin, cases.test_unsafe, cases.prior, cases.margin_shift, cases.inner,
        weight=only,
    )  # fmt: skip
    wanted = binary_cross_entropy_with_logits(cases.test_margin[3, 0], cases.test_unsafe[3, 0])
    torch.testing.assert_close(anchor_of(weighed), wanted)
    own = StepCases(
        cases.margin, cases.test_margin, cases.test_unsafe, cases.prior, cases.margin_shift, cases.inner,
        likelihood=lambda: torch.tensor(7.0),
    )  # fmt: skip
    assert anchor_of(own) == 7.0


def test_open_cases_only_keeps_the_value_and_cuts_settled_gradients():
    found = margins(30, 200)
    whole, some = TailoredLoss(R_T, **PLAIN), TailoredLoss(R_T, **PLAIN, open_width=1.0)
    torch.testing.assert_close(some(cases_of(*found)), whole(cases_of(*found)), atol=0, rtol=0)
    cut, every = slope(some, *found), slope(whole, *found)
    for part, full in zip(cut, every, strict=True):
        kept = part != 0
        torch.testing.assert_close(part[kept], full[kept])
        assert 0 < kept.sum() < (full != 0).sum()
    wide = slope(TailoredLoss(R_T, **PLAIN, open_width=1e6), *found)
    for part, full in zip(wide, every, strict=True):
        torch.testing.assert_close(part, full)


def test_schedules_are_used_by_the_step():
    found = margins()
    moving = TailoredLoss(
        R_T, geometric(0.4, 4.0), geometric(1.5, 0.1), geometric(0.5, 0.05), geometric(0.7, 0.07)
    )
    torch.testing.assert_close(
        moving(cases_of(*found), 0, 9), TailoredLoss(R_T, 0.4, 1.5, 0.5, 0.7)(cases_of(*found))
    )
    torch.testing.assert_close(
        moving(cases_of(*found), 8, 9), TailoredLoss(R_T, 4.0, 0.1, 0.05, 0.07)(cases_of(*found))
    )


def test_relative_temperatures_do_not_see_the_scale_of_margins():
    margin, test_margin = margins()
    loss = TailoredLoss(R_T, 0.4, 1.5, 0.3, 0.3, relative=True)
    cases = cases_of(margin, test_margin)
    names = "margin", "test_margin", "margin_shift"
    scaled = StepCases(**(vars(cases) | {name: 5 * getattr(cases, name) for name in names}))
    torch.testing.assert_close(loss(cases), loss(scaled))


@pytest.mark.parametrize(
    "change",
    [
        {"form": "free"}, {"anchor": -1.0}, {"price": -1.0}, {"open_width": 0.0}, {"temperature": 0.0},
        {"perturbation": geometric(1.0, 1.0).start - 1.0}, {"penalty": -0.1},
    ],
)  # fmt: skip
def test_settings_of_the_loss_out_of_range(change):
    with pytest.raises(SafeframeError, match=next(iter(change))):
        TailoredLoss(R_T, **(PLAIN | change))


def test_the_logistic_by_its_equations():
    """At the solution the weighted residuals are orthogonal to 1 and to the margin."""
    generator = torch.Generator().manual_seed(0)
    margin = torch.randn(500, 2, generator=generator, dtype=torch.float64) * torch.tensor([1.0, 30.0])
    unsafe = (
        torch.rand(500, 2, generator=generator) < torch.sigmoid(margin / torch.tensor([1.0, 30.0]) - 1)
    ).double()
    offset, slopes = logistic(margin, unsafe)
    n = unsafe.sum(0), (1 - unsafe).sum(0)
    target = unsafe * (n[0] + 0.5) / (n[0] + 1) + (1 - unsafe) * 0.5 / (n[1] + 1)
    residual = torch.sigmoid(offset + slopes * margin) - target
    assert residual.sum(0).abs().max() < 1e-6
    assert (residual * margin / torch.tensor([1.0, 30.0])).sum(0).abs().max() < 1e-6
    separable = logistic(torch.arange(10.0)[:, None], (torch.arange(10) > 4).float()[:, None])
    assert all(bool(torch.isfinite(part).all()) for part in separable)


def test_noise_of_a_gradient_that_is_known():
    """d/dw of w * x with x ~ N(3, 2): signal 3, noise 2."""
    module = nn.Linear(1, 1, bias=False)
    generators = [generator_of(0, step) for step in range(4000)]
    found = gradient_noise(
        module, lambda model, g: model.weight.sum() * (3 + 2 * torch.randn((), generator=g)), generators
    )
    assert found.signal == pytest.approx(3.0, abs=0.15)
    assert found.noise == pytest.approx(2.0, abs=0.1)
    assert found.ratio == pytest.approx(1.5, abs=0.1)
    assert module.weight.grad is None
    sure = gradient_noise(module, lambda model, g: 0 * g.initial_seed() + model.weight.sum(), generators[:3])
    assert (sure.noise, sure.ratio) == (0.0, math.inf)
    with pytest.raises(SafeframeError, match="two at least"):
        gradient_noise(module, lambda model, g: model.weight.sum(), generators[:1])


def test_parts_of_a_batch_give_the_same_values_and_gradients():
    torch.manual_seed(0)
    network, inputs = (
        nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 2)).double(),
        torch.randn(50, 3).double(),
    )
    largest = []

    def of(rows):
        largest.append(len(rows))
        return network(inputs[rows])

    results = []
    for size in (None, 7, 50, 1):
        network.zero_grad()
        value = in_parts(of, torch.arange(50), size)
        value.square().sum().backward()
        results.append((value.detach(), [weight.grad.clone() for weight in network.parameters()]))
    for value, slopes in results[1:]:
        torch.testing.assert_close(value, results[0][0])
        for got, wanted in zip(slopes, results[0][1], strict=True):
            torch.testing.assert_close(got, wanted)
    largest.clear()
    in_parts(of, torch.arange(50), 7).sum().backward()
    assert max(largest) == 7
    assert len(largest) == 16  # forward, and again for the gradient
    with pytest.raises(SafeframeError, match="must be > 0"):
        in_parts(of, torch.arange(5), 0)


class Small:
    """A line that has to learn to accept below 1 of two features."""

    def __init__(self, n=400, seed=0):
        generator = torch.Generator().manual_seed(seed)
        self.features = torch.randn(n, 2, generator=generator)
        self.unsafe = (self.features[:, 0] + 0.3 * torch.randn(n, generator=generator) > 1).float()

    def cases(self, module, generator):
        rows = torch.randperm(len(self.features), generator=generator)[:200]
        margin, label = module(self.features[rows]), self.unsafe[rows]
        nothing = torch.zeros(50)
        inner = FiniteActions(
            torch.stack([nothing, nothing - 1], 1), torch.stack([nothing, 2 * label[:50] - 1], 1),
            torch.tensor([[0.0], [1.0]]),
        )  # fmt: skip
        tests = label[50:, None]
        return StepCases(
            margin[:50], margin[50:], tests, tests.mean(0), torch.zeros(1), inner, unsafe=label[:50, None]
        )

    def fold(self):
        label = self.unsafe.numpy().astype(int)
        return Fold(
            SelectionFold(label), lambda module: module(self.features)[:, 0].detach().double().numpy()
        )


def start(good=False):
    line = nn.Linear(2, 1)
    with torch.no_grad():
        line.weight.copy_(torch.tensor([[3.0, 0.0]] if good else [[1.0, 2.0]]))
        line.bias.fill_(-3.0 if good else -1.0)
    return line


def settings(steps=40, **more):
    loss = TailoredLoss(R_T, geometric(0.4, 2.0), 1.5, 0.5, 0.5, anchor=0.1)
    training = TrainingSettings(steps, 0.05, one_cycle=False, average=0.8, checkpoint_every=7)
    selection = NeverHarm(0.1, Conservative(radius=0.0), 99)
    return TailoredSettings(loss, training, selection=selection, **more)


def same(first, second):
    return all(
        torch.equal(a, b)
        for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    )


def test_an_interrupted_training_gives_the_same_bits_report_and_choice(tmp_path):
    chosen = settings(noise_every=10, noise_draws=3)
    problem, fresh = Small(), Small(600, 1).fold()
    whole = tailor(start(), problem, chosen, 3, fresh)
    path = tmp_path / "state.pt"

    def stopping(steps):
        for step in steps:
            if step == 25:
                raise KeyboardInterrupt
            yield step

    with pytest.raises(KeyboardInterrupt):
        tailor(start(), problem, chosen, 3, fresh, path, stopping)
    resumed = tailor(start(), problem, chosen, 3, fresh, path)
    assert same(resumed.module, whole.module)
    assert same(resumed.last, whole.last)
    assert resumed.report == whole.report
    assert [n.step for n in whole.report.noise] == [0, 10, 20, 30]
    assert whole.report.kept == (10, 20, 30, 40)
    assert not same(tailor(start(), problem, chosen, 4, fresh).last, whole.last)


def test_a_clear_gain_is_taken_and_without_a_fold_the_last_weights_are():
    problem, fresh = Small(2000), Small(1500, 1).fold()
    found = tailor(start(), problem, settings(80), 0, fresh)
    assert found.report.step > 0
    assert found.report.selected.gain > 0.02
    last = tailor(start(), problem, settings(80), 0)
    assert last.report.selected is None
    assert last.report.step == 80
    assert same(last.module, found.last)  # looking on changes nothing
    assert not last.module.training


def test_what_is_no_gain_is_not_taken():
    module = start(good=True)
    found = tailor(module, Small(150), settings(20), 0, Small(400, 1).fold())
    assert found.report.step == 0
    assert same(found.module, module)
    assert not same(found.last, module)


def test_measuring_noise_moves_nothing():
    problem = Small()
    quiet, measured = (tailor(start(), problem, settings(20, noise_every=n)) for n in (0, 5))
    assert same(quiet.module, measured.module)
    assert quiet.report.noise == ()
    assert len(measured.report.noise) == len(measured.report.anchor_noise) == 4


@pytest.mark.parametrize(
    "change", [{"checkpoints": 0}, {"checkpoints": 99}, {"noise_every": -1}, {"noise_draws": 1}]
)
def test_settings_out_of_range(change):
    with pytest.raises(SafeframeError, match=next(iter(change))):
        settings(**change)
