"""Any model gets in: the same cases in any form, through any kind of classifier, give the same decisions."""

import threading

import numpy as np
import pandas as pd
import pytest
import torch
from guard_problem import problem
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from safeframe.guard.safety_guard import SafetyGuard
from safeframe.internal_test import InternalTestData
from safeframe.types import SafeframeError

Y, LABEL = problem(1500)
FRESH, _ = problem(60, seed=9)
NAMES = ["load", "wind", "age"]


def numbers(y):
    """Measurements (n, 3) from any of the forms below."""
    if isinstance(y, dict):
        y = y["values"]
    if isinstance(y, list):  # texts
        y = [[float(word) for word in text.split()] for text in y]
    if isinstance(y, torch.Tensor):
        y = y.detach().float().cpu()
    return np.asarray(y, np.float64)


FORMS = {
    "float32": lambda y: y.astype(np.float32),
    "frame": lambda y: pd.DataFrame(y, columns=NAMES),
    "list": lambda y: y.tolist(),
    "texts": lambda y: [" ".join(repr(float(value)) for value in row) for row in y],
    "mapping": lambda y: {"values": y, "more": list(range(len(y)))},
    "mapping of tensors": lambda y: {"values": torch.tensor(y)},
    "gradients": lambda y: torch.tensor(y, requires_grad=True),
}
CLASSIFIERS = {
    "logits": lambda y: np.stack([-1.5 * (numbers(y)[:, 0] - 1), 1.5 * (numbers(y)[:, 0] - 1)], axis=1),
    "score": lambda y: 3.0 * (numbers(y)[:, 0] - 1),
    "score in a column": lambda y: 3.0 * (numbers(y)[:, :1] - 1),
    "tensor": lambda y: torch.tensor(3.0 * (numbers(y)[:, 0] - 1)),
    "series": lambda y: pd.Series(3.0 * (numbers(y)[:, 0] - 1)),
}


def guarded(measurement, classifier, label=LABEL, model=lambda y: numbers(y).sum(axis=1), **keywords):
    data = InternalTestData(measurement, label, unsafe=keywords.pop("unsafe", None))
    guard = SafetyGuard(model, classifier, data, [0.05, 0.2], 0.0, **keywords)
    guard.calibrate()
    return guard


EXPECTED = guarded(Y, CLASSIFIERS["logits"]).act(FRESH, 0.05)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("classifier", CLASSIFIERS)
def test_the_same_decisions_in_every_form(form, classifier):
    make = FORMS[form]
    acted = guarded(make(Y), CLASSIFIERS[classifier]).act(make(FRESH), 0.05)
    np.testing.assert_array_equal(np.asarray(acted.accepted), EXPECTED.accepted)
    np.testing.assert_allclose(np.asarray(acted.action), EXPECTED.action, rtol=1e-5)
    assert isinstance(acted.accepted, torch.Tensor) == ("tensors" in form or form == "gradients")
    assert acted.reason[0].split()[0] == EXPECTED.reason[0].split()[0]


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_half_precision_and_autocast(kind):
    network = torch.nn.Linear(3, 2)
    with torch.no_grad():
        network.weight.copy_(torch.tensor([[0.0, 0.0, 0.0], [3.0, 0.0, 0.0]]))
        network.bias.copy_(torch.tensor([0.0, -3.0]))
    y, fresh = torch.tensor(Y).to(kind).requires_grad_(), torch.tensor(FRESH).to(kind)
    with torch.autocast("cpu", torch.bfloat16):
        acted = guarded(y, network, model=torch.nn.Identity()).act(fresh, 0.05)
    agree = np.asarray(acted.accepted) == EXPECTED.accepted
    assert agree.mean() > 0.9
    assert np.isfinite(np.asarray(acted.margin)).all()


@pytest.mark.parametrize("words", [("fine", "unsafe"), (False, True), (0.0, 1.0)])
def test_estimators_and_labels_of_any_kind(words):
    frame, fresh = (FORMS["frame"](y) for y in (Y, FRESH))
    label = np.array(words, dtype=object)[LABEL]
    label = pd.Series(label, dtype="category") if words[1] == "unsafe" else np.array(label.tolist())
    estimator = make_pipeline(StandardScaler(), LogisticRegression()).fit(frame, label)
    guard = guarded(
        frame, estimator, label, lambda y: y["load"], unsafe=words[1] if words[1] == "unsafe" else None,
        unsafe_label=words[1],
    )  # fmt: skip
    acted = guard.act(fresh, 0.05)
    assert 0.5 < acted.accepted.mean() < 1.0
    margin = estimator.decision_function(fresh)
    assert margin[acted.accepted].max() < margin[~acted.accepted].min()
    with pytest.raises(SafeframeError, match="classes"):
        guarded(frame, estimator, LABEL, lambda y: y["load"], unsafe_label="harmful")


def test_polars_frames():
    polars = pytest.importorskip("polars")
    make = lambda y: polars.DataFrame(dict(zip(NAMES, y.T, strict=True)))  # noqa: E731
    acted = guarded(make(Y), CLASSIFIERS["score"]).act(make(FRESH), 0.05)
    np.testing.assert_array_equal(acted.accepted, EXPECTED.accepted)


def test_two_threads_on_a_module_in_training_mode():
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Linear(3, 64), torch.nn.Dropout(0.5), torch.nn.Linear(64, 2)
    ).train()
    guard = guarded(torch.tensor(Y).float(), network, model=torch.nn.Identity())
    fresh = torch.tensor(FRESH).float()
    expected, wrong = guard.act(fresh, 0.2).margin, []

    def work():
        for _ in range(100):
            if not torch.equal(guard.act(fresh, 0.2).margin, expected):
                wrong.append(1)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert network.training
    assert network[1].training
