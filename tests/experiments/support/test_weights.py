"""The digest of weights: different weights never share one, the same weights always do."""

from __future__ import annotations

import pytest
import torch

from experiments.support.weights import digest_of

WEIGHTS = {"bias": torch.tensor([1.0, 2.0]), "weight": torch.tensor([[1.0, 2.0], [3.0, 4.0]])}


@pytest.mark.parametrize(
    "other",
    [
        {"bias": WEIGHTS["bias"]},
        {"bias": WEIGHTS["bias"], "weights": WEIGHTS["weight"]},  # another name
        {"bias": WEIGHTS["weight"][0], "weight": WEIGHTS["weight"] + 1e-6},
        {"bias": WEIGHTS["bias"], "weight": WEIGHTS["weight"].reshape(4)},  # the same bytes, another shape
        {"bias": WEIGHTS["bias"], "weight": WEIGHTS["weight"].T},
        {"bias": WEIGHTS["bias"], "weight": WEIGHTS["weight"].view(torch.int32)},  # the same bytes again
        {"bias": WEIGHTS["bias"], "weight": WEIGHTS["weight"].double()},
        {"bias": torch.tensor([1.0]), "weight": torch.tensor([2.0, 1.0, 2.0, 3.0, 4.0])},
    ],
)
def test_different_weights_have_different_digests(other):
    assert digest_of(other) != digest_of(WEIGHTS)


def test_the_same_weights_have_one_digest():
    turned = dict(reversed(WEIGHTS.items()))
    strided = {name: torch.stack([value, value], -1)[..., 0] for name, value in WEIGHTS.items()}
    trained = {name: torch.nn.Parameter(value) for name, value in WEIGHTS.items()}
    assert digest_of(turned) == digest_of(strided) == digest_of(trained) == digest_of(WEIGHTS)


def test_every_type_and_a_single_number():
    """bfloat16, which NumPy does not have, a scalar (count of a normaliser), and nothing at all."""
    scalar = {"count": torch.tensor(3), "half": torch.tensor([0.5], dtype=torch.bfloat16)}
    assert digest_of(scalar) != digest_of(scalar | {"count": torch.tensor(4)})
    assert digest_of(scalar) != digest_of(scalar | {"half": torch.tensor([0.25], dtype=torch.bfloat16)})
    assert digest_of({}) != digest_of({"empty": torch.empty(0)})
