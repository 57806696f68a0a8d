"""The curve from shards equals the curve of all cases at once, bit for bit, in any order of the shards."""

import copy
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from safeframe.risk_curve import RiskCurve
from safeframe.shards import curve as shards_module
from safeframe.shards.curve import ShardedRiskCurve
from safeframe.types import SQRT2, SafeframeError

R_T = np.geomspace(1e-5, 1.0, 400)


def cases(dtype=np.float64, n=20_000, seed=0):
    """Margins with many ties."""
    rng = np.random.default_rng(seed)
    label = (rng.random(n) < 0.05).astype(np.int64)
    return (rng.normal(size=n) + 2 * label).round(2).astype(dtype), label


def cut(margin, label, k, seed=0):
    """k shards of unequal sizes, some of them empty, in shuffled order."""
    rng = np.random.default_rng(seed)
    edges = np.sort(rng.integers(0, len(margin) + 1, k - 1))
    if k > 3:
        edges[1] = edges[0]
    parts = list(zip(np.split(margin, edges), np.split(label, edges), strict=True))
    return [parts[i] for i in rng.permutation(k)]


def assert_same_curve(sharded, whole):
    assert (sharded.n, sharded.n_unsafe) == (whole.n, whole.n_unsafe)
    assert (sharded.prior, sharded.radius, sharded.slack) == (whole.prior, whole.radius, whole.slack)
    for ours, theirs in zip(sharded.largest_thresholds(R_T), whole.largest_thresholds(R_T), strict=True):
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours, theirs)
    for r_t in (1e-3, 0.02, 1.0):
        assert sharded.largest_threshold(r_t) == whole.largest_threshold(r_t)
    margins = np.concatenate([np.linspace(-5, 7, 2000), sharded.candidates[:-1], [-np.inf, np.inf]])
    np.testing.assert_array_equal(sharded.level(margins), whole.level(margins))
    taus = np.append(sharded.candidates, -np.inf)
    np.testing.assert_array_equal(sharded.bound(taus), whole.bound(taus))
    np.testing.assert_array_equal(sharded.acceptance(taus), whole.acceptance(taus))
    np.testing.assert_array_equal(sharded.counts(taus), whole.counts(taus))


@pytest.mark.parametrize("k", [1, 7, 64])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("radius", [0.0, 0.03])
@pytest.mark.parametrize("form", ["tight", "paper"])
@pytest.mark.parametrize(("prior", "slack"), [(None, 0.0), (0.001, 1e-4)])
def test_equal_to_the_curve_of_all_cases(k, dtype, radius, form, prior, slack):
    margin, label = cases(dtype)
    whole = RiskCurve(margin, label, prior, radius, form, slack)
    for seed in range(2):
        sharded = RiskCurve.from_shards(cut(margin, label, k, seed), prior, radius, form, slack)
        assert isinstance(sharded, ShardedRiskCurve)
        assert_same_curve(sharded, whole)


@pytest.mark.parametrize("piece", [1, 7, 900, 1 << 21])
@pytest.mark.parametrize("radius", [0.0, 0.2])
def test_shards_worked_on_piece_by_piece(piece, radius, monkeypatch):
    """Both ways of counting: pieces shorter and longer than the list of unsafe entries."""
    monkeypatch.setattr(shards_module, "_PIECE", piece)
    margin, label = cases(np.float32, 3000, seed=3)
    assert_same_curve(
        RiskCurve.from_shards(cut(margin, label, 7), radius=radius), RiskCurve(margin, label, radius=radius)
    )


@given(
    st.lists(
        st.tuples(st.integers(-4, 4), st.integers(0, 1), st.integers(0, 4)), min_size=2, max_size=30
    ).filter(lambda rows: 0 < sum(row[1] for row in rows) < len(rows)),
    st.sampled_from([0.0, 0.5 / SQRT2, 0.3]),
    st.sampled_from(["tight", "paper"]),
)
@settings(max_examples=150, deadline=None)
def test_equal_for_few_cases_with_ties(rows, radius, form):
    table = np.array(rows)
    margin, label, place = table[:, 0] / 2, table[:, 1], table[:, 2]
    parts = [(margin[place == i], label[place == i]) for i in range(5)]
    assert_same_curve(
        RiskCurve.from_shards(parts, 0.2, radius, form, 0.01),
        RiskCurve(margin, label, 0.2, radius, form, 0.01),
    )


def test_shards_may_differ_in_type_and_in_order_between_the_passes():
    margin, label = cases(np.float32, 5000)
    margin = margin.astype(np.float64)
    parts = cut(margin, label, 7)
    parts[0] = (parts[0][0].astype(np.float32), parts[0][1].astype(np.float64))
    parts[1] = (parts[1][0], parts[1][1].astype(bool))
    rng = np.random.default_rng(5)

    def shuffled():
        return iter([parts[i] for i in rng.permutation(7)])

    assert_same_curve(RiskCurve.from_shards(shuffled, radius=0.1), RiskCurve(margin, label, radius=0.1))
    assert_same_curve(
        RiskCurve.from_shards([(m.tolist(), s.tolist()) for m, s in parts]), RiskCurve(margin, label)
    )


