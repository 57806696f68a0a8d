"""Tidy results: one row per measured number, the same columns for every experiment, checked when written.

- experiment: name of the experiment.
- method: which method it is of ("ours", "two_stage").
- seed: root seed of the run, an integer >= 0.
- r_t: threshold in (0, 1]; NaN if it has none.
- n_t: internal test cases; missing if none.
- xi: radius of conservative testing, >= 0; NaN if none.
- metric: what was measured, dotted if it has parts ("violation.product_1").
- value: the number, finite (NaN only where n = 0).
- n: units behind the number (hours, episodes, prompts), >= 0.
- low, high: the interval's ends, both or neither; low <= value <= high.
- interval: which interval ("Clopper-Pearson 95%"); empty if none.
- knob: optional, a baseline's own setting, where its curve is not over r_t.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from experiments.support.errors import CacheError, ResultsError
from experiments.support.files import atomic_path, checksum

COLUMNS = (
    "experiment",
    "method",
    "seed",
    "r_t",
    "n_t",
    "xi",
    "metric",
    "value",
    "n",
    "low",
    "high",
    "interval",
)
OPTIONAL = ("knob",)
MAIN = ("results.csv", "results.parquet")
TABLES = ("*.csv", "*.parquet")
"""Files of a run that hold tables; figures and their texts are only looked at."""
ABOUT = ("config.yaml", "manifest.json")
KEY = ("experiment", "method", "seed", "r_t", "n_t", "xi", "knob", "metric")


def tidy(rows: Iterable[Mapping[str, Any]] | pd.DataFrame, **constants: Any) -> pd.DataFrame:
    """Rows as a checked table.

    Args:
        rows: of results; what one leaves out is missing.
        **constants: columns (experiment=..., seed=...) that are filled in where they are absent.

    Returns:
        A table with the columns of the module's text.

    Raises:
        ResultsError: naming the row and the column, for anything that does not fit the schema.
    """
    frame = rows.copy() if isinstance(rows, pd.DataFrame) else pd.DataFrame([dict(row) for row in rows])
    for name, value in constants.items():
        if name not in frame:
            frame[name] = value
    unknown = sorted(set(frame.columns) - set(COLUMNS) - set(OPTIONAL))
    if unknown:
        raise ResultsError(f"results: unknown columns {unknown}; allowed: {', '.join(COLUMNS + OPTIONAL)}")
    missing = [name for name in ("experiment", "method", "seed", "metric", "value", "n") if name not in frame]
    if missing:
        raise ResultsError(
            f"results: missing columns {missing}; a row needs experiment, method, seed, metric, value and n"
        )
    for name in ("r_t", "xi", "low", "high", "knob"):
        if name not in frame:
            frame[name] = np.nan
    if "n_t" not in frame:
        frame["n_t"] = pd.NA
    if "interval" not in frame:
        frame["interval"] = ""
    frame["interval"] = frame["interval"].astype("string").fillna("")
    frame = _typed(frame[[*COLUMNS, *OPTIONAL]].reset_index(drop=True))
    _check(frame)
    return frame


def _typed(frame: pd.DataFrame) -> pd.DataFrame:
    kinds = dict.fromkeys(("experiment", "method", "metric", "interval"), "string")
    kinds |= dict.fromkeys(("seed", "n_t", "n"), "Int64") | dict.fromkeys(
        ("r_t", "xi", "value", "low", "high", "knob"), "float64"
    )
    for name, kind in kinds.items():
        try:
            frame[name] = frame[name].astype(kind)
        except (TypeError, ValueError) as error:
            raise ResultsError(f"results: column {name} must hold {kind} values: {error}") from error
    return frame


def _check(frame: pd.DataFrame) -> None:
    def refuse(bad: pd.Series, why: str) -> None:
        rows = np.flatnonzero(bad.fillna(True).to_numpy(dtype=bool))
        if rows.size:
            raise ResultsError(f"results: {why}; first such row ({rows[0]}): {frame.loc[rows[0]].to_dict()}")

    for name in ("experiment", "method", "metric"):
        refuse(frame[name].isna() | (frame[name].str.strip() == ""), f"{name} must not be empty")
    refuse(frame["seed"].isna() | (frame["seed"] < 0), "seed must be an integer of at least 0")
    refuse(frame["n"].isna() | (frame["n"] < 0), "n must be an integer of at least 0")
    refuse(frame["n_t"].notna() & (frame["n_t"].fillna(0) < 0), "n_t must be at least 0")
    refuse(frame["r_t"].notna() & ~((frame["r_t"] > 0) & (frame["r_t"] <= 1)), "r_t must lie in (0, 1]")
    refuse(frame["xi"].notna() & ~(frame["xi"] >= 0), "xi must be at least 0")
    refuse(np.isinf(frame["value"]), "value must be finite")
    refuse(frame["value"].isna() & (frame["n"] > 0), "value may be NaN only where n = 0")
    refuse(frame["low"].isna() != frame["high"].isna(), "low and high must be given together")
    given = frame["low"].notna()
    slack = 1e-12 * (1.0 + frame["value"].abs())
    inside = (frame["low"] <= frame["value"] + slack) & (frame["value"] <= frame["high"] + slack)
    refuse(given & ~inside, "low ≤ value ≤ high must hold")
    refuse(given & (frame["interval"] == ""), "an interval must be named (interval='Clopper-Pearson 95%')")
    refuse(frame.duplicated(list(KEY)), f"rows must differ in one of {', '.join(KEY)}")


def write(frame: pd.DataFrame, directory: Path) -> dict[str, str]:
    """Write results.csv and results.parquet, atomically.

    Args:
        frame: tidy rows.
        directory: the run's.

    Returns:
        Checksums by file name.
    """
    frame = tidy(frame)
    with atomic_path(directory / "results.csv") as path:
        frame.to_csv(path, index=False, lineterminator="\n")
    with atomic_path(directory / "results.parquet") as path:
        frame.to_parquet(path, index=False)
    return {name: checksum(directory / name) for name in MAIN}


def kept_beside(directory: Path) -> dict[str, str]:
    """Checksums, by file name, of all else that a finished run leaves to be read: its further tables, its
    configuration and its manifest.

    Args:
        directory: the run's.

    Returns:
        SHA-256 as hexadecimal text.
    """
    tables = (path for pattern in TABLES for path in directory.glob(pattern) if path.name not in MAIN)
    about = (path for name in ABOUT if (path := directory / name).is_file())
    return {path.name: checksum(path) for path in (*sorted(tables), *about)}


def read(directory: Path) -> pd.DataFrame:
    """A finished run's table.

    Args:
        directory: the run's.

    Returns:
        Its tidy rows.

    Raises:
        CacheError: if the run is not done or a file was changed since.
    """
    verify(directory)
    return tidy(pd.read_parquet(directory / "results.parquet"))


def done(directory: Path) -> dict[str, Any]:
    """What DONE says.

    Args:
        directory: the run's.

    Returns:
        The checksums of the results ("sha256") and of what is kept beside them ("beside"; empty for a run
            that an older version made), and the fingerprint of the code ("code").

    Raises:
        CacheError: if the run is not done or DONE cannot be read.
    """
    path = directory / "DONE"
    if not path.exists():
        raise CacheError(f"{directory} holds no finished run (there is no DONE)")
    try:
        content = json.loads(path.read_text())
        return {
            "sha256": dict(content["sha256"]),
            "beside": dict(content.get("beside", {})),
            "code": content["code"],
            "files": content.get("files", {}),
        }
    except (ValueError, KeyError, TypeError) as error:
        raise CacheError(f"{path} cannot be read ({error!r}); {_advice(directory)}") from error


def verify(directory: Path) -> None:
    """Check that a finished run's files are those that were written.

    Args:
        directory: the run's.

    Raises:
        CacheError: if the run is not done, or a file is missing or was changed.
    """
    content = done(directory)
    for name, digest in (content["sha256"] | content["beside"]).items():
        path = directory / name
        if not path.is_file():
            raise CacheError(f"the file {path} is missing; {_advice(directory)}")
        if checksum(path) != digest:
            raise CacheError(f"the file {path} was changed after the run wrote it; {_advice(directory)}")


def _advice(directory: Path) -> str:
    return f"delete the directory {directory} to run it again"
