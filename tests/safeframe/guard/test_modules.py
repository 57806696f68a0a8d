"""Torch modules are called in evaluation and inference mode, by many threads, and left as they were."""

import functools
import threading
import time
from unittest.mock import MagicMock

import numpy as np
import pytest
import torch

from safeframe.guard.calling import Callables, call
from safeframe.guard.modules import _HELD, EvaluationMode, owner, parts_of

X = torch.ones(4, 3)


class Slow(torch.nn.Module):
    """Says in which mode each part of it is while it runs."""

    def __init__(self, part=None, seconds=0.0):
        super().__init__()
        self.part = torch.nn.Dropout() if part is None else part
        self.seconds = seconds

    def forward(self, x):
        time.sleep(self.seconds)
        training = self.training or self.part.training or torch.is_grad_enabled()
        return torch.full((len(x),), float(training)) + 0 * self.part(x).sum()

    def raises(self, x):
        raise RuntimeError("broken")

    def mode(self, x):
        return torch.full((len(x),), float(self.training))


@pytest.mark.parametrize("mode", [True, False])
def test_every_part_is_left_in_its_own_mode(mode):
    net = torch.nn.Sequential(torch.nn.Dropout(), torch.nn.Sequential(torch.nn.BatchNorm1d(3)), Slow())
    net.train(mode)
    net[1][0].eval()
    net[2].part.train()
    before = [part.training for part in net.modules()]
    found = call(net, X)
    assert not found.any()
    assert found.is_inference()
    assert [part.training for part in net.modules()] == before
    with pytest.raises(RuntimeError, match="mat1"):
        call(torch.nn.Sequential(net[0], torch.nn.Linear(2, 2)), X)
    assert [part.training for part in net.modules()] == before


def test_bound_methods_and_partials_of_modules():
    net = Slow()
    assert owner(net.mode) is net
    assert owner(functools.partial(net.mode)) is net
    assert owner(functools.partial(net, 1)) is net
    for other in (len, [].append, np.mean, lambda x: x, functools.partial(int), MagicMock(), np.ones(1).sum):
        assert owner(other) is None
    assert not call(net.mode, X).any()
    with pytest.raises(RuntimeError, match="broken"):
        call(net.raises, X)
    assert net.training


def watch(targets, repeats):
    """Run callables in threads at once; all margins that they saw."""
    seen, start = [], threading.Barrier(len(targets))

    def work(target):
        start.wait()
        for _ in range(repeats):
            seen.append(target().max())

    threads = [threading.Thread(target=work, args=(target,)) for target in targets]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return seen


def test_two_threads_on_one_module_in_training_mode():
    net = Slow(seconds=1e-4).train()
    made = Callables(torch.nn.Identity(), net)
    seen = watch([lambda: made.look(X).margin] * 3, 200)
    assert len(seen) == 600
    assert max(seen) == 0.0
    assert net.training
    assert net.part.training


def test_two_modules_with_a_part_in_common():
    part = torch.nn.Dropout()
    quick, slow = Slow(part), Slow(part, seconds=1e-3)
    of = [Callables(torch.nn.Identity(), net) for net in (quick, slow)]
    seen = watch([lambda: of[0].look(X).margin, lambda: of[1].look(X).margin], 100)
    assert max(seen) == 0.0
    assert part.training


def test_a_thread_that_fails_does_not_disturb_the_other():
    net = Slow(seconds=1e-4).train()
    fails = Callables(net.raises, net)
    works = Callables(torch.nn.Identity(), net)
    seen = watch([lambda: np.nan_to_num(fails.look(X).margin, posinf=0.0), lambda: works.look(X).margin], 50)
    assert max(seen) == 0.0
    assert net.training


def test_compiled_to_script():
    net = torch.jit.script(torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Dropout()))
    assert torch.equal(call(net, X), call(net, X))
    assert net.training


def test_parts_are_those_of_torch_each_once():
    shared = torch.nn.Linear(3, 3)
    for net in (
        torch.nn.Identity(),
        Slow(),
        torch.nn.Sequential(shared, torch.nn.Sequential(torch.nn.ReLU(), shared), Slow(shared)),
        torch.nn.ModuleDict({"a": shared, "b": Slow()}),
    ):
        net.register_module("nothing", None)
        found = parts_of(net)
        assert len(found) == len(set(map(id, found)))
        assert set(map(id, found)) == set(map(id, net.modules()))


def test_a_module_in_evaluation_mode_is_held_where_another_thread_holds_a_part():
    """Else the other thread, on leaving, would put the part into training mode under this one's feet."""
    part = torch.nn.Dropout().train()
    first, second = Slow(part).train(), Slow(part).eval()
    part.train()
    outer = EvaluationMode(first)
    with outer:
        inner = EvaluationMode(second)  # it finds its parts in evaluation mode already
        inner.__enter__()
    assert not part.training
    inner.__exit__()
    assert part.training
    assert not second.training
    with EvaluationMode(second.eval()) as nothing:
        assert nothing is None
    assert not _HELD
