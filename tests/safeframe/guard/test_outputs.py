"""What classifiers and models return, read as margins, actions and scores."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from safeframe.guard.outputs import actions, bad_rows, estimator_margins, log_odds, margins, position
from safeframe.types import SafeframeError

LOGITS = np.array([[0.5, 2.0], [3.0, 1.0], [0.0, 0.0]])
MARGIN = np.array([1.5, -2.0, 0.0])


def polars_frame():
    return pytest.importorskip("polars").DataFrame(LOGITS, schema=["safe", "unsafe"])


SAME = {
    "logits": lambda: LOGITS,
    "float32": lambda: LOGITS.astype(np.float32),
    "float16": lambda: LOGITS.astype(np.float16),
    "list": lambda: LOGITS.tolist(),
    "tensor": lambda: torch.tensor(LOGITS, requires_grad=True),
    "bfloat16": lambda: torch.tensor(LOGITS).bfloat16(),
    "half": lambda: torch.tensor(LOGITS).half(),
    "ModelOutput": lambda: SimpleNamespace(logits=torch.tensor(LOGITS), loss=None),
    "mapping": lambda: {"logits": LOGITS},
    "frame": lambda: pd.DataFrame(LOGITS),
    "polars": polars_frame,
    "score": lambda: MARGIN,
    "score of one column": lambda: MARGIN[:, None],
    "series": lambda: pd.Series(MARGIN, index=[2, 2, 2]),
    "frame of one column": lambda: pd.DataFrame({"score": MARGIN}),
    "objects": lambda: MARGIN.astype(object),
}


@pytest.mark.parametrize("kind", SAME)
def test_margins_of_every_kind_of_output(kind):
    for unsafe_label, sign in ((1, 1.0), (0, -1.0), (True, 1.0)):
        found = margins(SAME[kind](), (3,), unsafe_label)
        np.testing.assert_array_equal(found, sign * MARGIN)
        small = kind in ("float32", "float16", "bfloat16", "half")
        assert found.dtype == (np.float32 if small else np.float64)


def test_the_narrow_floats_of_ml_dtypes():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    found = margins(LOGITS.astype(ml_dtypes.bfloat16), (3,))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, MARGIN)
    assert actions(LOGITS.astype(ml_dtypes.bfloat16), 3)[0].dtype == np.float32


def test_float16_logits_are_subtracted_in_float32():
    logits = np.array([[-60000.0, 60000.0]], np.float16)  # the difference is beyond float16
    assert margins(logits, (1,)).tolist() == [np.float32(logits[0, 1]) - np.float32(logits[0, 0])]


def test_any_monotone_number_is_a_score():
    assert margins(np.array([0, 3, 1]), (3,)).tolist() == [0.0, 3.0, 1.0]
    assert margins(np.array([True, False]), (2,)).tolist() == [1.0, 0.0]


def test_candidates():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(4, 3, 2))
    margin = logits[..., 1] - logits[..., 0]
    np.testing.assert_array_equal(margins(logits, (4, 3)), margin)
    np.testing.assert_array_equal(margins(margin, (4, 3)), margin)
    np.testing.assert_array_equal(margins(margin[..., None], (4, 3)), margin)
    two = margin[:, :2]
    with pytest.raises(SafeframeError, match="could be logits"):
        margins(two, (4, 2))
    np.testing.assert_array_equal(margins(two[..., None], (4, 2)), two)


def test_more_than_two_logits_give_the_log_odds():
    logits = np.log([[0.2, 0.5, 0.3], [0.1, 0.1, 0.8]])
    for unsafe in range(3):
        p = np.exp(logits)[:, unsafe]
        np.testing.assert_allclose(margins(logits, (2,), unsafe), np.log(p / (1 - p)), rtol=1e-12)
    large = np.array([[1e4, 0.0, -1e4]])
    np.testing.assert_allclose(margins(large, (1,), 1), [-1e4])
    np.testing.assert_allclose(margins(np.array([[0.0, -np.inf, 1.0]]), (1,), 2), [1.0])  # a masked class


def test_columns_and_names():
    frame = pd.DataFrame({"unsafe": LOGITS[:, 1], "safe": LOGITS[:, 0]})
    np.testing.assert_array_equal(margins(frame, (3,), "unsafe"), MARGIN)
    turned = pd.DataFrame({1: LOGITS[:, 1], 0: LOGITS[:, 0]})  # names that are numbers are names
    np.testing.assert_array_equal(margins(turned, (3,), 1), MARGIN)
    np.testing.assert_array_equal(margins(LOGITS, (3,), "toxic", ["fine", "toxic"]), MARGIN)
    assert position(1, 2, ["LABEL_0", "LABEL_1"]) == 1
    for label, names, message in [
        ("toxic", None, r"\[0, 1\]"),
        ("toxic", ["a", "b"], r"'toxic'.*\['a', 'b'\]"),
        (2, None, "2 is none"),
        (-1, None, "-1 is none"),
        (0, [1, 2], r"\[1, 2\]"),
    ]:
        with pytest.raises(SafeframeError, match=message):
            position(label, 2, names)


BAD = [
    (np.zeros((2, 2)), "shape"),
    (np.zeros((3, 0)), "shape"),
    (np.zeros((3, 2, 2)), "shape"),
    (np.zeros(()), "shape"),
    (np.array(["a", "b", "c"]), "expected numbers"),
    (np.array([{}, {}, {}], object), "no numbers"),
    (np.zeros(3, complex), "expected numbers"),
    ({"score": MARGIN}, "expected 'logits'"),
]


@pytest.mark.parametrize(("output", "message"), BAD, ids=[str(k) for k in range(len(BAD))])
def test_outputs_that_are_no_margins(output, message):
    with pytest.raises(SafeframeError, match=message):
        margins(output, (3,))


def test_a_score_is_of_the_unsafe_class_or_of_the_safe_one():
    for label in ("unsafe", 2):
        with pytest.raises(SafeframeError, match="one score per case"):
            margins(MARGIN, (3,), label)


def test_log_odds_are_finite_and_keep_the_order():
    tiny = 5e-324
    unsafe = np.array([0.0, tiny, 1e-300, 1e-20, 0.25, 0.5, 1.0, 1.0, 1.0, 1.0])
    safe = np.array([1.0, 1.0, 1.0, 1.0, 0.75, 0.5, 1e-20, 1e-300, tiny, 0.0])
    found = log_odds(np.stack([safe, unsafe], axis=1), 1)
    assert np.isfinite(found).all()
    assert (np.diff(found) > 0).all()
    np.testing.assert_allclose(found[3:7], [np.log(1e-20), np.log(1 / 3), 0.0, -np.log(1e-20)])
    np.testing.assert_array_equal(log_odds(np.stack([unsafe, safe], axis=1), 0), found)
    assert np.isnan(log_odds(np.array([[0.0, 0.0], [np.nan, 1.0], [-0.5, 1.5]]), 1)).all()
    three = log_odds(np.array([[0.25, 0.25, 0.5]]), 0)
    np.testing.assert_allclose(three, [np.log(1 / 3)])


def estimators():
    linear = pytest.importorskip("sklearn.linear_model")
    bayes = pytest.importorskip("sklearn.naive_bayes")
    forest = pytest.importorskip("sklearn.ensemble")
    svm = pytest.importorskip("sklearn.svm")
    return {
        "logistic": linear.LogisticRegression(),
        "svm": svm.LinearSVC(),
        "bayes": bayes.GaussianNB(),
        "forest": forest.RandomForestClassifier(20, random_state=0),
    }


@pytest.mark.parametrize("name", ["logistic", "svm", "bayes", "forest"])
def test_estimators_of_scikit_learn(name):
    made = estimators()[name]
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 2))
    unsafe = x[:, 0] + 0.3 * rng.normal(size=200) > 0.5
    for classes in (
        (0, 1),
        ("safe", "unsafe"),
        (False, True),
        ("z", "a"),
    ):  # the last ones sort the other way
        made.fit(x, np.where(unsafe, classes[1], classes[0]))
        method = "decision_function" if name in ("logistic", "svm") else "predict_proba"
        output = getattr(made, method)(x)
        found = estimator_margins(made, output, (200,), classes[1])
        assert found.shape == (200,)
        assert np.isfinite(found).all()
        assert np.corrcoef(found, x[:, 0])[0, 1] > 0.5
        other = estimator_margins(made, output, (200,), classes[0])
        np.testing.assert_allclose(other, -found)
        if hasattr(made, "predict_proba"):
            share = made.predict_proba(x)[:, list(made.classes_).index(classes[1])]
            same = (share > 0) & (share < 1)
            odds = share[same] / (1 - share[same])
            np.testing.assert_allclose(found[same], np.log(odds), rtol=1e-6, atol=1e-9)
    with pytest.raises(SafeframeError, match=r"'toxic'.*\['a', 'z'\]"):
        estimator_margins(made, output, (200,), "toxic")


def test_estimators_of_three_classes():
    made = estimators()
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 2))
    label = np.array(["a", "b", "c"])[np.digitize(x[:, 0], [-0.5, 0.5])]
    for name in ("logistic", "bayes"):
        fitted = made[name].fit(x, label)
        found = estimator_margins(fitted, fitted.predict_proba(x), (300,), "b")
        share = fitted.predict_proba(x)[:, 1]
        np.testing.assert_allclose(found, np.log(share / (1 - share)), rtol=1e-6, atol=1e-9)
    svm = made["svm"].fit(x, label)  # no probabilities: its values as logits
    values = svm.decision_function(x)
    expected = values[:, 2] - np.log(np.exp(values[:, :2]).sum(axis=1))
    np.testing.assert_allclose(estimator_margins(svm, values, (300,), "c"), expected)


def test_estimators_that_say_nothing_of_the_unsafe_class():
    one = SimpleNamespace(predict_proba=None, classes_=np.array([1]))
    with pytest.raises(SafeframeError, match="two classes"):
        estimator_margins(one, np.ones((3, 1)), (3,), 1)
    none = SimpleNamespace(decision_function=None)
    with pytest.raises(SafeframeError, match="no classes_"):
        estimator_margins(none, np.ones(3), (3,), 1)
    two = SimpleNamespace(predict_proba=None, classes_=np.array([0, 1]))
    with pytest.raises(SafeframeError, match="shape"):
        estimator_margins(two, np.ones((2, 2)), (3,), 1)


def test_actions_and_candidates():
    action, score = actions(torch.ones(3, 2, dtype=torch.bfloat16, requires_grad=True), 3)
    assert (action.shape, action.dtype, score) == ((3, 2), np.float32, None)
    action, score = actions(([["a", "b"], ["c", "d"]], torch.zeros(2, 2)), 2)
    assert action.tolist() == [["a", "b"], ["c", "d"]]
    assert score is not None
    assert score.dtype == np.float64
    assert actions(pd.Series(["go", "stop"]), 2)[0].tolist() == ["go", "stop"]
    for output, message in [
        (np.ones(4), "actions have shape"),
        (np.ones(()), "actions have shape"),
        ((np.ones(3), np.ones(3)), "actions have shape"),
        ((np.ones((3, 2)), np.ones((3, 3))), "scores"),
        ((1, 2, 3), "returned 3 values"),
        ([[1], [2, 3], [4]], "no array"),
    ]:
        with pytest.raises(SafeframeError, match=message):
            actions(output, 3)


def test_bad_rows_of_single_actions():
    action, margin = np.ones((4, 2)), np.zeros(4)
    assert bad_rows(action, None, margin) is None
    action[1, 0], margin[3] = np.nan, np.inf
    reason = bad_rows(action, None, margin)
    assert reason is not None
    assert (reason != "").tolist() == [False, True, False, True]
    assert ("action" in reason[1], "margin" in reason[3]) == (True, True)
    objects = np.array(["go", None, float("nan"), pd.NA], object)
    assert (bad_rows(objects, None, np.zeros(4)) != "").tolist() == [False, True, True, True]
    dates = np.array(["2026-01-01", "NaT"], "M8[D]")
    assert (bad_rows(dates, None, np.zeros(2)) != "").tolist() == [False, True]


def test_absent_candidates_may_be_anything():
    action, score, margin = np.ones((3, 2, 1)), np.zeros((3, 2)), np.zeros((3, 2))
    score[0, 1], action[0, 1], margin[0, 1] = -np.inf, np.nan, np.nan
    score[1] = -np.inf
    assert bad_rows(action, score, margin) is None
    score[2, 0] = np.inf
    assert (bad_rows(action, score, margin) != "").tolist() == [False, False, True]
