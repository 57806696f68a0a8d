import numpy as np
import pytest
import torch

from safeframe.internal_test import InternalTestData
from safeframe.types import SafeframeError


def data(n=100, **kw):
    label = np.arange(n) % 2
    return InternalTestData(np.arange(n, dtype=float)[:, None], label, **kw)


@pytest.mark.parametrize("seed", [0, 7, None])
@pytest.mark.parametrize("block", [None, 8])
def test_splits_are_disjoint_and_of_the_right_size(seed, block):
    parts = data(96).split([0.5, 0.25, 0.25], seed=seed, block=block)
    assert [len(p) for p in parts] == [48, 24, 24]
    seen = np.concatenate([p.measurement[:, 0] for p in parts])
    np.testing.assert_array_equal(np.sort(seen), np.arange(96))
    if seed is None:
        np.testing.assert_array_equal(seen, np.arange(96))
    if block:
        for part in parts:  # whole blocks, in order
            starts = part.measurement[::8, 0]
            np.testing.assert_array_equal(part.measurement[:, 0], (starts[:, None] + np.arange(8)).ravel())


def test_split_is_reproducible_and_labels_follow():
    one, two = (data().split([0.3], seed=3)[0] for _ in range(2))
    np.testing.assert_array_equal(one.measurement, two.measurement)
    np.testing.assert_array_equal(one.label, one.measurement[:, 0].astype(int) % 2)
    assert not np.array_equal(one.measurement, data().split([0.3], seed=4)[0].measurement)


def test_record_of_training_travels_with_the_cases():
    cases = data(10, group=np.arange(10) // 5)
    cases.mark_trained_on(np.array([0, 3]))
    np.testing.assert_array_equal(np.flatnonzero(cases.trained_on), [0, 3])
    assert cases.held_out.n_t == 8
    assert not cases.held_out.trained_on.any()
    assert cases.by_group()[0].trained_on.sum() == 2
    cases.mark_trained_on()
    with pytest.raises(SafeframeError, match="held-out cases are needed"):
        _ = cases.held_out


def test_torch_measurements_and_candidate_labels():
    cases = InternalTestData(torch.arange(6.0).reshape(3, 2), np.array([[0, 1], [1, 0], [0, 0]]))
    assert torch.equal(cases.subset(np.array([2, 1])).measurement, torch.tensor([[4.0, 5.0], [2.0, 3.0]]))
    np.testing.assert_allclose(cases.prior, [4 / 6, 2 / 6])
    assert InternalTestData(["a", "b"], np.array([True, False])).measurement[1] == "b"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: InternalTestData(None, np.zeros(4, int)), r"class 1 \(unsafe\)"),
        (lambda: InternalTestData(None, np.ones(4, int)), r"class 0 \(safe\)"),
        (lambda: InternalTestData(None, np.array([0, 1, 3]), n_classes=4), "class 2"),
        (lambda: InternalTestData(None, np.array([0, 2])), r"expected 0\.\.1"),
        (lambda: InternalTestData(None, np.array([0, -1, 1])), r"expected 0\.\.1"),
        (lambda: InternalTestData(None, np.array([0.0, 0.5, 1.0])), "hold the values"),
        (lambda: InternalTestData(None, np.array([], dtype=int)), "shape"),
        (lambda: InternalTestData(None, np.array([0, 1]), n_classes=1), "n_classes"),
        (lambda: InternalTestData(np.zeros((3, 1)), np.array([0, 1])), "2 labels"),
        (lambda: InternalTestData(np.array([0.0, np.nan]), np.array([0, 1])), "NaN"),
        (lambda: InternalTestData(torch.tensor([0.0, torch.nan]), np.array([0, 1])), "NaN"),
        (lambda: InternalTestData(None, np.array([0, 1]), group=[1]), "group"),
        (lambda: InternalTestData(None, np.array([0, 1]), trained_on=np.array([True])), "trained_on"),
        (lambda: data().by_group(), "no groups"),
        (lambda: data(4, group=[0, 0, 0, 1]).by_group(), "group 1: no internal test case of class 0"),
        (lambda: data().split([0.7, 0.7]), "fractions"),
        (lambda: data().split([0.0, 0.7]), "fractions"),
        (lambda: data().split([]), "fractions"),
        (lambda: data().split([0.5], block=0), "block"),
        (lambda: data(4).split([0.25, 0.75], seed=None), "part 0"),
    ],
)
def test_bad_input_is_refused(make, message):
    with pytest.raises(SafeframeError, match=message):
        make()
