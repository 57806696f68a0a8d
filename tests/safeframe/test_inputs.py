"""What a batch of measurements may be, how rows of it are taken, and what labels may be."""

from collections import UserDict

import numpy as np
import pandas as pd
import pytest
import torch

from safeframe.inputs import as_batch, as_labels, holds_nan, length, rows
from safeframe.tensors import as_tensor, like, to_numpy
from safeframe.types import SafeframeError

NUMBERS = np.arange(15.0).reshape(5, 3)
TEXTS = ["a", "bc", "d", "ef", "g"]


def polars_frame():
    return pytest.importorskip("polars").DataFrame({"x": [0, 1, 2, 3, 4], "y": [0.5, 1.5, 2.5, 3.5, 4.5]})


def polars_series():
    return pytest.importorskip("polars").Series([0.5, 1.5, 2.5, 3.5, 4.5])


def encoding():
    transformers = pytest.importorskip("transformers")
    return transformers.BatchEncoding({"input_ids": torch.arange(10).reshape(5, 2)})


BATCHES = {
    "float64": lambda: NUMBERS,
    "float16": lambda: NUMBERS.astype(np.float16),
    "int8 of three axes": lambda: np.arange(20, dtype=np.int8).reshape(5, 2, 2),
    "texts in an array": lambda: np.array(TEXTS),
    "tensor": lambda: torch.arange(15.0).reshape(5, 3),
    "bfloat16 with gradient": lambda: torch.ones(5, 3, dtype=torch.bfloat16, requires_grad=True),
    "frame": lambda: pd.DataFrame(NUMBERS, columns=list("xyz"), index=[9, 8, 7, 7, 6]),
    "frame of several types": lambda: pd.DataFrame({"x": range(5), "t": TEXTS}),
    "series": lambda: pd.Series(TEXTS, index=[3, 3, 3, 3, 3]),
    "categories": lambda: pd.Series(["u", "v", "u", "v", "u"], dtype="category"),
    "list of texts": lambda: TEXTS,
    "tuple of texts": lambda: tuple(TEXTS),
    "list of numbers": lambda: [1, 2, 3, 4, 5],
    "list of lists": lambda: NUMBERS.tolist(),
    "list of tensors": lambda: list(torch.arange(15.0).reshape(5, 3)),
    "list of unequal tensors": lambda: [torch.ones(k) for k in range(5)],
    "list of unequal lists": lambda: [[0.0] * k for k in range(5)],
    "list of records": lambda: [{"role": "user", "content": text} for text in TEXTS],
    "range": lambda: range(5),
    "mapping": lambda: {"x": NUMBERS, "t": TEXTS, "z": torch.arange(5), "in": {"f": pd.Series(TEXTS)}},
    "polars frame": polars_frame,
    "polars series": polars_series,
    "encoding": encoding,
}


def as_plain(batch):
    """A batch as nested lists, whatever its kind."""
    if isinstance(batch, (dict, UserDict)):
        return {key: as_plain(entry) for key, entry in batch.items()}
    if isinstance(batch, list):
        return [as_plain(entry) if hasattr(entry, "shape") else entry for entry in batch]
    return to_numpy(batch).tolist()


def of_plain(plain, positions):
    if isinstance(plain, dict):
        return {key: of_plain(entry, positions) for key, entry in plain.items()}
    return [plain[position] for position in positions]


@pytest.mark.parametrize("kind", BATCHES)
def test_length_and_rows_of_every_kind(kind):
    batch = as_batch(BATCHES[kind]())
    assert length(batch) == 5
    plain = as_plain(batch)
    chosen = [
        (slice(1, 4), [1, 2, 3]),
        (slice(0, 0), []),
        (3, [3]),
        (np.array([4, 0, 0]), [4, 0, 0]),
        (np.array([True, False, False, True, True]), [0, 3, 4]),
        (np.zeros(5, bool), []),
    ]
    for index, positions in chosen:
        found = rows(batch, index)
        assert type(found) is type(batch)
        assert length(found) == len(positions)
        assert as_plain(found) == of_plain(plain, positions), index


