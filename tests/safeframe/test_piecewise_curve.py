"""PiecewiseCurve against the table of its own pieces: any bound that is constant between entries will do."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from safeframe.certificates.cases import cases_needed
from safeframe.piecewise_curve import PiecewiseCurve
from safeframe.types import SafeframeError


class Table(PiecewiseCurve):
    """Entries 0, 1, ..., and the bound of each piece: up to and with 0, up to and with 1, ..., beyond all."""

    def __init__(self, pieces):
        super().__init__()
        self.pieces = np.array(pieces)

    @property
    def _entries(self):
        return np.arange(len(self.pieces) - 1)[::-1]  # integers, in any order

    def piece(self, tau):
        return np.searchsorted(np.arange(len(self.pieces) - 1), tau, side="left")

    def bound(self, tau):
        return self.pieces[self.piece(tau)]

    def counts(self, tau):
        return 10 * self.piece(tau), self.piece(tau)

    def acceptance(self, tau):
        return self.piece(tau) / len(self.pieces)


tables = st.lists(st.sampled_from([0.1, 0.2, 0.3, 0.4]), min_size=2, max_size=6)


@given(tables, st.sampled_from([0.05, 0.1, 0.15, 0.2, 0.3, 1.0]))
def test_the_largest_threshold_ends_the_last_piece_that_qualifies(pieces, r_t):
    found = Table(pieces).largest_threshold(r_t)
    fine = [at for at, bound in enumerate(pieces) if bound <= r_t]
    assert found.r_t == r_t
    assert found.cases_needed == cases_needed(r_t, 0.05)
    if not fine:  # also where the bound of accepting nothing is not 1
        assert (found.tau, found.bound, found.feasible) == (-np.inf, 1.0, False)
        assert (found.n_accepted, found.n_unsafe_accepted, found.acceptance) == (0, 0, 0.0)
        return
    last = fine[-1]
    assert found.tau == (np.inf if last == len(pieces) - 1 else float(last))
    assert (found.bound, found.feasible) == (pieces[last], True)
    assert (found.n_accepted, found.n_unsafe_accepted) == (10 * last, last)
    assert found.acceptance == last / len(pieces)


@given(tables)
def test_a_case_is_accepted_at_the_least_bound_of_any_threshold_above_it(pieces):
    curve = Table(pieces)
    margin = np.arange(-1, len(pieces)) + np.array([[0.0], [0.5]])  # at entries and between them
    level = curve.level(margin)
    assert level.shape == margin.shape
    for m, found in zip(margin.ravel(), level.ravel(), strict=True):
        above = [bound for bound, end in zip(pieces, curve.edges, strict=True) if end > m]
        assert found == min(above)
    assert curve.edges.dtype == np.float64
    assert curve.edges.tolist() == [*range(len(pieces) - 1), np.inf]


def test_only_the_strictest_threshold_can_qualify():
    found = Table([0.1, 0.4, 0.4]).largest_threshold(0.2)
    assert (found.tau, found.bound, found.feasible) == (0.0, 0.1, True)
    with pytest.raises(SafeframeError, match="r_t"):
        Table([0.1, 0.4]).largest_threshold(0.0)


def test_a_bare_curve_has_nothing_to_say():
    bare = PiecewiseCurve()
    for ask in (bare.bound, bare.counts, bare.acceptance, bare.level):
        with pytest.raises(NotImplementedError):
            ask(0.0)
