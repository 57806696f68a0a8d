"""Bad inputs to every public name: an error that says what was wrong, or an answer that is no nonsense."""

from __future__ import annotations

import bad_inputs
import numpy as np
import pytest
from bad_inputs import CALLS, tried

from safeframe import RiskCurve, SelectedRiskCurve
from safeframe.types import SafeframeError, number, numbers, states


@pytest.mark.parametrize("name", CALLS)
def test_good_inputs_are_answered(name, monkeypatch):
    monkeypatch.setattr(bad_inputs, "harmless", True)
    assert tried(name, np.random.default_rng(0)) == ("answered", "")


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("count", [12, pytest.param(70, marks=pytest.mark.long)])
def test_bad_inputs_are_refused_or_answered_sanely(name, count):
    found = [tried(name, np.random.default_rng([2, number])) for number in range(count)]
    assert [why for outcome, why in found if outcome == "wrong"] == []


@pytest.mark.parametrize("value", [None, "0.1", b"1", [0.1], np.array([0.1]), 1j, {}, 10**400, object()])
def test_what_is_no_number_is_named(value):
    with pytest.raises(SafeframeError, match=r"rate is .*; it must be a number"):
        number(value, "rate")


def test_numbers_are_let_through():
    assert number(np.float32(0.5), "rate") == 0.5
    assert number(np.array(2), "rate") == 2.0
    assert number(float("inf"), "rate") == float("inf")
    np.testing.assert_array_equal(numbers([1, 2.5], "rates"), [1.0, 2.5])
    np.testing.assert_array_equal(numbers(np.array([1, True], object), "rates"), [1.0, 1.0])
    assert numbers(np.zeros(2, np.float32), "rates").dtype == np.float64


@pytest.mark.parametrize("values", [["a"], [1j], [None, 1.0], [[1.0], [1.0, 2.0]], [{}], [10**400]])
def test_arrays_of_anything_else_are_named(values):
    with pytest.raises(SafeframeError, match="rates must hold numbers"):
        numbers(values, "rates")


def test_labels_that_are_objects_are_looked_at():
    assert states(np.array([0, 1], object)).dtype == np.float64
    with pytest.raises(SafeframeError, match="label must hold numbers"):
        states(np.array([0, None], object))
    with pytest.raises(SafeframeError, match=r"0 \(safe\) and 1 \(unsafe\) only"):
        states([[0, 1], [0]])
    curve = RiskCurve(np.arange(4.0), np.array([0, 1, 0, 1], object))
    assert curve.n_unsafe == 2


def test_odds_beyond_all_numbers_bound_by_1_and_not_by_nan():
    curve = SelectedRiskCurve(np.zeros((2, 1)), np.zeros((2, 1)), np.array([[0], [1]]), odds=1e308)
    assert curve.bound(np.inf) == 1.0
    many = SelectedRiskCurve(
        np.zeros((9, 1)), np.zeros((9, 1)), np.eye(9)[:1].T + np.eye(9)[1:2].T, odds=1e308
    )
    assert many.bound(np.inf) == 1.0
