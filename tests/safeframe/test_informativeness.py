import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from safeframe.informativeness import (
    HalvesRadius,
    alternating_runs,
    block_measured_radius,
    dkw_band,
    lipschitz_lower,
    lipschitz_upper,
    measured_radius,
    radius_between,
)
from safeframe.types import SafeframeError
from safeframe.wasserstein import wasserstein_infinity

samples = st.lists(st.integers(-6, 6), min_size=1, max_size=12).map(lambda v: np.array(v, float))


def holds(reference, other, shift, delta, side):
    """The definition: the inequalities of half-lines at every threshold, with strict acceptance."""
    below = lambda sample, tau: (sample < tau).mean()  # noqa: E731
    points = np.concatenate(
        [reference, other, reference + shift, reference - shift, other + shift, other - shift]
    )
    taus = np.unique(np.concatenate([points, points + 1e-6, points - 1e-6]))
    slack = 1e-9
    fine = True
    for tau in taus:
        if side != "upper":
            fine &= below(other, tau) <= below(reference, tau + shift + 1e-7) + delta + slack
        if side != "lower":
            fine &= below(other, tau) >= below(reference, tau - shift - 1e-7) - delta - slack
    return fine


@given(samples, samples, st.sampled_from([0.0, 0.1, 0.34]), st.sampled_from(["both", "lower", "upper"]))
@settings(max_examples=300, deadline=None)
def test_measured_shift_is_the_smallest_that_satisfies_the_definition(reference, other, delta, side):
    found = measured_radius(reference, other, delta, side=side)
    assert holds(reference, other, found.margin_shift, delta, side)
    if found.margin_shift > 0:
        assert not holds(reference, other, found.margin_shift - 1e-3, delta, side)
    assert found.radius == pytest.approx(found.margin_shift / math.sqrt(2))


@given(st.integers(0, 10_000), st.integers(1, 7))
@settings(max_examples=50, deadline=None)
def test_without_trimming_it_is_the_bottleneck_coupling(seed, n):
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(2, n))
    assert measured_radius(a, b).margin_shift == pytest.approx(np.abs(np.sort(a) - np.sort(b)).max())
    assert wasserstein_infinity(a[:, None], b[:, None]) == pytest.approx(wasserstein_infinity(a, b))


def test_bottleneck_matching_in_the_plane_against_assignment():
    """The least r for which an assignment without a pair further apart than r exists, by another solver."""
    rng = np.random.default_rng(1)
    for n in (1, 5, 30):
        a, b = rng.normal(size=(2, n, 2))
        distance = cdist(a, b)
        possible = []
        for r in np.unique(distance):
            cost = (distance > r).astype(float)
            possible += [r] if cost[linear_sum_assignment(cost)].sum() == 0 else []
        assert wasserstein_infinity(a, b) == min(possible)


def test_sides_window_and_trimming():
    reference, other = np.arange(10.0), np.arange(10.0)
    other[0] = -5.0  # one unsafe case looks far safer than any in the reference
    assert measured_radius(reference, other).margin_shift == 5.0
    assert measured_radius(reference, other, side="upper").margin_shift == 0.0
    assert measured_radius(reference, other, delta=0.1).margin_shift == 0.0
    assert measured_radius(reference, other, window=(-2.0, 3.0)).margin_shift == 2.0
    assert measured_radius(-reference, -other, window=(-3.0, 2.0)).margin_shift == 2.0


def test_band():
    found = measured_radius(np.arange(50.0), np.arange(200.0) / 4, delta=0.02, confidence=0.95)
    assert found.band == pytest.approx(math.sqrt(math.log(40) / 400))
    assert found.mass == pytest.approx(0.02 + found.band)
    assert (found.n_reference, found.n_other) == (50, 200)
    assert dkw_band(800, 0.95) == pytest.approx(found.band / 2)
    assert dkw_band(1, 0.95) == pytest.approx(math.sqrt(math.log(40) / 2))


