"""A batch in parts, and with bad rows: these are marked and disturb no other."""

import numpy as np
import pytest
from guard_problem import candidate_classifier, candidate_model, classifier, model, problem

from safeframe.guard.calling import Callables
from safeframe.guard.safety_guard import SafetyGuard
from safeframe.internal_test import InternalTestData
from safeframe.types import SafeframeError

N = 5
RNG = np.random.default_rng(0)
NUMBERS = RNG.normal(size=(N, 3)).astype(np.float32)
TEXTS = ["a", "bc", "d", "efg", "h"]


def ones(y):
    return np.full(len(y), 1.0)


def upper(texts):
    return [text.upper() for text in texts]


def long_is_risky(texts):
    return np.array([len(text) for text in texts], float)


@pytest.mark.parametrize("batch_size", [1, 2, 3, 5, 6])
@pytest.mark.parametrize("of_candidates", [False, True])
def test_batches(batch_size, of_candidates):
    pair = (candidate_model, candidate_classifier) if of_candidates else (model, classifier)
    sizes, done = [], []

    def counted(y):
        sizes.append(len(y))
        return pair[0](y)

    found = Callables(counted, pair[1], batch_size=batch_size).look(NUMBERS, progress=done.append)
    assert max(sizes) == min(batch_size, N)
    assert done == np.cumsum(sizes).tolist()
    whole = Callables(*pair).look(NUMBERS, progress=done.append)
    assert done[-1] == N
    np.testing.assert_array_equal(found.action, whole.action)
    np.testing.assert_array_equal(found.margin, whole.margin)
    if of_candidates:
        np.testing.assert_array_equal(found.score, whole.score)


def test_a_model_that_writes_into_one_array():
    room = np.zeros((2, 3))

    def act(y):
        room[: len(y)] = y
        return room[: len(y)]

    found = Callables(act, classifier, batch_size=2).look(NUMBERS)
    np.testing.assert_array_equal(found.action, NUMBERS.astype(float))


def test_no_rows():
    found = Callables(model, classifier, batch_size=2).look(np.zeros((0, 3)))
    assert (found.action.shape, found.margin.shape, found.error) == ((0, 3), (0,), None)


def _spoil(kind, y, values):
    """Values where rows with a 9 in their first column are bad ones."""
    values = np.array(values, float)
    bad = y[:, 0] == 9
    if bad.any() and kind == "raises":
        raise RuntimeError("the sensor is off")
    if bad.any() and kind != "raises":
        values[bad] = {"nan": np.nan, "inf": np.inf, "-inf": -np.inf}[kind]
    return values


def _margins(y):
    return y @ np.array([[1.0, 0.3], [0.7, -0.2], [0.1, 0.9]])


SINGLE = {
    "model raises": (lambda y: _spoil("raises", y, 2 * y), _margins),
    "classifier raises": (model, lambda y: _spoil("raises", y, _margins(y))),
    "action nan": (lambda y: _spoil("nan", y, 2 * y), _margins),
    "action inf": (lambda y: _spoil("-inf", y, 2 * y), _margins),
    "logits nan": (model, lambda y: _spoil("nan", y, _margins(y))),
    "logits inf": (model, lambda y: _spoil("inf", y, _margins(y))),
    "score nan": (model, lambda y: _spoil("nan", y, _margins(y)[:, 0])),
    "score -inf": (model, lambda y: _spoil("-inf", y, _margins(y)[:, 0])),
}
SEVERAL = {
    "model raises": (lambda y: (_spoil("raises", y, y), y), candidate_classifier),
    "candidates nan": (lambda y: (_spoil("nan", y, y), y), candidate_classifier),
    "scores nan": (lambda y: (y, _spoil("nan", y, y)), candidate_classifier),
    "scores inf": (lambda y: (y, _spoil("inf", y, y)), candidate_classifier),
    "margins nan": (lambda y: (y, y), lambda y: _spoil("nan", y, y)),
    "classifier raises": (lambda y: (y, y), lambda y: _spoil("raises", y, y)),
}
REASON = {
    "raises": "RuntimeError: the sensor is off",
    "action": "action is missing, NaN or infinite",
    "candidates": "action is missing, NaN or infinite",
    "scores": "model's score is NaN",
    "logits": "classifier's margin",
    "score": "classifier's margin",
    "margins": "classifier's margin",
}


