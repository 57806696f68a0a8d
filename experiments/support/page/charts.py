"""From a frontier and its table to an interactive chart (Plotly) and the table of the same numbers."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from experiments.support.errors import ResultsError
from experiments.support.page.parts import PALETTE, Axis, Frontier

SYMBOLS = ("circle", "square", "triangle-up", "diamond", "triangle-down", "cross", "x", "star")
BELOW = 2.5
"""The line marked 0 lies this many times below the least value of a logarithmic axis."""


def rows_of(frontier: Frontier, results: Path) -> pd.DataFrame:
    """The rows of the frontier's table that have a point, as they are committed.

    Args:
        frontier: what is to be shown.
        results: the folder results/.

    Returns:
        Rows with finite x and y, in the order of the legend and of the table.

    Raises:
        ResultsError: if the table is missing, lacks a column, or has no such row.
    """
    path = results / frontier.table
    if not path.is_file():
        raise ResultsError(f"{path} is missing; make figures writes it")
    table = pd.read_csv(path)
    ends = [name for axis in (frontier.x, frontier.y) for name in (axis.low, axis.high) if name]
    wanted = [frontier.by, frontier.x.column, frontier.y.column, frontier.n, *ends, *frontier.where]
    missing = [name for name in wanted if name not in table]
    if missing:
        raise ResultsError(f"{path} has no column {', '.join(missing)}; it has {', '.join(table.columns)}")
    for column, value in frontier.where.items():
        table = table[table[column] == value]
    table = table[table[frontier.x.column].notna() & table[frontier.y.column].notna()]
    order = {method: place for place, method in enumerate(frontier.methods)}
    table = table[table[frontier.by].isin(list(order))]
    if table.empty:
        raise ResultsError(f"{path} has no row that the chart {frontier.name} could show")
    return table.assign(_order=table[frontier.by].map(order)).sort_values("_order", kind="stable")


def figure(frontier: Frontier, rows: pd.DataFrame, seeds: str) -> dict[str, Any]:
    """A Plotly figure as plain data: a trace for each method, hover text for each point.

    Args:
        frontier: what is shown.
        rows: as :func:`rows_of` gives them.
        seeds: of the runs, as text.

    Returns:
        {"data": traces, "layout": layout}, checked by Plotly.
    """
    import plotly.graph_objects as go

    rails = {axis.column: rail(axis, rows) for axis in (frontier.x, frontier.y)}
    chart = go.Figure()
    if frontier.promise:
        ends = _span(frontier.x, rows)
        chart.add_scatter(
            x=ends, y=ends, mode="lines", name="y = x, the promise", hoverinfo="skip",
            line={"dash": "dot", "width": 1.5, "color": "#777777"},
        )  # fmt: skip
    for place, (method, name) in enumerate(frontier.methods.items()):
        own = rows[rows[frontier.by] == method]
        if own.empty:
            continue
        colour = PALETTE[place % len(PALETTE)]
        chart.add_scatter(
            x=_placed(frontier.x, own, rails), y=_placed(frontier.y, own, rails),
            error_x=_bars(frontier.x, own, rails, colour), error_y=_bars(frontier.y, own, rails, colour),
            mode="lines+markers", name=name, text=[hover(frontier, row, seeds) for row in records(own)],
            hovertemplate="%{text}<extra></extra>", line={"color": colour, "width": 1.5},
            marker={"color": colour, "size": 8, "symbol": SYMBOLS[place % len(SYMBOLS)]},
        )  # fmt: skip
    chart.update_layout(xaxis=_axis(frontier.x, rows, rails), yaxis=_axis(frontier.y, rows, rails))
    content = json.loads(chart.to_json())
    content["layout"].pop("template", None)  # colours are the page's, light or dark
    return content


def hover(frontier: Frontier, row: dict[str, Any], seeds: str) -> str:
    """What is shown of one point: method, r_t, both values with their intervals, n and seeds."""
    lines = [f"<b>{frontier.methods[row[frontier.by]]}</b>"]
    for column, name in frontier.knob.items():
        if column in row and not pd.isna(row[column]):
            lines.append(f"{name} = {shown(row[column])}")
    for axis in (frontier.x, frontier.y):
        if axis.column not in frontier.knob:
            lines.append(f"{axis.title}: {value(axis, row)}")
    kind = row.get("interval", frontier.interval)
    if isinstance(kind, str) and kind:
        lines.append(f"interval: {kind}")
    runs = f"{int(row['runs'])} runs, " if "runs" in row and not pd.isna(row["runs"]) else ""
    lines.append(f"n = {int(row[frontier.n]):,} {frontier.units}")
    lines.append(f"{runs}seeds {seeds}" if seeds else runs.rstrip(", "))
    return "<br>".join(line for line in lines if line)


def value(axis: Axis, row: dict[str, Any]) -> str:
    """A value with its interval as text."""
    text = shown(row[axis.column])
    ends = [row[name] for name in (axis.low, axis.high) if name]
    return f"{text} [{', '.join(map(shown, ends))}]" if ends and not any(map(pd.isna, ends)) else text


def shown(number: float) -> str:
    """Four significant digits."""
    return f"{number:.4g}"


def records(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as dictionaries with text keys."""
    return [{str(key): item for key, item in row.items()} for row in rows.to_dict("records")]


