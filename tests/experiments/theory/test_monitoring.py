"""The part that compares monitors: MAPIE's alarm against its own class, counts by hand, claims, figure."""

from __future__ import annotations

import numpy as np
import pytest

from experiments.support.results.claims import NAME
from experiments.theory.config import MonitorConfig
from experiments.theory.guards import monitoring
from experiments.theory.reporting import claims_monitor
from experiments.theory.reporting.figures_monitor import monitor as figure

SMALL = MonitorConfig(
    streams=20, false_streams=40, r_t=[0.01, 0.2], multiples=[1.0, 3.0, 10.0], horizon=60, updates=50,
    histories=[50, 200],
)  # fmt: skip


@pytest.fixture(scope="module")
def tables():
    rng = np.random.default_rng(0)
    return {"monitor": monitoring.run(SMALL, rng), "monitor_time": monitoring.times(SMALL, rng)}


@pytest.mark.parametrize(("r_t", "risk"), [(1e-2, 0.1), (0.1, 0.3), (0.1, 0.15), (0.1, 0.1), (0.3, 0.9)])
def test_mapie_is_asked_at_unsafe_labels_only_and_says_what_its_class_says(r_t, risk):
    pytest.importorskip("mapie")
    labels = (np.random.default_rng(int(1000 * risk)).random(900) < risk).astype(int)
    assert monitoring.agrees(labels, r_t, 0.2)
    assert monitoring.agrees(labels, r_t, 0.05)


def test_mapie_that_is_asked_label_by_label_says_the_same():
    pytest.importorskip("mapie")
    labels = (np.random.default_rng(0).random(120) < 0.6).astype(int)
    other = monitoring.risk_monitoring(0.1, 0.05)
    first = None
    for n, label in enumerate(labels, 1):
        other.update(np.array([label]), np.ones(1, dtype=int))
        first = n if first is None and other.harmful_shift_detected else first
    assert first is not None
    assert monitoring.mapie_alarm(np.flatnonzero(labels), 0.1, 0.05) == first
    assert monitoring.mapie_alarm(np.empty(0, int), 0.1, 0.05) is None


def test_quantiles_and_shares_by_hand():
    """Alarms after 1..9 labels in nine streams of twelve, none in the rest."""
    found = monitoring.counted([*range(9, 0, -1), None, None, None])
    assert (found["streams"], found["alarms"], found["share"]) == (12, 9, 0.75)
    assert (found["quarter"], found["median"], found["three_quarters"]) == (4, 7, np.inf)
    # order statistics 3 and 10 of 12 hold the median with probability 0.961
    assert (found["median_low"], found["median_high"]) == (3, np.inf)


def test_rows_of_a_run(tables):
    table = tables["monitor"]
    methods = 1 + len(monitoring.levels(0.05))
    assert len(table) == methods * (3 + 2)  # 10 x 0.2 is no risk
    ours = table[table["method"] == monitoring.OURS].set_index(["r_t", "multiple"])
    assert ours.loc[(0.01, 1.0), "streams"] == 40
    assert ours.loc[(0.01, 10.0), "share"] == 1.0
    assert ours.loc[(0.01, 10.0), "median"] < ours.loc[(0.01, 3.0), "median"] < 6000
    assert ours.loc[(0.2, 1.0), "labels"] == 300
    assert (ours["limit_above"] <= 8).all()


def test_without_mapie_its_rows_are_absent(monkeypatch):
    monkeypatch.setattr(monitoring, "find_spec", lambda name: None)
    assert monitoring.available() == {"mapie": False}
    rng = np.random.default_rng(0)
    table, times = monitoring.run(SMALL, rng), monitoring.times(SMALL, rng)
    assert set(table["method"]) == set(times["method"]) == {monitoring.OURS}
    names = {one["claim"] for one in claims_monitor.claimed(table, times)}
    assert "monitor.labels_until_alarm.r1e_2_x10" in names
    assert not any("mapie" in name or "ratio" in name for name in names)
    drawn, caption = figure({"monitor": table})
    assert len(drawn.axes) == 4
    assert "MAPIE" not in caption


def test_claims_and_figure_of_a_run(tables):
    pytest.importorskip("mapie")
    found = claims_monitor.claimed(tables["monitor"], tables["monitor_time"])
    claims = {one["claim"]: one for one in found}
    assert all(NAME.fullmatch(name) for name in claims)
    ours = claims["monitor.labels_until_alarm.r1e_2_x10"]
    theirs = claims["monitor.mapie_labels_until_alarm.r1e_2_x10"]
    assert ours["low"] <= ours["value"] <= ours["high"] < theirs["value"]
    least, most = (claims[f"monitor.fewer_labels_than_mapie_{end}"]["value"] for end in ("min", "max"))
    assert 1.0 < least <= most
    share = claims["monitor.false_alarm_share_max"]
    assert share["low"] <= share["value"] <= share["high"]
    assert claims["monitor.update_ns_ratio"]["value"] > 100
    drawn, caption = figure(tables)
    assert len(drawn.axes) == 4
    assert "n = 40 streams" in caption
    assert "Clopper-Pearson" in caption