def _reason(kind):
    first, second = kind.split()
    return REASON["raises" if second == "raises" else first]


CASES = [(kind, SINGLE[kind]) for kind in SINGLE] + [(kind, SEVERAL[kind]) for kind in SEVERAL]
IDS_OF_CASES = [f"single: {kind}" for kind in SINGLE] + [f"candidates: {kind}" for kind in SEVERAL]


@pytest.mark.parametrize("positions", [[0], [1], [2], [3], [4], [0, 4], [1, 2], [0, 1, 2, 3]])
@pytest.mark.parametrize(("kind", "pair"), CASES, ids=IDS_OF_CASES)
def test_every_kind_of_bad_row_in_every_position(kind, pair, positions):
    y = RNG.normal(size=(N, 3))
    y[positions, 0] = 9
    good = np.setdiff1d(np.arange(N), positions)
    without = Callables(*pair).look(y[good])
    for batch_size in (None, 1, 2, 3):
        found = Callables(*pair, batch_size=batch_size).look(y)
        assert [bool(text) for text in found.error] == np.isin(np.arange(N), positions).tolist()
        assert all(_reason(kind) in found.error[k] for k in positions)
        assert (found.margin[positions] == np.inf).all()
        assert (found.action[positions] == 0).all()
        same = np.testing.assert_array_equal if batch_size is None else np.testing.assert_allclose
        same(found.margin[good], without.margin)
        same(found.action[good], without.action)
        if without.score is None:
            assert found.score is None
        else:
            assert (found.score[positions] == -np.inf).all()
            same(found.score[good], without.score)
    assert without.error is None


@pytest.mark.parametrize("positions", [[0], [2], [4], [1, 3]])
@pytest.mark.parametrize(("kind", "pair"), CASES, ids=IDS_OF_CASES)
def test_raise_stops_at_the_first_bad_row(kind, pair, positions):
    y = RNG.normal(size=(N, 3))
    y[positions, 0] = 9
    for batch_size in (None, 2):
        made = Callables(*pair, on_error="raise", batch_size=batch_size)
        if kind.endswith("raises"):
            with pytest.raises(RuntimeError, match="the sensor is off") as caught:
                made.look(y)
            assert kind.split()[0] in caught.value.__notes__[0]
        else:
            with pytest.raises(SafeframeError, match=f"{_reason(kind)}.* in row {positions[0]}"):
                made.look(y)


def test_good_rows_are_those_of_a_batch_without_the_bad_one_to_the_last_bit():
    rng = np.random.default_rng(1)
    y, weight = rng.normal(size=(301, 300)), rng.normal(size=(300, 2))
    y[77, 0] = 9

    def logits(rows):
        return _spoil("raises", rows, rows @ weight)

    found = Callables(ones, logits).look(y)
    good = np.arange(301) != 77
    np.testing.assert_array_equal(found.margin[good], Callables(ones, logits).look(y[good]).margin)
    assert np.flatnonzero(found.error != "").tolist() == [77]


def test_the_arrays_of_the_user_are_left_as_they_are():
    y = np.full((3, 3), 9.0)
    y[0] = np.nan
    found = Callables(lambda v: v, lambda v: v[:, 0]).look(y)
    assert np.isnan(y[0]).all()
    assert found.action[0].tolist() == [0, 0, 0]


def test_texts_objects_and_whole_numbers_of_bad_rows():
    def risk(texts):
        return [float("nan") if text == "bc" else 1.0 for text in texts]

    found = Callables(upper, risk).look(TEXTS)
    assert found.action.tolist() == ["A", "", "D", "EFG", "H"]
    none = Callables(lambda texts: np.array([t if t != "bc" else None for t in texts], object), long_is_risky)
    assert [bool(text) for text in none.look(TEXTS).error] == [False, True, False, False, False]
    whole = Callables(lambda texts: np.arange(1, 1 + len(texts)), risk).look(TEXTS)
    assert whole.action.tolist() == [1, 0, 3, 4, 5]


@pytest.mark.parametrize("batch_size", [None, 1, 2])
def test_every_row_raises(batch_size):
    y = np.full((N, 3), 9.0)
    found = Callables(*SINGLE["model raises"], batch_size=batch_size).look(y)
    assert (found.action, found.score) == (None, None)
    assert (found.margin == np.inf).all()
    assert set(found.error) == {"RuntimeError: the sensor is off"}
    one = Callables(*SINGLE["classifier raises"]).look(y[:1])
    assert (one.action, one.error.tolist()) == (None, ["RuntimeError: the sensor is off"])