def test_a_threshold_between_candidates_is_refused():
    curve = RiskCurve.from_shards([([0.0, 1.0, 2.0, 3.0], [0, 1, 0, 1])])
    np.testing.assert_array_equal(curve.candidates, [1.0, 3.0, np.inf])
    np.testing.assert_array_equal(curve.bound([-np.inf, 1.0, 3.0, np.inf]), [1.0, 0.0, 1 / 3, 0.5])
    for ask in (curve.bound, curve.acceptance, curve.counts):
        for tau in (2.5, 0.0, 4.0, [1.0, 1.5], np.nextafter(1.0, 2.0)):
            with pytest.raises(SafeframeError, match="no candidate"):
                ask(tau)
        with pytest.raises(SafeframeError, match="NaN"):
            ask(np.nan)
    with pytest.raises(SafeframeError, match="candidates"):
        curve.quantile(0.5)


def test_adjusted_pickled_and_copied():
    margin, label = cases(n=3000)
    curve = RiskCurve.from_shards(cut(margin, label, 7), radius=0.1)
    curve.largest_threshold(0.1)
    whole = RiskCurve(margin, label, radius=0.1)
    assert_same_curve(curve.adjusted(0.01, 0.1, 0.002), whole.adjusted(0.01, 0.1, 0.002))
    assert_same_curve(curve.adjusted(radius=0.1), whole)
    with pytest.raises(SafeframeError, match="pass over the shards again"):
        curve.adjusted(0.01)
    assert_same_curve(pickle.loads(pickle.dumps(curve)), whole)
    assert_same_curve(copy.deepcopy(curve), whole)


def good():
    return [([0.0, 1.0], [0, 1]), ([0.5], [0]), ([0.7, 0.2], [1, 0])]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (([0.5, np.nan], [0, 1]), "shard 1: margins hold NaN"),
        (([-np.inf], [1]), "shard 1: margins hold NaN or infinite"),
        (([0.5], [2]), "shard 1: label must hold"),
        (([0.5, 1.0], [0]), "shard 1: margin .2,. and label .1,."),
        ((0.5, 0), "shard 1: margin"),
        ([0.5, 1.0, 2.0], "shard 1 is list; expected a pair"),
        ({"margin": [0.5]}, "shard 1 is dict; expected a pair"),
        (7, "shard 1 is int; expected a pair"),
        (lambda: ([np.inf], [0]), "shard 1: margins"),
    ],
)
def test_a_bad_shard_is_named(bad, message):
    parts = good()
    parts[1] = bad
    with pytest.raises(SafeframeError, match=message):
        RiskCurve.from_shards(parts)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([([0.0], [0]), ([1.0], [0])], "no unsafe internal test case in the 2 shards"),
        ([([0.0], [1])], "no safe"),
        ([([], [])], "no safe"),
        ([], "no safe internal test case in the 0 shards"),
    ],
)
def test_a_missing_class_is_refused(parts, message):
    with pytest.raises(SafeframeError, match=message):
        RiskCurve.from_shards(parts)


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (
            [([0.0, 1.0], [0, 1]), ([0.5, 0.4], [0, 0]), ([0.7, 0.2], [1, 0])],
            "shard 1 changed.*1 cases.*2 cases",
        ),
        ([([0.0, 1.0], [0, 1]), ([0.5], [1]), ([0.7, 0.2], [1, 0])], "shard 1 changed.*0 unsafe.*1 unsafe"),
        ([([0.0, 1.0], [0, 1]), ([0.5], [0]), ([0.7, 0.2], [0, 1])], "shard 2 changed.*other margins"),
        ([([0.0, 1.1], [0, 1]), ([0.5], [0]), ([0.7, 0.2], [1, 0])], "shard 0 changed.*other margins"),
        ([([0.0, 1.0], [0, 1]), ([0.5], [0])], "first pass saw 3 shards, the second 2, so shard 2"),
        ([*good(), ([0.3], [0])], "first pass saw 3 shards, the second 4, so shard 3"),
        ([], "first pass saw 3 shards, the second 0"),
    ],
)
def test_shards_that_change_between_the_passes_are_named(second, message):
    passes = iter([good(), second])
    with pytest.raises(SafeframeError, match=message):
        RiskCurve.from_shards(lambda: next(passes))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"prior": 1.2}, "prior"),
        ({"radius": -1.0}, "radius"),
        ({"form": "loose"}, "form"),
        ({"slack": 1.0}, "slack"),
    ],
)
def test_bad_arguments_are_refused_before_any_pass(arguments, message):
    def never():
        raise AssertionError("a pass was begun")

    with pytest.raises(SafeframeError, match=message):
        RiskCurve.from_shards(never, **arguments)
