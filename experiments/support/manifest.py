"""How a run was made: command, commit, versions, hardware, seeds, times."""

from __future__ import annotations

import functools
import importlib.metadata
import os
import platform
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from experiments.support.files import REPOSITORY

PACKAGES = (
    "torch",
    "numpy",
    "scipy",
    "pandas",
    "pyarrow",
    "cvxpy",
    "clarabel",
    "hydra-core",
    "omegaconf",
    "matplotlib",
    "mujoco",
    "transformers",
    "peft",
    "datasets",
    "wandb",
)


def now() -> str:
    """The time in UTC, to the second, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def command() -> str:
    """The command line of this process as it could be typed in the repository's root.

    Manifests and claims are published, so a path that only this machine has is cut to its last part.
    """
    return shlex.join(["python", *(_portable(argument) for argument in sys.argv)])


def _portable(argument: str) -> str:
    key, sign, value = argument.rpartition("=")
    path = Path(value)
    if not path.is_absolute():
        return argument
    inside = path.is_relative_to(REPOSITORY)
    return f"{key}{sign}{path.relative_to(REPOSITORY) if inside else path.name}"


@functools.cache
def git_commit() -> str | None:
    """The commit checked out when first asked for, None outside a git repository."""
    return _git("rev-parse", "HEAD")


@functools.cache
def git_dirty() -> bool | None:
    """Whether tracked files differed from the commit when first asked, None outside a git repository.

    Those in results/ do not count: they are what runs and benchmarks write, and none of them is code.
    """
    status = _git("status", "--porcelain", "--untracked-files=no", "--", ":/", ":(exclude,top)results")
    return None if status is None else bool(status)


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=REPOSITORY, capture_output=True, text=True, timeout=30, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


@functools.cache
def versions() -> dict[str, str]:
    """Python's version and those of the installed packages that matter here (read without importing them)."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def hardware() -> dict[str, Any]:
    """Processor, cores this process may use, memory in GiB and GPU (None if torch sees none)."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    torch = sys.modules.get("torch")
    gpu = torch.cuda.get_device_name(0) if torch is not None and torch.cuda.is_available() else None
    return {
        "system": platform.platform(),
        "processor": _processor(),
        "blas": _blas(),
        "cores": cores,
        "memory_gib": _memory(),
        "gpu": gpu,
    }


def _processor() -> str:
    """The processor's name, and family, model and stepping, since virtual machines shorten the name."""
    try:
        first = Path("/proc/cpuinfo").read_text().partition("\n\n")[0]
    except OSError:
        return platform.processor() or platform.machine()
    found = {key.strip(): value.strip() for key, _, value in (x.partition(":") for x in first.splitlines())}
    numbers = [f"{x} {found[key]}" for x, key in _NUMBERS.items() if key in found]
    name = found.get("model name") or platform.processor() or platform.machine()
    return f"{name} ({', '.join(numbers)})" if numbers else name


_NUMBERS = {"family": "cpu family", "model": "model", "stepping": "stepping"}


def _blas() -> dict[str, str]:
    """The kernels that linear algebra uses here: of each BLAS loaded, and torch's instruction set.

    They decide the last digits of what a network learns.
    """
    import threadpoolctl

    found = {
        f"{item['prefix']} {item.get('version')}": str(item.get("architecture", "unknown"))
        for item in threadpoolctl.threadpool_info()
        if item["user_api"] == "blas"
    }
    torch = sys.modules.get("torch")
    return found | ({} if torch is None else {"torch": torch.backends.cpu.get_cpu_capability()})


def _memory() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (ValueError, OSError, AttributeError):
        return None
