"""What a SafetyGuard refuses: bad settings at once, bad outputs when they appear, nothing half done."""

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

from safeframe.internal_test import InternalTestData
from safeframe.types import SafeframeError

BAD_SETTINGS = [
    ({"threshold": 0.0}, "threshold"),
    ({"threshold": [0.1, 1.2]}, "threshold"),
    ({"threshold": np.nan}, "threshold"),
    ({"threshold": []}, "threshold"),
    ({"default_action": None}, "default_action"),
    ({"prior": 1.5}, "prior"),
    ({"prior": {0: 0.1}}, "group_conditional"),
    ({"rule": -1.0}, "rule"),
    ({"radii": "measure"}, "no argument 'radii'"),
    ({"event": "chosen"}, "event"),
    ({"prior": (0.3, 0.1)}, "interval"),
    ({"rule": "bound"}, "rule"),
    ({"rule": "certificate"}, "certificate_delta"),
    ({"certificate_delta": 1.0}, "certificate_delta"),
    ({"group_conditional": True}, "no groups"),
    ({"blocks": 1}, "blocks"),
]


@pytest.mark.parametrize(("keywords", "message"), BAD_SETTINGS)
def test_bad_settings_are_refused_at_once(keywords, message):
    with pytest.raises(SafeframeError, match=message):
        guard(**keywords)


BAD_OUTPUTS = [
    ({"classifier": lambda y: classifier(y) * np.nan}, "logits has .* NaN"),
    ({"classifier": lambda y: classifier(y)[:, :1]}, "m >= 2"),
    ({"classifier": lambda y: np.zeros((len(y), 3))}, "logits have shape"),
    ({"classifier": lambda y: classifier(y)[:-1]}, "logits have shape"),
    ({"classifier": lambda y: margin(y)}, "logits"),
    ({"model": lambda y: model(y)[:-1]}, "actions have shape"),
    ({"model": lambda y: model(y) * np.nan}, "actions hold NaN"),
    ({"model": lambda y: (y, y, y)}, "returned 3 values"),
    (
        {"model": lambda y: (y, np.full(y.shape, np.nan)), "classifier": candidate_classifier},
        "scores hold NaN",
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
        made.act(y)
    assert made.calibrations is before
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
