"""run.py as it is typed, in this process, and what it must say where it refuses."""

from __future__ import annotations

import os
import runpy
import sys

import pytest

from experiments.support import entry
from experiments.support.files import REPOSITORY


def typed(*arguments: str) -> int:
    """Exit code of `python run.py ARGUMENTS`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["run.py", *arguments])
        patch.setattr(entry, "_failures", None)
        for name in ("HYDRA_FULL_ERROR", "PYTHONPATH"):
            patch.setenv(name, os.environ.get(name, ""))
        with pytest.raises(SystemExit) as stop:
            runpy.run_path(str(REPOSITORY / "run.py"), run_name="__main__")
    return int(stop.value.code or 0)


def is_one_line(err: str, message: str) -> None:
    """stderr ends in the only line that is an error, which holds `message`; no traceback."""
    assert message in err
    assert "Traceback" not in err
    assert [line for line in err.splitlines() if line.startswith("error: ")] == [err.splitlines()[-1]]


def is_refused(code: int, out: str, err: str, message: str) -> None:
    """Exit code 2, nothing on stdout, one line on stderr: a wrong configuration."""
    assert (code, out) == (2, ""), err
    assert err.count("\n") == 1, err
    is_one_line(err, message)