def test_what_models_get():
    for same in (NUMBERS, torch.ones(2), pd.DataFrame(NUMBERS), pd.Series(TEXTS), {"a": TEXTS}):
        assert as_batch(same) is same
    np.testing.assert_array_equal(as_batch([[1, 2], [3, 4]]), [[1, 2], [3, 4]])
    assert as_batch(("a", "b")) == ["a", "b"]
    assert torch.equal(as_batch([torch.ones(2), torch.zeros(2)]), torch.tensor([[1.0, 1.0], [0.0, 0.0]]))
    assert as_batch([]).shape == (0,)


BAD = [
    ("a text", "put it in a list"),
    (np.float64(3), "without axes"),
    (torch.tensor(3.0), "without axes"),
    (None, "NoneType"),
    (3.0, "float"),
    ({1, 2}, "set"),
    ((x for x in "ab"), "generator"),
    ({}, "one length"),
    ({"a": [1, 2], "b": [1, 2, 3]}, r"'a': 2, 'b': 3"),
    ({"a": [1, 2], "b": True}, "entry 'b' of the measurements is True"),
    ({"a": [1, 2], "b": "xy"}, "entry 'b'"),
    ({"a": [1, 2], "b": np.array(2)}, "entry 'b'"),
    ({"a": [1, 2], "b": None}, "entry 'b'"),
]


@pytest.mark.parametrize(("measurement", "message"), BAD, ids=[str(k) for k in range(len(BAD))])
def test_what_is_no_batch(measurement, message):
    with pytest.raises(SafeframeError, match=message):
        as_batch(measurement)


def test_a_lazy_frame_is_to_be_collected():
    polars = pytest.importorskip("polars")
    with pytest.raises(SafeframeError, match="collect"):
        as_batch(polars.LazyFrame({"x": [1]}))


NAN = [
    (NUMBERS, False),
    (np.where(NUMBERS == 7, np.nan, NUMBERS), True),
    (np.where(NUMBERS == 7, np.inf, NUMBERS), False),
    (torch.tensor([1.0, torch.nan]), True),
    (torch.tensor([1, 2]), False),
    (TEXTS, False),
    (["a", None], True),
    (pd.DataFrame({"x": [1.0, 2.0], "t": ["a", "b"]}), False),
    (pd.DataFrame({"x": [1.0, 2.0], "t": ["a", None]}), True),
    (pd.Series([1, None], dtype="Int64"), True),
    ({"a": TEXTS[:2], "b": np.array([1.0, np.nan])}, True),
    ({"a": TEXTS[:2], "b": np.array([1.0, 2.0])}, False),
]


@pytest.mark.parametrize(("measurement", "expected"), NAN, ids=[str(k) for k in range(len(NAN))])
def test_missing_numbers_are_found(measurement, expected):
    assert holds_nan(measurement) is expected


def test_missing_numbers_of_polars():
    polars = pytest.importorskip("polars")
    assert not holds_nan(polars.DataFrame({"x": [1.0, 2.0], "t": ["a", "b"]}))
    assert holds_nan(polars.DataFrame({"x": [1.0, 2.0], "t": ["a", None]}))
    assert holds_nan(polars.DataFrame({"x": [1.0, float("nan")]}))


LABELS = [
    ([True, False, True], None),
    (np.array([1, 0, 1], np.uint8), None),
    ([1.0, 0.0, 1.0], None),
    (torch.tensor([1.0, 0.0, 1.0], dtype=torch.bfloat16), None),
    (torch.tensor([True, False, True]), None),
    (pd.Series([1, 0, 1], index=[5, 5, 5]), None),
    (pd.Series([True, False, True], dtype="boolean"), None),
    (np.array([True, 0, 1.0], object), None),
    (["unsafe", "safe", "unsafe"], "unsafe"),
    (np.array(["unsafe", "safe", "unsafe"]), "unsafe"),
    (pd.Series(["unsafe", "safe", "unsafe"]), "unsafe"),
    (pd.Series(["unsafe", "safe", "unsafe"], dtype="category"), "unsafe"),
    (pd.Categorical(["unsafe", "safe", "unsafe"]), "unsafe"),
    (["toxic", "fine", "hate"], ("toxic", "hate")),
    ([0, 1, 0], 0),
    ([False, True, False], False),
]


@pytest.mark.parametrize(("label", "unsafe"), LABELS, ids=[str(k) for k in range(len(LABELS))])
def test_labels(label, unsafe):
    found = as_labels(label, unsafe=unsafe)
    assert found.dtype.kind in "iu"
    assert found.tolist() == [1, 0, 1]


