"""Finished runs as one table: what figures and tables are drawn from."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from omegaconf import OmegaConf

from experiments.support.config import EXECUTION_SETTINGS
from experiments.support.errors import ResultsError
from experiments.support.files import REPOSITORY
from experiments.support.results import frames

RUNS = REPOSITORY / "results" / "runs"


def finished(experiment: str, where: Mapping[str, Any] | None = None, root: Path = RUNS) -> list[Path]:
    """Directories of finished runs whose configuration has the values in `where` ({"preset": "laptop"}).

    Runs that another version of the configuration's schema made may lack a key: they do not match.
    """
    found = []
    for done in sorted((root / experiment).glob("*/DONE")):
        config = OmegaConf.load(done.parent / "config.yaml")
        if all(_is(config, key, value) for key, value in (where or {}).items()):
            found.append(done.parent)
    return found


def _is(config: Any, key: str, value: Any) -> bool:
    """Whether a dotted key is there and has this value, which may be None."""
    *parents, name = key.split(".")
    place = OmegaConf.select(config, ".".join(parents)) if parents else config
    return OmegaConf.is_dict(place) and name in place and place[name] == value


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
        parts.append(frames.read(directory).assign(run=directory.name, **columns))
    if not parts:
        wanted = ", ".join(f"{key}={value}" for key, value in (where or {}).items()) or "any configuration"
        raise ResultsError(f"no finished run of {experiment} with {wanted} under {root}")
    return pd.concat(parts, ignore_index=True)


def comparable(
    directories: Iterable[Path], free: Iterable[str], prefer: Callable[[list[Path]], Any] = len
) -> tuple[list[Path], list[str]]:
    """One set of runs that differ in nothing but settings whose name, or dotted name, is in `free`, and how
    they were carried out: the one that `prefer` ranks highest, the largest if not given (of equals, the one
    finished last). Beside it, notes on the runs left out.
    """
    free = {*free, *EXECUTION_SETTINGS}
    groups: dict[str, list[Path]] = {}
    for directory in directories:
        config = OmegaConf.to_container(OmegaConf.load(directory / "config.yaml"))
        groups.setdefault(json.dumps(_without(config, free), sort_keys=True), []).append(directory)
    if not groups:
        return [], []
    ranked = sorted(groups, key=lambda text: (prefer(groups[text]), max(map(_finished, groups[text]))))
    best = ranked.pop()
    return groups[best], [f"{len(groups[x])} runs left out: other {_differences(x, best)}" for x in ranked]


def _without(config: Any, free: set[str], path: str = "") -> Any:
    if not isinstance(config, dict):
        return config
    return {
        key: _without(value, free, f"{path}{key}.")
        for key, value in config.items()
        if key not in free and f"{path}{key}" not in free
    }


def _finished(directory: Path) -> str:
    path = directory / "manifest.json"
    return str(json.loads(path.read_text()).get("finished", "")) if path.is_file() else ""


def _differences(one: str, other: str) -> str:
    a, b = (pd.json_normalize(json.loads(text)).iloc[0].to_dict() for text in (one, other))
    return ", ".join(
        f"{k}={a.get(k)} (not {b.get(k)})" for k in sorted({*a, *b}) if str(a.get(k)) != str(b.get(k))
    )
