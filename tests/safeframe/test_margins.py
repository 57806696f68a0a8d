"""Counts below a threshold: exact whatever the float types, and without a copy of the sorted values."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from safeframe.margins import check_cases, count_at_most, count_below, shifted, split_sorted
from safeframe.types import SafeframeError

NARROW = [np.float16, np.float32]


def wide_counts(ascending, query):
    wide = ascending.astype(np.float64)
    return np.searchsorted(wide, query, side="left"), np.searchsorted(wide, query, side="right")


def hard_queries(values):
    """The values in float64, halfway points between neighbours, just beside either, and what overflows."""
    dtype = values.dtype
    with np.errstate(over="ignore"):
        above = np.nextafter(values, dtype.type(np.inf)).astype(np.float64)
    wide = values.astype(np.float64)
    points = np.concatenate([wide, above[np.isfinite(above)]])
    middle = (wide + above)[np.isfinite(above)] / 2
    largest = float(np.finfo(dtype).max)
    tiny = float(np.finfo(dtype).smallest_subnormal)
    far = [np.inf, 1e300, largest * 1.0001, largest, tiny, tiny / 2, 5e-324, 0.0]
    points = np.concatenate([points, middle, far, np.negative(far)])
    return np.concatenate([points, np.nextafter(points, np.inf), np.nextafter(points, -np.inf)])


@pytest.mark.parametrize("dtype", NARROW)
def test_counts_of_narrow_floats_are_those_in_float64(dtype):
    rng = np.random.default_rng(0)
    info = np.finfo(dtype)
    special = [
        0.0,
        -0.0,
        info.max,
        info.min,
        info.smallest_subnormal,
        -info.smallest_subnormal,
        info.tiny,
        1.0,
    ]
    values = np.sort(np.concatenate([rng.normal(size=500), np.repeat(special, 3)]).astype(dtype))
    query = hard_queries(values)
    below, at_most = wide_counts(values, query)
    np.testing.assert_array_equal(count_below(values, query), below)
    np.testing.assert_array_equal(count_at_most(values, query), at_most)


@given(
    st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=20),
    st.lists(st.floats(allow_nan=False), max_size=20),
)
@settings(max_examples=300, deadline=None)
def test_counts_of_any_float32_numbers_are_those_in_float64(values, queries):
    ascending = np.sort(np.array(values, dtype=np.float32))
    query = np.concatenate([np.array(queries, dtype=np.float64), hard_queries(ascending)])
    below, at_most = wide_counts(ascending, query)
    np.testing.assert_array_equal(count_below(ascending, query), below)
    np.testing.assert_array_equal(count_at_most(ascending, query), at_most)


def test_many_queries_in_two_threads_and_narrower_queries():
    rng = np.random.default_rng(1)
    values = np.sort(rng.normal(size=1000).astype(np.float32))
    query = rng.normal(size=300_001)
    below, at_most = wide_counts(values, query)
    np.testing.assert_array_equal(count_below(values, query), below)
    np.testing.assert_array_equal(count_at_most(values, query), at_most)
    single = query[:1000].astype(np.float32)
    wide = values.astype(np.float64) + 1e-12
    np.testing.assert_array_equal(count_below(wide, single), np.searchsorted(wide, single.astype(float)))
    np.testing.assert_array_equal(count_below(np.array([1, 2, 3]), np.array([2.5])), [2])


def test_a_search_in_float32_copies_nothing():
    values = np.zeros(1_000_000, dtype=np.float32)
    query = np.array([0.1])
    tracemalloc.start()
    try:
        count_below(values, query)
        count_at_most(values, query)
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


def test_a_radius_moves_in_float64():
    values = np.array([0.1, 1e8], dtype=np.float32)
    moved = shifted(values, 1e-9)
    assert moved.dtype == np.float64
    np.testing.assert_array_equal(moved, values.astype(np.float64) + 1e-9)
    assert shifted(values, 0.0) is values


@pytest.mark.parametrize("dtype", [np.int64, np.longdouble])
def test_margins_of_other_types_become_float64(dtype):
    values, unsafe = check_cases(np.array([1, 2], dtype=dtype), np.array([0, 1]))
    assert values.dtype == np.float64
    np.testing.assert_array_equal(unsafe, [False, True])
    safe, bad = split_sorted(np.array([1, 2], dtype=dtype), np.array([False, True]))
    assert (safe.dtype, bad.dtype) == (np.float64, np.float64)


def test_cases_of_two_shapes_are_refused():
    with pytest.raises(SafeframeError, match="same shape"):
        check_cases(np.zeros((2, 2)), np.zeros((2, 2)))