def rail(axis: Axis, rows: pd.DataFrame) -> float | None:
    """Where zeros lie on a logarithmic axis; None where there are none, or the axis is linear."""
    values = rows[axis.column].to_numpy(dtype=float)
    if not axis.log or not (values <= 0).any():
        return None
    return _least(axis, rows) / BELOW


def _least(axis: Axis, rows: pd.DataFrame) -> float:
    values = rows[axis.column].to_numpy(dtype=float)
    above = values[values > 0]
    least = float(above.min()) if above.size else 1e-3
    return least if axis.least is None else min(axis.least, least)


def _placed(axis: Axis, rows: pd.DataFrame, rails: dict[str, float | None]) -> list[float]:
    values, zero = rows[axis.column].to_numpy(dtype=float), rails[axis.column]
    return [float(x) for x in (values if zero is None else np.where(values <= 0, zero, values))]


def _bars(axis: Axis, rows: pd.DataFrame, rails: dict[str, float | None], colour: str) -> dict | None:
    """Error bars; on a logarithmic axis lower ends are cut where it begins."""
    if axis.low is None or axis.high is None:
        return None
    at = np.array(_placed(axis, rows, rails))
    low, high = rows[axis.low].to_numpy(dtype=float), rows[axis.high].to_numpy(dtype=float)
    if axis.log:
        low = np.maximum(low, (rails[axis.column] or _least(axis, rows) / BELOW))
    up, down = (np.nan_to_num(np.maximum(end, 0.0)) for end in (high - at, at - low))
    return {
        "type": "data", "symmetric": False, "array": up.tolist(), "arrayminus": down.tolist(),
        "thickness": 1, "width": 2, "color": colour,
    }  # fmt: skip


def _span(axis: Axis, rows: pd.DataFrame) -> list[float]:
    values = rows[axis.column].to_numpy(dtype=float)
    return [float(values[values > 0].min()), float(values.max())]


def _axis(axis: Axis, rows: pd.DataFrame, rails: dict[str, float | None]) -> dict[str, Any]:
    """Title, scale and ticks; a logarithmic axis has whole decades, and 0 where zeros lie."""
    made: dict[str, Any] = {"title": {"text": axis.title}, "automargin": True}
    if not axis.log:
        return made
    zero, values = rails[axis.column], rows[axis.column].to_numpy(dtype=float)
    tops = [values] + ([rows[axis.high].to_numpy(dtype=float)] if axis.high else [])
    top = float(np.nanmax(np.concatenate(tops)))
    bottom = zero if zero is not None else _least(axis, rows)
    decades = [
        10.0**k for k in range(math.ceil(math.log10(bottom * 1.3)), math.floor(math.log10(top * 1.3)) + 1)
    ]
    ticks = ([] if zero is None else [zero]) + decades
    names = ([] if zero is None else ["0"]) + [f"{x:g}" for x in decades]
    ends = [math.log10(bottom / 1.4), math.log10(top * 1.4)]
    return made | {"type": "log", "tickvals": ticks, "ticktext": names, "range": ends}