def test_one_bad_row_among_many_costs_few_calls():
    calls = []

    def act(y):
        calls.append(len(y))
        return _spoil("raises", y, y)

    y = np.zeros((1024, 1))
    y[700] = 9
    found = Callables(act, lambda v: v[:, 0]).look(y)
    assert np.flatnonzero(found.error != "").tolist() == [700]
    assert len(calls) <= 22


def test_too_many_rows_at_once():
    room = np.zeros((2, 1))

    def act(y):
        if len(y) > 2:
            raise MemoryError("too large")
        room[: len(y)] = y  # and all answers are written into one array
        return room[: len(y)]

    y = np.arange(16.0)[:, None] + 10
    found = Callables(act, lambda v: v[:, 0]).look(y)
    assert found.error is None
    np.testing.assert_array_equal(found.action, y)
    np.testing.assert_array_equal(found.margin, y[:, 0])
    y[3] = 9
    mixed = Callables(lambda v: _spoil("raises", v, act(v)), lambda v: v[:, 0]).look(y)
    good = np.arange(16) != 3
    assert (mixed.error == "").tolist() == good.tolist()
    np.testing.assert_array_equal(mixed.action[good], y[good])
    np.testing.assert_array_equal(mixed.margin[good], y[good, 0])


def test_interruptions_are_no_bad_rows():
    def act(y):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Callables(act, classifier).look(NUMBERS)


def test_absent_candidates():
    def act(y):
        score = np.where(np.arange(3) == 1, -np.inf, y)
        score[0] = -np.inf
        return np.where(score > -np.inf, y, np.nan), score

    def risk(y):
        return np.where(np.arange(3) == 1, np.nan, y)

    found = Callables(act, risk).look(NUMBERS)
    assert (found.error[1:] == "").all() if found.error is not None else True
    assert found.error is None
    assert (found.margin[:, 1] == np.inf).all()
    np.testing.assert_array_equal(found.margin[:, 0], NUMBERS[:, 0])


WRONG = [
    (lambda y: y[:-1], classifier, "actions have shape"),
    (lambda y: (y, y, y), classifier, "returned 3 values"),
    (lambda y: (y, y[:, :2]), candidate_classifier, "scores"),
    (model, lambda y: classifier(y)[:-1], "output has shape"),
    (candidate_model, lambda y: classifier(y), "output has shape"),
    (model, lambda y: ["a"] * len(y), "expected numbers"),
]


@pytest.mark.parametrize("on_error", ["default", "raise"])
@pytest.mark.parametrize(("act", "risk", "message"), WRONG, ids=[str(k) for k in range(len(WRONG))])
def test_wrong_shapes_are_no_bad_rows(act, risk, message, on_error):
    with pytest.raises(SafeframeError, match=message):
        Callables(act, risk, on_error=on_error).look(NUMBERS)


def test_actions_of_other_shapes_in_other_parts():
    grows = lambda y: np.zeros((len(y), 2 + int(y[0, 0])))  # noqa: E731
    with pytest.raises(SafeframeError, match="other shapes"):
        Callables(grows, classifier, batch_size=1).look(np.array([[0.0], [1.0]]))


def test_calibration_calls_each_model_once_where_nothing_fails():
    calls = []

    def counted(name, function):
        def called(y):
            calls.append((name, len(y)))
            return function(y)

        return called

    y, label = problem(100)
    made = SafetyGuard(
        counted("model", model), counted("classifier", classifier), InternalTestData(y, label), 0.1, 0.0
    )
    made.calibrate()
    assert calls == [("model", 100), ("classifier", 100)]


def test_a_model_that_fails_on_every_case_is_asked_about_a_few():
    calls = []

    def broken(y):
        calls.append(len(y))
        raise RuntimeError("no such layer")

    y, label = problem(4000)
    for batch_size in (None, 1000):
        calls.clear()
        made = SafetyGuard(broken, classifier, InternalTestData(y, label), 0.1, 0.0, batch_size=batch_size)
        with pytest.raises(SafeframeError, match=r"no internal test case can be judged.*no such layer"):
            made.calibrate()
        assert len(calls) < 20
