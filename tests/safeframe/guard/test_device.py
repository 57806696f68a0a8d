"""The guard with models and data on a GPU: the same decisions as on the CPU, outputs where the inputs are.

Skipped where torch sees no GPU.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from guard_problem import problem

from safeframe.guard.safety_guard import SafetyGuard
from safeframe.internal_test import InternalTestData

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU here")
Y, LABEL = problem(1500)
FRESH, _ = problem(60, seed=9)
FIELDS = ("action", "accepted", "bound", "margin", "tau")


def network(device: str, kind: torch.dtype) -> torch.nn.Linear:
    """A classifier whose margin grows with the first feature."""
    found = torch.nn.Linear(3, 2)
    with torch.no_grad():
        found.weight.copy_(torch.tensor([[0.0, 0.0, 0.0], [3.0, 0.0, 0.0]]))
        found.bias.copy_(torch.tensor([0.0, -3.0]))
    return found.to(device, kind)


def acted(device: str, kind: torch.dtype, gradient: bool = False, candidates: bool = False):
    y, fresh = (torch.tensor(values).to(device, kind) for values in (Y, FRESH))
    if gradient:
        y.requires_grad_()
        fresh.requires_grad_()
    data = InternalTestData(y, torch.tensor(LABEL).to(device))
    guard = SafetyGuard(lambda x: x.sum(dim=1), network(device, kind), data, [0.05, 0.2], 0.0)
    guard.calibrate()
    return guard.act(fresh, 0.05)


@pytest.mark.parametrize("kind", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("gradient", [False, True])
def test_decisions_are_those_of_the_cpu_and_stay_on_the_device(kind, gradient):
    expected, found = acted("cpu", torch.float64), acted("cuda", kind, gradient)
    for name in FIELDS:
        assert getattr(found, name).device.type == "cuda", name
        assert not getattr(found, name).requires_grad, name
    agree = (found.accepted.cpu() == expected.accepted).float().mean()
    assert float(agree) == 1.0 if kind in (torch.float32, torch.float64) else float(agree) > 0.9
    assert bool(torch.isfinite(found.margin).all())


def test_autocast_on_the_device():
    with torch.autocast("cuda", torch.bfloat16):
        found = acted("cuda", torch.float32)
    agree = (found.accepted.cpu() == acted("cpu", torch.float64).accepted).float().mean()
    assert float(agree) > 0.9


def test_a_network_on_the_device_takes_numbers_from_the_cpu_through_its_caller():
    model = network("cuda", torch.float32)

    def classifier(y):
        return model(torch.as_tensor(np.asarray(y), dtype=torch.float32, device="cuda"))

    data = InternalTestData(Y, LABEL)
    guard = SafetyGuard(lambda y: np.asarray(y).sum(axis=1), classifier, data, [0.05], 0.0)
    guard.calibrate()
    found = guard.act(FRESH, 0.05)
    assert isinstance(found.accepted, np.ndarray)
    np.testing.assert_array_equal(found.accepted, acted("cpu", torch.float64).accepted.numpy())


def test_memory_does_not_grow_with_calls():
    guard_input = torch.tensor(FRESH, device="cuda", dtype=torch.float32)
    data = InternalTestData(torch.tensor(Y, device="cuda", dtype=torch.float32), torch.tensor(LABEL))
    guard = SafetyGuard(lambda x: x.sum(dim=1), network("cuda", torch.float32), data, 0.05, 0.0)
    guard.calibrate()
    guard.act(guard_input)
    before = torch.cuda.memory_allocated()
    for _ in range(20):
        guard.act(guard_input)
    assert torch.cuda.memory_allocated() == before