def test_labels_of_candidates_of_several_classes_and_of_polars():
    assert as_labels([["safe", "unsafe"], ["unsafe", "safe"]], "unsafe").tolist() == [[0, 1], [1, 0]]
    assert as_labels(np.array([0, 2, 1])).tolist() == [0, 2, 1]
    both = pd.Categorical(["safe", "safe"], categories=["safe", "unsafe"])
    assert as_labels(both, "unsafe").tolist() == [0, 0]
    polars = pytest.importorskip("polars")
    assert as_labels(polars.Series(["unsafe", "safe"]), "unsafe").tolist() == [1, 0]
    assert as_labels(polars.Series([True, False])).tolist() == [1, 0]
    assert as_labels(polars.Series(["unsafe", "safe"], dtype=polars.Categorical), "unsafe").tolist() == [1, 0]


BAD_LABELS = [
    ([1.0, np.nan], None, "1 of 2 labels are missing .* position 1"),
    (["safe", None, "unsafe"], "unsafe", "missing"),
    (["safe", np.nan, "unsafe"], "unsafe", "missing"),
    (pd.Series([True, None], dtype="boolean"), None, "missing"),
    (pd.Series(["safe", None], dtype="category"), "safe", "missing"),
    (torch.tensor([1.0, torch.nan]), None, "missing"),
    ([0.0, 0.5], None, r"\[0.0, 0.5\]"),
    (["safe", "unsafe"], None, r"\['safe', 'unsafe'\].*unsafe="),
    (["safe", "unsafe"], "Unsafe", r"unsafe='Unsafe'.*\['safe', 'unsafe'\]"),
    (["safe", "unsafe", "unsfe"], "unsafe", r"unsfe.*one other"),
    ([0, 1, 2], 1, "one other"),
]


@pytest.mark.parametrize(
    ("label", "unsafe", "message"), BAD_LABELS, ids=[str(k) for k in range(len(BAD_LABELS))]
)
def test_labels_that_say_nothing(label, unsafe, message):
    with pytest.raises(SafeframeError, match=message):
        as_labels(label, unsafe=unsafe)


def test_tensors_as_arrays():
    values = torch.tensor([1.5, -2.0])
    for kind in (torch.float64, torch.float32, torch.float16, torch.bfloat16):
        found = to_numpy(values.to(kind).requires_grad_())
        assert found.dtype == (np.float64 if kind == torch.float64 else np.float32)
        assert found.tolist() == [1.5, -2.0]
    assert to_numpy([torch.ones(2, requires_grad=True), torch.zeros(2)]).tolist() == [[1, 1], [0, 0]]
    assert to_numpy(torch.tensor([1 + 2j]).conj()).tolist() == [1 - 2j]


def test_frames_as_arrays():
    missing = pd.DataFrame({"x": pd.array([1, None], dtype="Int64"), "y": [0.5, 1.5]})
    found = to_numpy(missing)
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, [[1.0, 0.5], [np.nan, 1.5]])
    assert to_numpy(pd.Series(["1", "2"])).tolist() == ["1", "2"]
    assert to_numpy(pd.DataFrame({"x": np.ones(2, np.float32)})).dtype == np.float32


def test_arrays_as_tensors():
    for array in (
        np.broadcast_to(np.float32(1), (3,)),
        np.arange(4.0)[::-1],
        np.arange(3, dtype=">f4"),
        np.arange(3, dtype=np.longdouble),
    ):
        np.testing.assert_array_equal(as_tensor(array).numpy(), array.astype(np.float64))
    shared = np.zeros(2)
    as_tensor(shared)[0] = 1.0
    assert shared[0] == 1.0


def test_answers_in_the_kind_of_the_measurement():
    assert isinstance(like(np.ones(2), torch.ones(2)), torch.Tensor)
    assert isinstance(like(np.ones(2), {"x": torch.ones(2)}), torch.Tensor)
    for measurement in (np.ones(2), TEXTS, {"x": TEXTS}, pd.Series(TEXTS), {}):
        assert isinstance(like(np.ones(2), measurement), np.ndarray)
    texts = np.array(["a", "b"])
    assert like(texts, torch.ones(2)) is texts
