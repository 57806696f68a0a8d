"""The priced choice: known answers, the pure rules, bad input."""

import numpy as np
import pytest

from safeframe.optimisation.candidates import DEFAULT, choose
from safeframe.optimisation.priced import choose_priced
from safeframe.types import SafeframeError


def test_known_answers():
    risk, reward = np.array([[0.3, 0.1, 0.02]]), np.array([[3.0, 2.0, -1.0]])
    # Worth at mu: 3 - .2 mu, 2, -1 + .08 mu, and 1.5 for the default action.
    for mu, wanted in [(0, 0), (4.9, 0), (5.0, 0), (5.1, 1), (37.4, 1), (37.5, 1), (37.6, 2), (np.inf, 2)]:
        assert choose_priced(risk, reward, mu, 0.1, 1.5).index.tolist() == [wanted]
    assert choose_priced(risk, reward, 10.0, 0.1, 2.0).index.tolist() == [1], "as good as the default: taken"
    assert choose_priced(risk, reward, 10.0, 0.1, 2.1).index.tolist() == [DEFAULT]
    assert choose_priced(risk[:, :1], reward[:, :1], np.inf, 0.1, -9.0).index.tolist() == [DEFAULT]
    gated = choose_priced(risk, reward, 0.0, 0.1, 1.5, np.array([[False, True, True]]))
    assert (gated.index.tolist(), gated.n_feasible.tolist()) == ([1], [2])


def test_each_measurement_may_have_its_own_price_threshold_and_default():
    risk, reward = np.full((3, 1), 0.2), np.full((3, 1), 1.0)
    found = choose_priced(risk, reward, np.array([1.0, 100.0, 100.0]), np.array([0.1, 0.1, 0.3]), np.zeros(3))
    assert found.index.tolist() == [0, DEFAULT, 0]
    assert found.status.tolist() == ["optimal", "default", "optimal"]


def test_at_price_zero_it_is_the_gated_choice():
    rng = np.random.default_rng(0)
    risk, reward = rng.random((500, 6)), rng.integers(-1, 3, (500, 6)).astype(float)
    reward[rng.random((500, 6)) < 0.2] = -np.inf
    allowed = risk < 0.3
    np.testing.assert_array_equal(
        choose_priced(risk, reward, 0.0, 0.1, -5.0, allowed).index, choose(allowed, reward).index
    )


def test_bad_input_is_refused():
    risk, reward = np.full((2, 2), 0.5), np.zeros((2, 2))
    bad = [
        ((risk, reward[0], 1.0, 0.1), "expected"),
        ((risk[:, :0], reward[:, :0], 1.0, 0.1), "c >= 1"),
        ((risk * 3, reward, 1.0, 0.1), "risk"),
        ((risk * np.nan, reward, 1.0, 0.1), "risk"),
        ((risk, reward * np.nan, 1.0, 0.1), "NaN"),
        ((risk, reward, -1.0, 0.1), "price"),
        ((risk, reward, np.nan, 0.1), "price"),
        ((risk, reward, np.ones(3), 0.1), "price"),
        ((risk, reward, 1.0, 0.0), "r_t"),
        ((risk, reward, 1.0, 0.1, np.inf), "default_reward"),
        ((risk, reward, 1.0, 0.1, 0.0, np.ones((2, 2))), "allowed"),
    ]
    for arguments, message in bad:
        with pytest.raises(SafeframeError, match=message):
            choose_priced(*arguments)
    absent = choose_priced(risk * 9, np.full((2, 2), -np.inf), 1.0, 0.1)
    assert absent.index.tolist() == [DEFAULT, DEFAULT]
