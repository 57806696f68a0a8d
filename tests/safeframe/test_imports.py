"""What importing costs: heavy libraries are loaded when something needs them, and not before."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.support.files import REPOSITORY

HEAVY = ("torch", "cvxpy", "clarabel", "scipy.stats", "pandas", "matplotlib", "transformers", "mujoco")
PACKAGES = [
    "safeframe",
    "safeframe.certificates",
    "safeframe.coverage",
    "safeframe.guard",
    "safeframe.training",
]
# the public functions and classes of these four modules, which are packages since 0.2.0
OFFERED_BY_0_1_0 = {
    "guard": "SafetyGuard GuardedActions",
    "certificates": (
        "Certificate CertifiedThreshold validate_delta clopper_pearson_upper clopper_pearson_lower "
        "cases_needed bonferroni certify certify_posterior fixed_sequence bonferroni_search "
        "first_failure certify_threshold certify_counts"
    ),
    "coverage": (
        "CoverageSettings CoverageGuard tolerance_rank conditional_inflation flat_features fit_coverage "
        "split_reference"
    ),
    "training": "TrainingSettings generator_of train",
}
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


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_name_is_there_and_no_other(package):
    module = importlib.import_module(package)
    homes = {name: home for home, names in module.HOMES.items() for name in names}
    assert set(homes) == set(module.__all__)
    for name, home in homes.items():
        assert getattr(module, name).__module__ == home
    assert {*module.__all__, "__name__"} <= set(dir(module))
    with pytest.raises(AttributeError, match=f"module '{package}' has no attribute 'Nothing'"):
        _ = module.Nothing


@pytest.mark.parametrize("package", PACKAGES)
def test_type_checkers_see_the_same_names(package):
    module = importlib.import_module(package)
    tree = ast.parse(Path(module.__file__).read_text())
    [block] = [node for node in tree.body if isinstance(node, ast.If)]
    seen = {line.module: tuple(alias.name for alias in line.names) for line in block.body}
    assert seen == module.HOMES


def test_packages_load_only_the_module_that_has_the_name():
    found = loaded("from safeframe.certificates import Certificate")
    assert "safeframe.certificates.cases" in found
    assert "safeframe.certificates.clusters" not in found


@pytest.mark.parametrize("package", sorted(OFFERED_BY_0_1_0))
def test_what_version_0_1_0_offered_is_still_imported_from_there(package):
    module = importlib.import_module(f"safeframe.{package}")
    for name in OFFERED_BY_0_1_0[package].split():
        assert callable(getattr(module, name))
