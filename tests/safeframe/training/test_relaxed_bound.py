"""The relaxed bound against the exact curve; its gradients against differences of roots found by SciPy."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import brentq
from scipy.special import expit

from safeframe.risk_curve import RiskCurve
from safeframe.training.relaxed_bound import RelaxedBound
from safeframe.types import SafeframeError

R_T = 0.1
PRIOR = np.array([0.3, 0.2])  # both above R_T: accepting everything does not qualify
SHIFT = np.array([0.2, 0.0])
TEMPERATURE, TEMPERATURE_OUTPUT = 0.4, 0.7


def tensor(values):
    return torch.tensor(values, dtype=torch.float64)


def relaxed(r_t=R_T, temperature=TEMPERATURE, output=TEMPERATURE_OUTPUT, shift=SHIFT, prior=PRIOR):
    return RelaxedBound(r_t, tensor(prior), tensor(shift), temperature, output)


def cases(n=40, seed=0):
    """Margins (n, 2) and labels (n, 2) of two constraints, unsafe ones riskier."""
    rng = np.random.default_rng(seed)
    unsafe = rng.random((n, 2)) < 0.4
    return rng.normal(size=(n, 2)) + 2.5 * unsafe, unsafe


def naive_bound(tau, margin, unsafe, prior, shift, temperature, sign=1.0):
    """b of one constraint, straight from the formula; sign -1 for the other side of tau."""
    upper = expit((sign * (tau - margin[unsafe]) + shift) / temperature).mean() * prior
    lower = expit((sign * (tau - margin[~unsafe]) - shift) / temperature).mean() * (1 - prior)
    return upper / (upper + lower)


def naive_root(margin, unsafe, prior, shift, temperature=TEMPERATURE):
    def excess(tau):
        return math.log(naive_bound(tau, margin, unsafe, prior, shift, temperature)) - math.log(R_T)

    return brentq(excess, margin.min() - 2, margin.max() + 2, xtol=1e-14, rtol=1e-14)


def naive_roots(margin, unsafe):
    return np.array([naive_root(margin[:, i], unsafe[:, i], PRIOR[i], SHIFT[i]) for i in range(2)])


def differences(function, at, h=1e-5):
    """Central differences of a scalar function at every entry of an array."""
    slope = np.zeros_like(at)
    for i in np.ndindex(*at.shape):
        step = np.zeros_like(at)
        step[i] = h
        slope[i] = (function(at + step) - function(at - step)) / (2 * h)
    return slope


def test_log_bound_is_the_formula():
    margin, unsafe = cases()
    tau = np.array([0.3, 1.4])
    got = relaxed().log_bound(tensor(tau), tensor(margin), tensor(unsafe))
    for i in range(2):
        wanted = naive_bound(tau[i], margin[:, i], unsafe[:, i], PRIOR[i], SHIFT[i], TEMPERATURE)
        assert math.exp(got[i]) == pytest.approx(wanted, rel=1e-12)


def exact_curves(margin, unsafe):
    return [
        RiskCurve(margin[:, i], unsafe[:, i].astype(int), PRIOR[i], SHIFT[i] / math.sqrt(2)) for i in range(2)
    ]


def test_bound_tends_to_the_exact_curve():
    margin, unsafe = cases(400)
    between = np.sort(np.concatenate([margin[:, 0] - SHIFT[0], margin[:, 0] + SHIFT[0]]))
    taus = ((between[1:] + between[:-1]) / 2)[np.diff(between) > 1e-4][40::40]
    exact = exact_curves(margin, unsafe)[0].bound(taus)
    errors = []
    for temperature in (0.3, 0.03, 0.003, 1e-6):
        bound = relaxed(temperature=temperature)
        got = [
            bound.log_bound(tensor([tau, tau]), tensor(margin), tensor(unsafe))[0].exp().item()
            for tau in taus
        ]
        errors.append(np.abs(got - exact).max())
    assert errors[0] > 1e-3  # the relaxation is one
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 1e-10


def separated_tails():
    """Two constraints whose exact bound crosses R_T upwards once: every late safe case lies above tau."""
    safe = np.linspace(-3.0, 1.0, 90)
    late = np.array([4.0, 4.5])
    unsafe = np.linspace(0.0, 3.5, 30) + 0.0123
    margin = np.concatenate([safe, late, unsafe])
    label = np.concatenate([np.zeros(92, bool), np.ones(30, bool)])
    return np.stack([margin, margin * 1.1 + 0.3], axis=1), np.stack([label, label], axis=1)


def test_threshold_tends_to_the_largest_exact_one():
    margin, unsafe = separated_tails()
    exact = []
    for curve, i in zip(exact_curves(margin, unsafe), range(2), strict=True):
        entries = np.sort(margin[unsafe[:, i], i]) - SHIFT[i]
        upwards = (curve.bound(entries) <= R_T) & (curve.bound(entries + 1e-9) > R_T)
        assert upwards.sum() == 1, "the test needs data with one crossing"
        exact.append(curve.largest_threshold(R_T).tau)
    gaps = []
    for temperature in (0.3, 0.03, 0.003, 1e-5):
        tau = relaxed(temperature=temperature).threshold(tensor(margin), tensor(unsafe))
        gaps.append((tau - tensor(exact)).abs().max().item())
    assert gaps[0] > 0.01
    assert gaps[-1] < 1e-3 * gaps[0]
    assert gaps[-1] < 2e-4


def test_threshold_solves_the_equation():
    margin, unsafe = cases()
    bound = relaxed()
    tau = bound.threshold(tensor(margin), tensor(unsafe))
    level = bound.log_bound(tau, tensor(margin), tensor(unsafe)).exp()
    np.testing.assert_allclose(level, R_T, rtol=1e-9)
    np.testing.assert_allclose(tau, naive_roots(margin, unsafe), atol=1e-9)


def test_gradient_of_the_threshold():
    margin, unsafe = cases()
    at = tensor(margin).requires_grad_()
    weight = np.array([1.0, -2.0])
    (relaxed().threshold(at, tensor(unsafe)) * tensor(weight)).sum().backward()
    wanted = differences(lambda m: float(naive_roots(m, unsafe) @ weight), margin)
    assert np.abs(wanted).max() > 0.01
    np.testing.assert_allclose(at.grad, wanted, atol=1e-7)


def naive_violation(margin, test_margin, unsafe, posterior):
    """Log violation (b, 2) with the posterior q of rejected inputs held at a given value."""
    accept = expit((naive_roots(test_margin, unsafe) - margin) / TEMPERATURE_OUTPUT)
    return np.log(accept * R_T + (1 - accept) * posterior)


def rejected_posterior(margin, unsafe, tau, temperature=TEMPERATURE):
    return np.array(
        [
            naive_bound(tau[i], margin[:, i], unsafe[:, i], PRIOR[i], SHIFT[i], temperature, sign=-1.0)
            for i in range(2)
        ]
    )


def test_log_violation_and_both_of_its_gradients():
    test_margin, unsafe = cases()
    margin = np.random.default_rng(1).normal(1.0, 1.5, (5, 2))
    weight = np.random.default_rng(2).normal(size=(5, 2))
    of_input, of_test = tensor(margin).requires_grad_(), tensor(test_margin).requires_grad_()
    value = relaxed().log_violation(of_input, of_test, tensor(unsafe))
    (value * tensor(weight)).sum().backward()

    posterior = rejected_posterior(test_margin, unsafe, naive_roots(test_margin, unsafe))
    np.testing.assert_allclose(
        value.detach(), naive_violation(margin, test_margin, unsafe, posterior), rtol=1e-8
    )
    through_input = differences(
        lambda m: (naive_violation(m, test_margin, unsafe, posterior) * weight).sum(), margin
    )
    through_test = differences(
        lambda m: (naive_violation(margin, m, unsafe, posterior) * weight).sum(), test_margin
    )
    assert min(np.abs(through_input).max(), np.abs(through_test).max()) > 1e-3
    np.testing.assert_allclose(of_input.grad, through_input, atol=1e-7)
    np.testing.assert_allclose(of_test.grad, through_test, atol=1e-7)


def test_one_hot_output_gives_the_threshold_or_the_posterior():
    test_margin, unsafe = cases()
    bound = relaxed(output=1e-6)
    tau = naive_roots(test_margin, unsafe)
    got = bound.log_violation(tensor(np.stack([tau - 0.01, tau + 0.01])), tensor(test_margin), tensor(unsafe))
    np.testing.assert_allclose(got[0], math.log(R_T), rtol=1e-12)
    np.testing.assert_allclose(got[1], np.log(rejected_posterior(test_margin, unsafe, tau)), rtol=1e-8)
    assert bool((got[1] > got[0]).all())


def test_a_larger_shift_raises_the_bound_and_lowers_the_threshold():
    margin, unsafe = cases()
    plain, shifted = relaxed(shift=np.zeros(2)), relaxed(shift=np.full(2, 0.5))
    for level in np.linspace(-3, 5, 9):
        tau = tensor([level, level])
        difference = shifted.log_bound(tau, tensor(margin), tensor(unsafe)) - plain.log_bound(
            tau, tensor(margin), tensor(unsafe)
        )
        assert bool((difference > 1e-3).all())
    lower = shifted.threshold(tensor(margin), tensor(unsafe)) < plain.threshold(
        tensor(margin), tensor(unsafe)
    )
    assert bool(lower.all())


def test_nothing_qualifies_and_everything_does():
    margin, unsafe = cases()
    reversed_order = relaxed().threshold(tensor(-margin), tensor(unsafe))
    assert bool((reversed_order < tensor(-margin).amin(0)).all())
    everything = relaxed(r_t=1.0).threshold(tensor(margin), tensor(unsafe))
    assert bool((everything > tensor(margin).amax(0)).all())


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_small_temperatures_give_no_nan_in_single_precision(sign):
    margin, unsafe = cases()
    at = torch.tensor(sign * 20 * margin, dtype=torch.float32).requires_grad_()
    bound = RelaxedBound(R_T, torch.tensor([0.3, 0.1]), torch.tensor([20.0, 0.0]), 0.01, 0.01)
    inputs = torch.linspace(-90, 150, 20)[:, None].expand(20, 2)
    value = bound.log_violation(inputs, at, torch.tensor(unsafe, dtype=torch.float32))
    value.sum().backward()
    assert bool(torch.isfinite(value).all())
    assert bool(torch.isfinite(at.grad).all())


@pytest.mark.parametrize("absent", [0.0, 1.0])
def test_an_absent_class_is_named(absent):
    margin, unsafe = cases()
    label = tensor(unsafe)
    label[:, 1] = absent
    for call in (
        lambda: relaxed().threshold(tensor(margin), label),
        lambda: relaxed().log_bound(tensor([0.0, 0.0]), tensor(margin), label),
        lambda: relaxed().log_violation(tensor(margin), tensor(margin), label),
    ):
        with pytest.raises(SafeframeError, match="every constraint needs both classes"):
            call()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"temperature": 0.0}, "temperatures"),
        ({"temperature": math.nan}, "temperatures"),
        ({"output": -1.0}, "temperatures"),
        ({"prior": np.array([0.3, 0.0])}, "prior"),
        ({"prior": np.array([1.0, 0.3])}, "prior"),
        ({"prior": np.array([math.nan, 0.3])}, "prior"),
        ({"shift": np.array([0.0, -0.1])}, "margin_shift"),
        ({"shift": np.array([0.0, math.nan])}, "margin_shift"),
        ({"r_t": 0.0}, "r_t"),
        ({"r_t": 1.1}, "r_t"),
        ({"r_t": math.nan}, "r_t"),
    ],
)
def test_settings_out_of_range(change, message):
    with pytest.raises(SafeframeError, match=message):
        relaxed(**change)
