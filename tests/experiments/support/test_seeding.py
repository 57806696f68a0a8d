"""Streams depend on root seed and name, and on nothing else."""

from __future__ import annotations

import random
import subprocess
import sys

import numpy as np
import pytest
import torch

from experiments.support.files import REPOSITORY
from experiments.support.seeding import Seeds, limit_threads


def test_streams_depend_on_seed_and_name_only():
    seeds = Seeds(7)
    first = seeds.generator("data").normal(size=5)
    seeds.generator("model").normal(size=100)
    np.testing.assert_array_equal(seeds.generator("data").normal(size=5), first)
    assert not np.array_equal(Seeds(8).generator("data").normal(size=5), first)
    assert not np.array_equal(seeds.generator("dat", "a").normal(size=5), first)
    assert len({seeds.integer("component", i) for i in range(500)}) == 500
    assert all(0 <= seeds.integer("c", i) < 2**31 for i in range(50))


def test_the_same_in_another_process():
    program = "from experiments.support.seeding import Seeds; print(Seeds(7).integer('data', 3))"
    out = subprocess.run(
        [sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert int(out.stdout) == Seeds(7).integer("data", 3)


def test_global_streams_and_torch():
    Seeds(1).set_global()
    first = (random.random(), np.random.random(), torch.rand(3))  # noqa: NPY002
    Seeds(1).set_global()
    again = (random.random(), np.random.random(), torch.rand(3))  # noqa: NPY002
    assert first[:2] == again[:2]
    assert torch.equal(first[2], again[2])
    assert torch.equal(
        torch.rand(3, generator=Seeds(1).torch("w")), torch.rand(3, generator=Seeds(1).torch("w"))
    )
    before = torch.get_num_threads()
    limit_threads(1)
    assert torch.get_num_threads() == 1
    limit_threads(before)


def test_negative_seed():
    with pytest.raises(ValueError, match="seed=-1"):
        Seeds(-1)