def test_blocks_find_the_block_that_drifted():
    rng = np.random.default_rng(2)
    block = np.repeat(np.arange(4), 2000)
    label = rng.integers(0, 2, 8000)
    margin = rng.uniform(size=8000) + 3.0 * label
    steady = block_measured_radius(margin, label, block)
    assert steady.radius < 0.05
    drifted = block_measured_radius(np.where((block == 2) & (label == 1), margin - 0.7, margin), label, block)
    assert drifted.radius == pytest.approx(0.7 / math.sqrt(2), abs=0.05)
    assert np.nanargmax(drifted.margin_shift[:, 1]) == 2
    assert drifted.blocks == [0, 1, 2, 3]
    assert drifted.quantile(1.0) == pytest.approx(drifted.radius)
    harmless_margin = np.where((block == 2) & (label == 0), margin - 0.7, margin)
    harmless = block_measured_radius(harmless_margin, label, block)
    harmless = block_measured_radius(
        np.where((block == 2) & (label == 0), margin - 0.7, margin), label, block
    )
    assert harmless.margin_shift[2, 0] == 0.0


def test_blocks_without_a_class():
    block = np.repeat(np.arange(3), 4)
    label = np.array([0, 1, 0, 1, 0, 1, 0, 1, 0, 0, 0, 0])
    found = block_measured_radius(np.arange(12.0), label, block)
    assert np.isnan(found.margin_shift[2, 1])
    with pytest.raises(SafeframeError, match="fewer than two blocks"):
        block_measured_radius(np.arange(12.0), (np.arange(12) == 0).astype(int), block)
    with pytest.raises(SafeframeError, match="at least two blocks"):
        block_measured_radius(np.arange(4.0), label[:4], np.zeros(4))


def test_lipschitz_bounds_enclose_the_constant():
    torch.manual_seed(0)
    linear = torch.nn.Linear(5, 3).double()
    exact = float(torch.linalg.svdvals(linear.weight.detach())[0])
    assert lipschitz_upper(linear) == pytest.approx(exact)
    points = np.random.default_rng(0).normal(size=(50, 5))
    below = lipschitz_lower(lambda x: linear(torch.from_numpy(x)), points)
    assert 0.9 * exact < below <= exact * (1 + 1e-6)
    net = torch.nn.Sequential(linear, torch.nn.GELU(), torch.nn.Sequential(torch.nn.Linear(3, 2).double()))
    assert lipschitz_lower(lambda x: net(torch.from_numpy(x)), points) <= lipschitz_upper(net)
    with pytest.raises(SafeframeError, match="LSTM"):
        lipschitz_upper(torch.nn.Sequential(torch.nn.LSTM(3, 3)))
    with pytest.raises(SafeframeError, match="two"):
        lipschitz_lower(lambda x: x, points[:1])


@pytest.mark.parametrize(
    "layer", [torch.nn.ReLU(), torch.nn.Tanh(), torch.nn.Sigmoid(), torch.nn.SiLU(), torch.nn.GELU(),
              torch.nn.Softplus(), torch.nn.LeakyReLU(0.2), torch.nn.LeakyReLU(2.0)]
)  # fmt: skip
def test_slopes_of_activations(layer):
    x = torch.linspace(-8, 8, 200_001, dtype=torch.float64, requires_grad=True)
    slope = torch.autograd.grad(layer(x).sum(), x)[0].abs().max().item()
    assert slope <= lipschitz_upper(layer) <= slope * 1.001


@pytest.mark.parametrize(
    "call",
    [
        lambda: measured_radius(np.array([]), np.array([1.0])),
        lambda: measured_radius(np.array([1.0]), np.array([np.nan])),
        lambda: measured_radius(np.array([1.0]), np.array([1.0]), delta=1.0),
        lambda: measured_radius(np.array([1.0]), np.array([1.0]), side="left"),
        lambda: measured_radius(np.array([1.0]), np.array([1.0]), window=(1.0, 1.0)),
        lambda: dkw_band(0, 0.9),
        lambda: wasserstein_infinity(np.zeros((2, 2)), np.zeros((3, 2))),
        lambda: wasserstein_infinity(np.full((2, 2), np.nan), np.zeros((2, 2))),
        lambda: block_measured_radius(np.zeros(3), np.zeros(2, int), np.zeros(3)),
    ],
)
def test_bad_input_is_refused(call):
    with pytest.raises(SafeframeError):
        call()


