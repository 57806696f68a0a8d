"""What a SafetyGuard refuses: bad settings at once, bad outputs when they appear, nothing half done."""

import copy
import pickle

import numpy as np
import pytest
from guard_problem import (
    calibrated,
    candidate_classifier,
    classifier,
    guard,
    margin,
    model,
    problem,
)

from safeframe.guard.judging import UnjudgedWarning
from safeframe.guard.settings import Certified
from safeframe.internal_test import InternalTestData
from safeframe.threshold_rule import PlugIn
from safeframe.types import SafeframeError, Status

BAD_SETTINGS = [
    ({"threshold": 0.0}, "threshold"),
    ({"threshold": [0.1, 1.2]}, "threshold"),
    ({"threshold": np.nan}, "threshold"),
    ({"threshold": []}, "threshold"),
    ({"default_action": None}, "default_action"),
    ({"prior": 1.5}, "prior"),
    ({"prior": {0: 0.1}}, "prior is given per group, but constraint is None"),
    ({"rule": -1.0}, "rule"),
    ({"radii": "measure"}, "no argument 'radii'"),
    ({"event": "chosen"}, "event"),
    ({"prior": (0.3, 0.1)}, "interval"),
    ({"rule": "bound"}, "rule"),
    ({"rule": "certificate"}, "certificate_delta"),
    ({"certificate_delta": 1.0}, "certificate_delta"),
    ({"constraint": "per_group"}, "no groups"),
    ({"constraint": "all"}, "constraint is 'all'; it must be one of per_group, pooled, worst_group"),
    ({"constraint": "pooled", "prior": {0: 0.1}}, "constraint is 'pooled'; it must be 'per_group' or"),
    ({"group_conditional": True, "constraint": "pooled"}, "contradict each other"),
    ({"scale_share": 1.0}, "scale_share is 1.0"),
    ({"blocks": 1}, "blocks"),
]


@pytest.mark.parametrize(("keywords", "message"), BAD_SETTINGS)
def test_bad_settings_are_refused_at_once(keywords, message):
    with pytest.raises(SafeframeError, match=message):
        guard(**keywords)


BAD_OUTPUTS = [
    ({"classifier": lambda y: classifier(y) * np.nan}, "no internal test case .* NaN"),
    ({"classifier": lambda y: classifier(y) * np.nan, "on_error": "raise"}, "margin is NaN"),
    ({"classifier": lambda y: np.zeros((len(y), 3, 2))}, "expected logits"),
    ({"classifier": lambda y: classifier(y)[:-1]}, "output has shape"),
    ({"classifier": lambda y: margin(y)[:-1]}, "output has shape"),
    ({"model": lambda y: model(y)[:-1]}, "actions have shape"),
    ({"model": lambda y: model(y) * np.nan}, "no internal test case .* action is missing, NaN"),
    ({"model": lambda y: (y, y, y)}, "returned 3 values"),
    (
        {"model": lambda y: (y, np.full(y.shape, np.nan)), "classifier": candidate_classifier},
        "but the labels",
    ),
    ({"model": lambda y: (y, y[:, :2]), "classifier": candidate_classifier}, "scores"),
    ({"model": lambda y: (y, y), "classifier": candidate_classifier}, "but the labels"),
    ({"event": "selected"}, "candidates, score"),
    ({"default_action": np.zeros(4)}, "default_action has shape"),
    ({"default_action": 0.5, "model": lambda y: np.ones(len(y), int)}, "default_action"),
    ({"default_action": "stop"}, "default_action"),
]


@pytest.mark.parametrize(("keywords", "message"), BAD_OUTPUTS)
def test_bad_outputs_are_refused_and_nothing_is_half_calibrated(keywords, message, tmp_path):
    made = guard(**keywords)
    with pytest.raises(SafeframeError, match=message):
        made.calibrate()
    assert made.calibrations == {}
    with pytest.raises(SafeframeError, match="not calibrated"):
        made.act(problem(3)[0])
    with pytest.raises(SafeframeError, match="not calibrated"):
        made.save(tmp_path / "guard")
    assert not (tmp_path / "guard").exists()


