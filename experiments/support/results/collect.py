"""Finished runs: finding them, and choosing those that may be pooled."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from experiments.support.config import EXECUTION_SETTINGS
from experiments.support.files import REPOSITORY
from experiments.support.results.saved import INDEX, NoRuns, Saved, of_directory, read_raw

RUNS = REPOSITORY / "results" / "runs"
RAW = REPOSITORY / "results" / "raw"
Root = Path | Iterable[Path]
"""Where runs are: one place, or several."""


def finished(experiment: str, where: Mapping[str, Any] | None = None, root: Root = RUNS) -> list[Saved]:
    """Finished runs of an experiment.

    Args:
        experiment: its name.
        where: values that a run's configuration must have ({"preset": "laptop"}). Runs that another version
        of
            the configuration's schema made may lack a key: they do not match.
        root: where they are: directories of runs (results/runs) or raw files (results/raw/<preset>); of
        several
            places, the first that has a run gives it.

    Returns:
        The runs, by place and id.
    """
    found: dict[str, Saved] = {}
    for place in [Path(root)] if isinstance(root, Path | str) else map(Path, root):
        for run in _all(place / experiment):
            if all(_is(run.config, key, value) for key, value in (where or {}).items()):
                found.setdefault(run.run, run)
    return list(found.values())


def _all(place: Path) -> list[Saved]:
    if (place / INDEX).is_file():
        return read_raw(place)
    return [of_directory(done.parent) for done in sorted(place.glob("*/DONE"))]


def required(experiment: str, where: Mapping[str, Any], root: Root = RUNS) -> list[Saved]:
    """As `finished`; raises `NoRuns`, which names what was looked for, if there are none."""
    found = finished(experiment, where, root)
    if not found:
        shown = root if isinstance(root, Path | str) else " or ".join(map(str, root))
        wanted = ", ".join(f"{key}={value}" for key, value in where.items()) or "any configuration"
        raise NoRuns(f"no finished run of {experiment} with {wanted} under {shown}")
    return found


def _is(config: Any, key: str, value: Any) -> bool:
    """Whether a dotted key is there and has this value, which may be None."""
    place = config
    for name in key.split("."):
        if not isinstance(place, Mapping) or name not in place:
            return False
        place = place[name]
    return place == value


def load(
    experiment: str,
    where: Mapping[str, Any] | None = None,
    keys: tuple[str, ...] = (),
    root: Root = RUNS,
) -> pd.DataFrame:
    """All tidy rows of the matching runs.

    Args:
        experiment: its name.
        where: dotted configuration keys and their values; None: all runs.
        keys: dotted configuration keys that become columns.
        root: as of :func:`finished`.

    Returns:
        Tidy rows with a column `run` and one for each of `keys`.

    Raises:
        NoRuns: if no run matches.
    """
    parts = [
        run.table("results").assign(run=run.run, **{key: run.setting(key) for key in keys})
        for run in required(experiment, where or {}, root)
    ]
    return pd.concat(parts, ignore_index=True)


def comparable(
    runs: Iterable[Saved],
    free: Iterable[str],
    prefer: Callable[[list[Saved]], Any] = len,
    later: Mapping[str, Sequence[Any]] | None = None,
) -> tuple[list[Saved], list[str]]:
    """One set of runs that differ in nothing but given settings and how they were carried out.

    Args:
        runs: finished ones.
        free: names, or dotted names, of settings that may differ.
        prefer: ranks a set of runs; the highest is taken (of equals, the one finished last). Default: the
            largest set.
        later: by dotted name of a setting that came later, or that is null by default since, the values that
            mean what runs without it did: they are alike.

    Returns:
        The set, and notes on the runs left out.
    """
    free = {*free, *EXECUTION_SETTINGS}
    groups: dict[str, list[Saved]] = {}
    for run in runs:
        config = _without(run.config, free, later or {})
        groups.setdefault(json.dumps(config, sort_keys=True), []).append(run)
    if not groups:
        return [], []
    ranked = sorted(
        groups, key=lambda text: (prefer(groups[text]), max(run.finished for run in groups[text]))
    )
    best = ranked.pop()
    return groups[best], [f"{len(groups[x])} runs left out: other {_differences(x, best)}" for x in ranked]


def one_a_seed(runs: Iterable[Saved], size: Callable[[Saved], int] = lambda run: 0) -> list[Saved]:
    """Of runs of one seed, which measured the same cases, the one with the largest size, of equals the one
    finished last: the cases must not count twice.
    """
    best: dict[int, tuple[tuple[int, str, str], Saved]] = {}
    for run in runs:
        rank = (size(run), run.finished, run.run)
        if run.seed not in best or best[run.seed][0] < rank:
            best[run.seed] = (rank, run)
    return [run for _, run in best.values()]


def _without(config: Any, free: set[str], later: Mapping[str, Sequence[Any]], path: str = "") -> Any:
    """The configuration without free settings, those that are null, later ones at values that mean nothing
    new, and sections that are empty without them."""
    if not isinstance(config, Mapping):
        return config
    kept: dict[str, Any] = {}
    for key, value in config.items():
        dotted = f"{path}{key}"
        if value is None or key in free or dotted in free or value in later.get(dotted, ()):
            continue
        found = _without(value, free, later, f"{dotted}.")
        if found != {} or value == {}:
            kept[key] = found
    return kept


def _differences(one: str, other: str) -> str:
    a, b = (pd.json_normalize(json.loads(text)).iloc[0].to_dict() for text in (one, other))
    return ", ".join(
        f"{k}={a.get(k)} (not {b.get(k)})" for k in sorted({*a, *b}) if str(a.get(k)) != str(b.get(k))
    )