def every_gap(reference, other, delta, low, high):
    """The shift by its definition at every entry of the other sample, without skipping any."""
    n, m = len(other), len(reference)
    needed = np.ceil(m * (np.arange(1, n + 1) / n - delta) - 1e-9).astype(int)
    gaps = [reference[k - 1] - max(x, low) for k, x in zip(needed, other, strict=True) if k > 0 and x < high]
    return max([0.0, *gaps])


def test_blocks_that_are_skipped_change_nothing():
    rng = np.random.default_rng(0)
    for _ in range(60):
        n, m = rng.integers(1, 9000, 2)
        digits = int(rng.integers(1, 6))  # few digits: many ties
        reference = np.sort(rng.normal(size=m).round(digits))
        other = np.sort(rng.normal(0.2 * rng.normal(), 1.0, n).round(digits))
        delta, low = rng.choice([0.0, 1e-3, 0.1, 0.5]), rng.choice([-np.inf, -1.0, 0.0, 0.5])
        high = rng.choice([0.6, 1.0, 2.0, np.inf])
        found = measured_radius(reference, other, delta, side="lower", window=(low, high)).margin_shift
        assert found == every_gap(reference, other, delta, low, high)


def test_a_block_whose_mass_ends_within_it_is_not_skipped():
    """One case of the reference, all of whose mass is needed from the middle of a block on: the gap is
    largest there, at no block's first entry.
    """
    other, reference = np.arange(5000) / 1000.0, np.array([100.0])
    for delta in (0.0, 0.0301, 0.1, 0.2999):
        found = measured_radius(reference, other, delta, side="lower").margin_shift
        assert found == every_gap(reference, other, delta, -np.inf, np.inf)


def test_blocks_leave_the_trimmed_mass_out():
    margin, block = np.array([0.0, 1.0, 2.0, 3.0, -9.0, 1.0, 2.0, 3.0]), np.repeat([0, 1], 4)
    both = np.concatenate([margin, margin]), np.repeat([0, 1], 8), np.concatenate([block, block])
    whole, trimmed = (block_measured_radius(*both, delta=delta) for delta in (0.0, 0.25))
    assert whole.margin_shift[1, 1] == 9.0  # an unsafe case of block 1 lies lower than any of block 0
    assert trimmed.margin_shift[1, 1] == 0.0


def test_a_block_radius_says_all_of_its_parts():
    margin = np.array([0.0, 1.0, 0.5, 3.0, 0.0, 2.5])
    label, block = np.array([0, 1, 0, 1, 0, 1]), np.array([7, 7, 8, 8, 8, 7])
    found = block_measured_radius(margin, label, block, delta=0.1, window=(-1.0, 4.0))
    assert (found.blocks, found.delta) == ([7, 8], 0.1)
    for row, key in enumerate((7, 8)):
        for state, side in ((0, "upper"), (1, "lower")):
            mine, rest = margin[(block == key) & (label == state)], margin[(block != key) & (label == state)]
            one = measured_radius(rest, mine, 0.1, side=side, window=(-1.0, 4.0)).margin_shift
            assert found.margin_shift[row, state] == one
    assert found.radius == found.margin_shift.max() / np.sqrt(2)
    larger = found.margin_shift.max(axis=1)
    assert found.quantile(0.5) == pytest.approx(np.quantile(larger, 0.5) / np.sqrt(2))
    assert found.quantile(1.0) == found.radius
    narrow = block_measured_radius(margin, label, block, delta=0.1, window=(5.0, 6.0))
    assert narrow.radius < found.radius


