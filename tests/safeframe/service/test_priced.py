"""A guard that prices risk in service: logged, recalibrated by vetoes, replayed."""

import numpy as np
import pytest
from guard_problem import candidate_classifier, candidate_model, candidates

from safeframe.guard.safety_guard import SafetyGuard
from safeframe.internal_test import InternalTestData
from safeframe.service.log import GuardLog
from safeframe.service.recalibration import recalibrate
from safeframe.service.replay import replay
from safeframe.threshold_rule import PlugIn


def test_a_priced_choice_is_logged_replayed_and_vetoed_and_not_changed(tmp_path):
    pool, bad = candidates(6000)
    guard = SafetyGuard(
        candidate_model, candidate_classifier, InternalTestData(pool, bad), 0.2, -7.0, rule=PlugIn(),
        choice="priced",
    )  # fmt: skip
    guard.calibrate()
    with GuardLog(tmp_path / "log", guard, keep_measurements=True, durable=False, audit=0.2) as log:
        pool, bad = candidates(6000, 3)
        worse = ((pool + 0.7 + 0.5 * np.random.default_rng(9).normal(size=pool.shape)) > 1.0).astype(int)
        done = log.act(pool)
        row, index = np.flatnonzero(done.accepted), done.guarded.index
        log.label([done.ids[i] for i in row], worse[row, index[row]])
        found = recalibrate(log, 6000)
        cut = found.cuts[0.2]["all"]
        assert -np.inf < cut.tau < np.inf
        again, own = log.act(pool), guard.act(pool)
        kept = own.accepted & (own.margin < cut.tau)
        assert 0 < kept.sum() < own.accepted.sum()
        assert np.array_equal(again.accepted, kept)
        assert (again.guarded.index == np.where(kept, own.index, -1)).all()
        assert ((again.guarded.bound <= 0.2) == kept).all()
        assert worse[np.flatnonzero(kept), own.index[kept]].mean() == pytest.approx(cut.k / cut.n)
        vetoed = int(np.flatnonzero(own.accepted & ~kept)[0])
        assert "since recalibrated" in again.guarded.explain(vetoed)
        assert "taken at the price" in again.guarded.explain(int(np.flatnonzero(kept)[0]))
        assert replay(log).same