def test_nan_logits_while_acting_leave_the_guard_as_it_was():
    made = calibrated()
    before = made.calibrations
    y, _ = problem(5)
    y[2] = np.nan
    with pytest.raises(SafeframeError, match="NaN"):
        calibrated(on_error="raise").act(y)
    acted = made.act(y)
    assert made.calibrations is before
    assert acted.status[2] == Status.ERROR
    assert acted.counts["error"] == 1
    assert "cannot be judged" in acted.explain(2)
    assert acted.bound[2] == np.inf
    alone = made.act(np.delete(y, 2, axis=0))
    for name in ("action", "accepted", "bound", "margin", "status"):
        np.testing.assert_array_equal(np.delete(getattr(acted, name), 2, axis=0), getattr(alone, name))
    with pytest.raises(SafeframeError, match="several thresholds"):
        calibrated(threshold=[0.05, 0.1]).act(problem(5)[0])
    with pytest.raises(SafeframeError, match="r_t"):
        made.act(problem(5)[0], r_t=0.0)


def test_internal_test_data_without_measurements_are_refused():
    data = InternalTestData(None, problem()[1])
    with pytest.raises(SafeframeError, match="no measurements"):
        guard(internal_test=data).calibrate()
    with pytest.raises(SafeframeError, match="two classes"):
        guard(internal_test=InternalTestData(None, np.arange(3), n_classes=3))


def raises_at(bad):
    def function(y):
        if (np.asarray(y)[:, 1] == bad).any():
            raise RuntimeError("sensor lost")
        return model(y)

    return function


@pytest.mark.parametrize("position", range(5))
@pytest.mark.parametrize("fault", ["raises", "measurement", "features", "all"])
def test_a_bad_row_takes_the_default_action_and_disturbs_no_other(fault, position):
    keywords = {"model": raises_at(77.0), "coverage": 0.05}
    if fault == "features":
        keywords["coverage_features"] = lambda y: np.where(np.asarray(y)[:, 1:2] == 77.0, np.nan, y)
    made = calibrated(**keywords)
    if fault == "features":
        made.callables = calibrated().callables
    y, _ = problem(5, seed=8)
    good = made.act(y)
    y[position, 1] = np.nan if fault == "measurement" else 77.0
    if fault == "all":
        y[:, 1] = 77.0
    acted = made.act(y)
    bad = np.arange(5) == position if fault != "all" else np.ones(5, bool)
    np.testing.assert_array_equal(acted.status == Status.ERROR, bad)
    assert (acted.action[bad] == 0.0).all()
    assert not acted.accepted[bad].any()
    np.testing.assert_array_equal(acted.accepted, acted.bound <= 0.05)
    for name in ("action", "accepted", "bound", "margin", "status"):
        np.testing.assert_array_equal(getattr(acted, name)[~bad], getattr(good, name)[~bad])
    assert "cannot be judged" in acted.explain(int(np.flatnonzero(bad)[0]))


def test_calibration_leaves_out_what_cannot_be_judged_and_says_so():
    y, label = problem()
    y[[3, 500], 1] = 77.0
    data = InternalTestData(y, label)
    with pytest.warns(UnjudgedWarning, match=r"2 of 2000 .* case 3: RuntimeError: sensor lost"):
        made = calibrated(internal_test=data, model=raises_at(77.0))
    assert made.calibrations[0.05]["all"].n_t == 1998
    with pytest.raises(RuntimeError, match="sensor lost"):
        calibrated(internal_test=data, model=raises_at(77.0), on_error="raise")


def test_keywords_of_the_last_version_still_work_and_say_what_replaces_them():
    with pytest.warns(DeprecationWarning, match="now arguments of rule"):
        made = calibrated(radius=0.1, form="paper", rule="plug-in", calibrate="accepted")
    assert made.settings.rule == PlugIn(0.1, "paper")
    assert calibrated(rule="certificate", certificate_delta=0.1).settings.rule == Certified(0.1)


def test_parts_of_a_batch_give_the_same_as_the_whole():
    y, _ = problem(50, seed=2)
    whole, parts = calibrated(), calibrated(batch_size=7)
    assert whole.calibrations == parts.calibrations
    np.testing.assert_array_equal(whole.act(y).bound, parts.act(y).bound)


def test_a_guard_can_be_pickled_and_copied():
    made = guard(internal_test=InternalTestData(*problem()))
    made.calibrate()
    y, _ = problem(40, seed=3)
    for again in (pickle.loads(pickle.dumps(made)), copy.deepcopy(made)):
        np.testing.assert_array_equal(again.act(y).bound, made.act(y).bound)
        assert again.act(y).reason == made.act(y).reason
