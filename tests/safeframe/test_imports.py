"""What importing costs: heavy libraries are loaded when something needs them, and not before."""

from __future__ import annotations

import subprocess
import sys

import pytest

import safeframe
from experiments.support.files import REPOSITORY

HEAVY = ("torch", "cvxpy", "clarabel", "scipy.stats", "pandas", "matplotlib", "transformers", "mujoco")
TEN_LINES = """
import numpy as np
from safeframe import InternalTestData, SafetyGuard
rng = np.random.default_rng(0)
past = rng.normal(size=(2_000, 3))
unsafe = (past[:, 0] + 0.3 * rng.normal(size=2_000) > 1).astype(int)
classifier = lambda y: np.stack([1 - y[:, 0], y[:, 0] - 1], axis=1)
data = InternalTestData(past, unsafe)
guard = SafetyGuard(lambda y: y.sum(axis=1), classifier, data, threshold=1e-2, default_action=0.0)
guard.calibrate()
assert guard.act(rng.normal(size=(5, 3))).accepted.any()
"""


def loaded(code: str) -> set[str]:
    """Modules that a fresh process has loaded after `code`."""
    code += "\nimport sys\nprint(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, timeout=120, check=True
    )
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "code",
    ["import safeframe", "from safeframe.types import SafeframeError", "import safeframe.certificates.cases"],
)
def test_importing_loads_nothing_heavy(code):
    found = loaded(code)
    assert not found & {*HEAVY, "scipy"}
    assert len([name for name in found if name.split(".")[0] == "safeframe"]) <= 8


def test_a_guard_of_numpy_arrays_needs_no_torch():
    assert not loaded(TEN_LINES) & {"torch", "cvxpy", "pandas"}


def test_the_simulator_loads_neither_torch_nor_cvxpy():
    assert not loaded("import experiments.safetygym.sim") & {"torch", "cvxpy", "scipy.stats", "pandas"}


def test_drawing_loads_neither_models_nor_simulators():
    code = "import sys; sys.path.insert(0, 'scripts'); import figures"
    heavy = {"torch", "numba", "mujoco", "transformers", "cvxpy", "gymnasium"}
    assert not loaded(code) & heavy


def test_every_public_name_is_there_and_no_other():
    assert set(safeframe.HOME) == set(safeframe.__all__)
    for name in safeframe.__all__:
        assert getattr(safeframe, name).__module__ == safeframe.HOME[name]
    assert set(safeframe.__all__) <= set(dir(safeframe))
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = safeframe.Nothing
