"""Real demand: hourly electricity demand from US EIA Form 930, cleaned.

Source: Ruggles et al., Scientific Data 7:155, 2020.

The file is a table (`tables`: csv, plain or packed, or parquet) with a column `utc_hour` and one column per
balancing (sub)area, one row per hour, four quarters or more. The unit does not matter, since every series is
scaled by its own range. The file is not part of the repository; the user gives its path. The reader checks
everything that would make a case mean something else than it says and stops with the column and line
concerned; what merely looks odd is said (`quality`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from experiments.production.demand import quality, tables
from experiments.production.demand.described import tell
from experiments.production.demand.hours import TIME_COLUMN, hours, looks_like_times
from experiments.production.demand.quarters import (
    HOURS_PER_QUARTER,
    N_QUARTERS,
    Quarter,
    check_order,
    periods,
    roles,
)
from experiments.production.demand.series import (
    N_PRODUCTS,
    SCALE_TOP,
    UNSAFE_BELOW,
    DemandData,
    build_cases,
)
from experiments.production.demand.tables import Table
from safeframe.types import SafeframeError

__all__ = ["TIME_COLUMN", "load_eia"]


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

    Demand is scaled by the minimum and maximum of the training quarters and clipped to [0, 10]; clipping is
    reported.

    Args:
        path: .csv, .csv.gz, .csv.xz, .zip with one csv, or .parquet.
        columns: the four series, in the order of the products; None takes the four with the largest share of
            hours below 3 in the training year (of CISO-SDGE .14, PJM-PL .16, PJM-PN .24, PJM-AEP .34,
            ISNE-4003 .07 in 2021 it leaves out ISNE-4003), in the order of the file.
        lookback: hours of measured demand that a case holds.
        lead: hours from the last measured one to the one that is planned.
        hours_per_quarter: length of each quarter.
        order: the role (`Quarter`) of each consecutive quarter of time, four or more of them; -1 leaves one
            out.
        skip_quarters: quarters at the beginning of the file that are left out.

    Returns:
        The cases of all quarters that have a role.

    Raises:
        SafeframeError: file missing or unreadable, columns missing or repeated, times unparsable, hours
            missing or duplicated, values missing, unparsable, infinite or negative, a series constant in the
            training quarters, too few hours.
    """
    path, order = Path(path), check_order(order)
    table = tables.read(path, TIME_COLUMN)
    available = [name for name in table.cells.columns if name != TIME_COLUMN]
    _check_columns(table, columns, available)
    times = hours(table)
    wanted = available if columns is None else list(columns)
    raw = np.stack([_numbers(table, name, columns is None) for name in wanted], axis=1)  # (hours, series)

    skipped = skip_quarters * hours_per_quarter
    if skipped:
        if len(raw) - skipped < len(order) * hours_per_quarter:
            count = "four" if len(order) == N_QUARTERS else str(len(order))
            raise SafeframeError(
                f"{path}: {len(raw):,} hours; without its first {skip_quarters} quarters of "
                f"{hours_per_quarter:,} hours fewer than {count} are left"
            )
        raw, times = raw[skipped:], times[skipped:]
    try:
        period = periods(len(raw), lookback, lead, hours_per_quarter, order)
    except SafeframeError as error:
        raise SafeframeError(f"{path}: {error}") from error
    in_training = roles(period, order) == Quarter.TRAINING
    training = raw[in_training]
    minimum, maximum = training.min(axis=0), training.max(axis=0)
    constant = [name for name, low, high in zip(wanted, minimum, maximum, strict=True) if low == high]
    if constant:
        raise SafeframeError(
            f"{path}: series {', '.join(constant)} constant in the training quarter; it cannot be scaled to "
            "[0, 10]; name four other columns"
        )
    notes, oddities = [], quality.oddities(raw, times, wanted, in_training)
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
    data = build_cases(
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
        oddities=oddities,
    )
    tell(data)
    return data


def _check_columns(table: Table, columns: Sequence[str] | None, available: list[str]) -> None:
    path, header = table.path, list(table.cells.columns)
    there = f"the file has {', '.join(header)}"
    if TIME_COLUMN not in header:
        likely = [name for name in header if looks_like_times(table.cells[name])]
        advice = f"; if {likely[0]} holds the times in UTC, call it {TIME_COLUMN}" if likely else ""
        raise SafeframeError(f"{path}: column {TIME_COLUMN} is missing; {there}{advice}")
    if columns is None:
        _check_wide(table, available)
        if len(available) < N_PRODUCTS:
            raise SafeframeError(f"{path}: {N_PRODUCTS} series are needed beside {TIME_COLUMN}; {there}")
        return
    if isinstance(columns, str) or len(columns) != N_PRODUCTS or len(set(columns)) != N_PRODUCTS:
        raise SafeframeError(f"columns = {columns!r}: {N_PRODUCTS} different series must be named; {there}")
    missing = [name for name in columns if name not in available]
    if missing:
        _check_wide(table, available)
        close = [near for name in missing for near in available if near.casefold() == name.casefold()]
        advice = f"; is {', '.join(close)} meant?" if close else ""
        raise SafeframeError(f"{path}: columns missing: {', '.join(missing)}; {there}{advice}")


def _check_wide(table: Table, available: list[str]) -> None:
    """One column per series; raises for a long table, where a column says whose demand a row is."""
    if not table.cells[TIME_COLUMN].duplicated().any():
        return
    names = [one for one in available if pd.to_numeric(table.cells[one], errors="coerce").isna().all()]
    values = [one for one in available if one not in names]
    if names and values and table.cells[names[0]].nunique() > 1:
        raise SafeframeError(
            f"{table.path}: hours repeat, and {names[0]} seems to say whose demand a row is: one row per "
            "hour and one column per series are needed; pandas makes them by frame.pivot("
            f"index={TIME_COLUMN!r}, columns={names[0]!r}, values={values[-1]!r}).reset_index()"
        )


def _numbers(table: Table, name: str, any_series: bool) -> np.ndarray:
    """(hours,) one series as finite numbers >= 0; `any_series`: whether another could be taken instead."""
    text = table.cells[name]
    value = pd.to_numeric(text, errors="coerce").to_numpy(dtype=np.float64)
    checks = (
        (np.isnan(value), "is missing or no number"),
        (np.isinf(value), "is infinite"),
        (value < 0, "is negative; demand must be >= 0"),
    )
    for bad, why in checks:
        if bad.any():
            row = int(np.flatnonzero(bad)[0])
            cell = text.iloc[row]
            raise SafeframeError(
                f"{table.path}, {table.where(row)} ({table.cells[TIME_COLUMN].iloc[row]}): {name} = {cell!r} "
                f"{why}{_advice(cell)} ({int(bad.sum())} such value(s) in this series)"
                + ("; name four other series (data.columns) or mend it" if any_series else "")
            )
    return value


def _advice(cell: str) -> str:
    """What a cell that is no number was probably meant to be."""
    if re.fullmatch(r"\d{1,3}(,\d{3})+(\.\d+)?", cell):
        return f": write {cell.replace(',', '')}, without marks between thousands"
    if re.fullmatch(r"\d+,\d+", cell):
        return f": write {cell.replace(',', '.')}, with a point before decimals"
    return ""