def test_shapes_of_blocks():
    good = np.array([0.0, 1.0, 2.0, 3.0]), np.array([0, 1, 0, 1]), np.array([0, 0, 1, 1])
    for at in range(3):
        bad = list(good)
        bad[at] = bad[at][:3]
        with pytest.raises(SafeframeError, match="expected one shape"):
            block_measured_radius(*bad)
    with pytest.raises(SafeframeError, match="expected one shape"):
        block_measured_radius(*(one.reshape(2, 2) for one in good))


def test_a_measured_radius_says_all_of_its_parts():
    found = measured_radius([0.0, 1.0, 2.0, 3.0], [1.0, 2.5], 0.25, confidence=0.9)
    band = np.sqrt(np.log(20.0) / 4)
    assert (found.delta, found.confidence, found.n_reference, found.n_other) == (0.25, 0.9, 4, 2)
    assert found.band == pytest.approx(band)
    assert found.mass == pytest.approx(min(0.25 + band, 1.0))
    assert found.radius == found.margin_shift / np.sqrt(2)
    with pytest.raises(SafeframeError, match="the reference sample is empty"):
        measured_radius([], [1.0])
    with pytest.raises(SafeframeError, match="the other sample"):
        measured_radius([1.0], [np.nan])
    for confidence in (0.0, 1.0):
        with pytest.raises(SafeframeError, match="need n >= 1"):
            dkw_band(3, confidence)


def test_the_lower_bound_of_a_slope():
    def cubic(x):
        return x**3

    points = np.array([[0.0], [1.0], [2.0]])
    found = lipschitz_lower(cubic, points, pairs=4000, step=1e-3, seed=1)
    assert 11.9 < found < 12.1  # 3 x^2 at 2
    assert lipschitz_lower(lambda x: 5.0 * x, np.array([[0.0], [1.0]]), pairs=50) == pytest.approx(5.0)
    assert lipschitz_lower(cubic, np.array([0, 2]), pairs=2, seed=0) >= 0.0
    assert lipschitz_lower(lambda x: x, np.zeros((2, 1)), pairs=1, seed=3, step=0.0) == 0.0
    assert lipschitz_upper(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Identity())) == 1.0
    assert lipschitz_upper(torch.nn.Dropout(0.9)) == 1.0  # in evaluation mode
    assert 2.99 < lipschitz_lower(cubic, np.array([[1.0], [1.0]])) < 3.01  # a neighbour is near by default
    same, other = (lipschitz_lower(cubic, points, pairs=3, seed=seed) for seed in (1, 2))
    assert same == lipschitz_lower(cubic, points, pairs=3, seed=1) != other


@pytest.mark.parametrize("seed", range(4))
def test_halves_are_measured_both_ways_on_the_side_that_counts(seed):
    rng = np.random.default_rng(seed)
    margin, label, odd = np.round(rng.normal(size=60), 1), rng.integers(0, 2, 60), rng.random(60) < 0.4
    halves = HalvesRadius(margin, label, odd)
    for reach, delta in ((0.3, 0.0), (np.inf, 0.1), (-0.5, 0.05)):
        shifts, window = [], (-np.inf, reach)
        for one, other in ((odd, ~odd), (~odd, odd)):
            low, high = margin[one & (label == 1)], margin[other & (label == 1)]
            shifts.append(measured_radius(low, high, delta, side="lower", window=window).margin_shift)
            low, high = margin[one & (label == 0)], margin[other & (label == 0)]
            shifts.append(measured_radius(low, high, delta, side="upper", window=window).margin_shift)
        assert halves.radius(reach, delta) == max(shifts) / np.sqrt(2)
        assert radius_between(margin, label, odd, reach, delta) == halves.radius(reach, delta)


def test_runs_alternate():
    assert alternating_runs(6, 3).tolist() == [False, False, True, True, False, False]
    assert alternating_runs(5, 2).tolist() == [False, False, False, True, True]
    assert alternating_runs(3, 20).tolist() == [False, True, False]
    assert alternating_runs(0, 4).tolist() == []
