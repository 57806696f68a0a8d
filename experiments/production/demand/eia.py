"""Real demand: hourly electricity demand from US EIA Form 930, cleaned.

Source: Ruggles et al., Scientific Data 7:155, 2020.

The file is a CSV (plain or .csv.gz) with a column `utc_hour` and one column per balancing (sub)area in MW,
one row per hour, four years or more. It is not part of the repository; the user gives its path. The reader
checks everything that would make a case mean something else than it says and stops with the column and line
concerned.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from experiments.production.demand.series import (
    HOURS_PER_QUARTER,
    N_PRODUCTS,
    N_QUARTERS,
    SCALE_TOP,
    UNSAFE_BELOW,
    DemandData,
    build_cases,
    first_target,
    training_rows,
)
from safeframe.types import SafeframeError

TIME_COLUMN = "utc_hour"


def load_eia(
    path: str | Path,
    columns: Sequence[str] | None = None,
    lookback: int = 24,
    lead: int = 24,
    hours_per_quarter: int = HOURS_PER_QUARTER,
    order: Sequence[int] = (0, 1, 2, 3),
    skip_quarters: int = 0,
) -> DemandData:
    """Read, check, scale and cut an hourly demand file into cases (`series.build_cases`).

    Demand is scaled by the minimum and maximum of the training quarter and clipped to [0, 10]; clipping is
    reported.

    Args:
        path: .csv or .csv.gz.
        columns: the four series, in the order of the products; None takes the four with the largest share of
            hours below 3 in the training year (of CISO-SDGE .14, PJM-PL .16, PJM-PN .24, PJM-AEP .34,
            ISNE-4003 .07 in 2021 it leaves out ISNE-4003), in the order of the file.
        lookback: hours of measured demand that a case holds.
        lead: hours from the last measured one to the one that is planned.
        hours_per_quarter: length of each quarter.
        order: the role (`Quarter`) of each consecutive quarter of time.
        skip_quarters: quarters at the beginning of the file that are left out.

    Returns:
        The cases of the four quarters.

    Raises:
        SafeframeError: file missing or unreadable, columns missing or repeated, times unparsable, hours
            missing or duplicated, values missing, unparsable, infinite or negative, a series constant in the
            training quarter, too few hours.
    """
    path = Path(path)
    table = _read(path)
    available = [name for name in table.columns if name != TIME_COLUMN]
    _check_columns(path, columns, list(table.columns), available)
    times = _hours(path, table[TIME_COLUMN])
    wanted = available if columns is None else list(columns)
    raw = np.stack([_numbers(path, table, name) for name in wanted], axis=1)  # (hours, series)

    skipped = skip_quarters * hours_per_quarter
    if skipped:
        if len(raw) - skipped < N_QUARTERS * hours_per_quarter:
            raise SafeframeError(
                f"{path}: {len(raw):,} hours; without its first {skip_quarters} quarters of "
                f"{hours_per_quarter:,} hours fewer than four are left"
            )
        raw, times = raw[skipped:], times[skipped:]
    first_target(len(raw), lookback, lead, hours_per_quarter)
    training = raw[training_rows(len(raw), lookback, lead, hours_per_quarter, order)]
    minimum, maximum = training.min(axis=0), training.max(axis=0)
    constant = [name for name, low, high in zip(wanted, minimum, maximum, strict=True) if low == high]
    if constant:
        raise SafeframeError(
            f"{path}: series {', '.join(constant)} constant in the training quarter; it cannot be scaled to "
            "[0, 10]; name four other columns"
        )
    notes = []
    if columns is None:
        share = ((training - minimum) / (maximum - minimum) * SCALE_TOP < UNSAFE_BELOW).mean(axis=0)
        keep = np.sort(np.argsort(-share, kind="stable")[:N_PRODUCTS])
        left_out = [f"{wanted[i]} ({share[i]:.2f})" for i in range(len(wanted)) if i not in keep]
        wanted, raw, minimum, maximum = [wanted[i] for i in keep], raw[:, keep], minimum[keep], maximum[keep]
        if left_out:
            notes.append(
                f"of {len(available)} series the {N_PRODUCTS} with the largest share of hours below "
                f"{UNSAFE_BELOW:g} in the training quarter were taken; left out: {', '.join(left_out)}"
            )
    return build_cases(
        raw,
        times,
        wanted,
        minimum,
        maximum,
        lookback=lookback,
        lead=lead,
        hours_per_quarter=hours_per_quarter,
        order=order,
        source=f"eia:{path.name}",
        notes=notes,
    )


def _read(path: Path) -> pd.DataFrame:
    """The file as text cells, so that every later complaint can quote what stands there."""
    if not path.is_file():
        raise SafeframeError(f"{path}: no such file; a .csv or .csv.gz with hourly demand is needed")
    if not path.name.endswith((".csv", ".csv.gz")):
        raise SafeframeError(f"{path}: only .csv and .csv.gz are read")
    try:
        opener = gzip.open if path.name.endswith(".gz") else open
        with opener(path, "rt", encoding="utf-8") as file:
            table = pd.read_csv(file, dtype=str, keep_default_na=False, skip_blank_lines=False)
    except pd.errors.EmptyDataError:
        raise SafeframeError(f"{path}: the file is empty; a header with {TIME_COLUMN} is needed") from None
    except (pd.errors.ParserError, UnicodeDecodeError) as error:
        raise SafeframeError(f"{path}: not a readable CSV: {str(error).strip()}") from error
    except (OSError, EOFError, zlib.error) as error:
        raise SafeframeError(f"{path}: cannot be read (damaged or cut off?): {error}") from error
    if not isinstance(table.index, pd.RangeIndex):
        raise SafeframeError(f"{path}: the rows have more cells than the header has columns")
    return table.rename(columns=str.strip)


def _check_columns(
    path: Path, columns: Sequence[str] | None, header: list[str], available: list[str]
) -> None:
    there = f"the file has {', '.join(header)}"
    if TIME_COLUMN not in header:
        raise SafeframeError(f"{path}: column {TIME_COLUMN} is missing; {there}")
    if columns is None:
        if len(available) < N_PRODUCTS:
            raise SafeframeError(f"{path}: {N_PRODUCTS} series are needed beside {TIME_COLUMN}; {there}")
        return
    if isinstance(columns, str) or len(columns) != N_PRODUCTS or len(set(columns)) != N_PRODUCTS:
        raise SafeframeError(f"columns = {columns!r}: {N_PRODUCTS} different series must be named; {there}")
    missing = [name for name in columns if name not in available]
    if missing:
        raise SafeframeError(f"{path}: columns missing: {', '.join(missing)}; {there}")


def _line(row: int) -> str:
    return f"line {row + 2}"  # line 1 is the header


def _hours(path: Path, column: pd.Series) -> np.ndarray:
    """(hours,) hours since the epoch; every row exactly one hour after the one before."""
    times = pd.to_datetime(column, format="ISO8601", utc=True, errors="coerce")
    if times.isna().any():
        row = int(np.flatnonzero(times.isna())[0])
        raise SafeframeError(
            f"{path}, {_line(row)}: {TIME_COLUMN} = {column.iloc[row]!r} is no time like 2021-01-01 00:00:00"
        )
    seconds = times.dt.tz_localize(None).to_numpy().astype("datetime64[s]").astype(np.int64)
    step = np.diff(seconds)
    if (step != 3600).any():
        row = int(np.flatnonzero(step != 3600)[0]) + 1
        kind = {0: "duplicated hour", 1: "hours missing", -1: "time goes backwards"}[np.sign(step[row - 1])]
        raise SafeframeError(
            f"{path}, {_line(row)}: {kind}: {column.iloc[row]} follows {column.iloc[row - 1]} "
            f"({int((step != 3600).sum())} such place(s) in all); every row must be one hour after the last"
        )
    if len(seconds) and seconds[0] % 3600:
        raise SafeframeError(f"{path}, {_line(0)}: {TIME_COLUMN} = {column.iloc[0]!r} is not a full hour")
    return seconds // 3600


def _numbers(path: Path, table: pd.DataFrame, name: str) -> np.ndarray:
    """(hours,) one series as finite numbers >= 0."""
    text = table[name]
    value = pd.to_numeric(text, errors="coerce").to_numpy(dtype=np.float64)
    checks = (
        (np.isnan(value), "is missing or no number"),
        (np.isinf(value), "is infinite"),
        (value < 0, "is negative; demand must be >= 0"),
    )
    for bad, why in checks:
        if bad.any():
            row = int(np.flatnonzero(bad)[0])
            raise SafeframeError(
                f"{path}, {_line(row)} ({table[TIME_COLUMN].iloc[row]}): {name} = {text.iloc[row]!r} {why} "
                f"({int(bad.sum())} such value(s) in this series)"
            )
    return value
