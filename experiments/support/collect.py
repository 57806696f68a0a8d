"""Finished runs as one table: what figures and tables are drawn from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from omegaconf import OmegaConf

from experiments.support import results
from experiments.support.errors import ResultsError
from experiments.support.files import REPOSITORY

RUNS = REPOSITORY / "results" / "runs"


def finished(experiment: str, where: Mapping[str, Any] | None = None, root: Path = RUNS) -> list[Path]:
    """Directories of finished runs whose configuration has the values in `where` ({"preset": "laptop"}).

    Runs that another version of the configuration's schema made may lack a key: they do not match.
    """
    found = []
    for done in sorted((root / experiment).glob("*/DONE")):
        config = OmegaConf.load(done.parent / "config.yaml")
        missing = object()
        if all(
            OmegaConf.select(config, key, default=missing) == value for key, value in (where or {}).items()
        ):
            found.append(done.parent)
    return found


def load(
    experiment: str,
    where: Mapping[str, Any] | None = None,
    keys: tuple[str, ...] = (),
    root: Path = RUNS,
) -> pd.DataFrame:
    """All rows of the matching finished runs, with the column `run` and one for each configuration key given.

    Raises `ResultsError` if no run matches.
    """
    parts = []
    for directory in finished(experiment, where, root):
        config = OmegaConf.load(directory / "config.yaml")
        columns = {key: OmegaConf.select(config, key) for key in keys}
        parts.append(results.read(directory).assign(run=directory.name, **columns))
    if not parts:
        wanted = ", ".join(f"{key}={value}" for key, value in (where or {}).items()) or "any configuration"
        raise ResultsError(f"no finished run of {experiment} with {wanted} under {root}")
    return pd.concat(parts, ignore_index=True)
