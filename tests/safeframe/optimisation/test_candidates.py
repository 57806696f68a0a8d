import numpy as np
import pytest

from safeframe.optimisation.candidates import choose, feasible_candidates
from safeframe.types import SafeframeError, Status


def test_rank_takes_the_best_feasible_and_the_default_where_there_is_none():
    feasible = np.array([[True, True, False], [False, False, False], [True, False, True], [True, True, True]])
    score = np.array([[1.0, 2.0, 9.0], [1.0, 2.0, 3.0], [5.0, 9.0, 5.0], [-np.inf, -np.inf, -np.inf]])
    found = choose(feasible, score)
    np.testing.assert_array_equal(found.index, [1, -1, 0, -1])
    np.testing.assert_array_equal(
        found.status, [Status.OPTIMAL, Status.DEFAULT, Status.OPTIMAL, Status.DEFAULT]
    )
    np.testing.assert_array_equal(found.n_feasible, [2, 0, 2, 0])
    np.testing.assert_array_equal(found.accepted, [True, False, True, False])
    candidates = np.arange(24.0).reshape(4, 3, 2)
    taken = found.take(candidates, np.array([-1.0, -2.0]))
    np.testing.assert_array_equal(taken, [[2, 3], [-1, -2], [12, 13], [-1, -2]])
    assert candidates[1, 0, 0] == 6.0, "the candidates must not be overwritten"


def test_bounds_need_a_threshold_and_meet_it_with_equality():
    bound = np.array([[0.1, 0.2], [0.3, 0.4]])
    np.testing.assert_array_equal(choose(bound, np.zeros((2, 2)), r_t=0.2).index, [0, -1])
    np.testing.assert_array_equal(feasible_candidates(bound, 0.2), [[True, True], [False, False]])


def test_sampling_is_the_restricted_distribution():
    """u ~ pi restricted to the feasible candidates: frequencies against the renormalised probabilities."""
    n, probability = 60_000, np.array([0.5, 0.2, 0.2, 0.1])
    feasible = np.broadcast_to([False, True, True, True], (n, 4))
    found = choose(feasible, rule="sample", probability=np.broadcast_to(probability, (n, 4)),
                   rng=np.random.default_rng(0))  # fmt: skip
    share = np.bincount(found.index, minlength=4) / n
    np.testing.assert_allclose(share, [0.0, 0.4, 0.4, 0.2], atol=0.01)


def test_sampling_never_takes_zero_mass_and_falls_back_to_the_default():
    probability = np.array([[0.0, 1.0], [1.0, 0.0], [0.0, 0.0]])
    feasible = np.array([[True, True], [False, True], [True, True]])
    for seed in range(50):
        found = choose(feasible, rule="sample", probability=probability, rng=np.random.default_rng(seed))
        np.testing.assert_array_equal(found.index, [1, -1, -1])


def test_sampling_at_the_end_of_the_interval():
    """The draw u = 0 must not fall on a leading candidate of zero mass."""

    class Zero(np.random.Generator):
        def random(self, *arguments, **keywords):
            return np.zeros(arguments[0])

    feasible, probability = np.array([[False, True, True]]), np.array([[0.5, 0.2, 0.3]])
    found = choose(feasible, rule="sample", probability=probability, rng=Zero(np.random.PCG64(0)))
    np.testing.assert_array_equal(found.index, [1])


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"bound_or_feasible": np.zeros((2, 2)), "score": np.zeros((2, 2))}, "no r_t"),
        ({"bound_or_feasible": np.zeros((2, 2)), "score": np.zeros((2, 2)), "r_t": 0.0}, "r_t"),
        ({"bound_or_feasible": np.full((2, 2), np.nan), "score": np.zeros((2, 2)), "r_t": 0.1}, "NaN"),
        ({"bound_or_feasible": np.ones((2, 2), bool)}, "score is missing"),
        ({"bound_or_feasible": np.ones((2, 2), bool), "score": np.zeros((2, 3))}, "shape"),
        ({"bound_or_feasible": np.ones((2, 2), bool), "score": np.full((2, 2), np.nan)}, "NaN"),
        ({"bound_or_feasible": np.ones(2, bool), "score": np.zeros(2)}, "shape"),
        ({"bound_or_feasible": np.ones((2, 2), bool), "rule": "sample"}, "probability is missing"),
        (
            {"bound_or_feasible": np.ones((2, 2), bool), "rule": "sample", "probability": np.ones((2, 2))},
            "rng",
        ),
        (
            {"bound_or_feasible": np.ones((2, 2), bool), "rule": "sample", "probability": -np.ones((2, 2))},
            "negative",
        ),
        ({"bound_or_feasible": np.ones((2, 2), bool), "rule": "best"}, "rule"),
    ],
)
def test_bad_input_is_refused(keywords, message):
    with pytest.raises(SafeframeError, match=message):
        choose(**keywords)
