"""The sections of the report, each from files that are committed under results/."""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Iterable
from html import escape
from pathlib import Path
from typing import Any

import pandas as pd
from PIL import Image

from experiments.support.errors import ResultsError
from experiments.support.page import charts, markup
from experiments.support.page.parts import Axis, Frontier, Part
from experiments.support.results.saved import INDEX, read_raw

EPISODES = "episodes/episodes.json"
"""What results/episodes holds: written by scripts/keep_episodes.py."""


def ledger_rows(ledger: pd.DataFrame, wanted: Iterable[dict[str, Any]], label: str) -> str:
    """A table of claims. Each number carries the value that the ledger has.

    Args:
        ledger: results/claims.csv.
        wanted: rows: claim, data, preset, and the texts `shown`, `paper` and `differs`.
        label: of the table.
    """
    known = {(row["claim"], row["data"], row["preset"]): row for row in charts.records(ledger)}
    head = [
        "claim",
        "data",
        "preset",
        "ours [95 %]",
        "paper",
        "what differs",
        "n",
        "seeds",
        "command",
        "commit",
    ]
    lines, given = [], []
    for one in wanted:
        row = known.get((one["claim"], one["data"], one["preset"]))
        own = escape(one["shown"]) if row is None else markup.number(one["shown"], row["value"])
        code = f"<code>{escape(one['claim'])}</code>"
        about = [escape(one[name]) for name in ("data", "preset")]
        rest = [escape(one["paper"]), escape(one["differs"])]
        if row is None:
            lines.append([code, *about, own, *rest, "", "", "", ""])
            given.append({})
            continue
        measured = [f"{row['n']:,}", escape(row["seeds"]), f"<code>{escape(row['command'])}</code>"]
        lines.append([code, *about, own, *rest, *measured, f"<code>{escape(row['commit'])}</code>"])
        ends = {"data-low": row["low"], "data-high": row["high"]}
        given.append(
            {"data-claim": row["claim"], "data-data": row["data"], "data-preset": row["preset"]}
            | {name: repr(end) for name, end in ends.items() if not pd.isna(end)}
        )
    return markup.table(head, lines, label, given)


def frontier(one: Frontier, results: Path, ledger: pd.DataFrame) -> str:
    """An interactive chart, and the numbers that it shows as a table."""
    rows = charts.rows_of(one, results)
    seeds = seeds_of(one, ledger)
    content = json.dumps(charts.figure(one, rows, seeds), separators=(",", ":")).replace("<", "\\u003c")
    label = f"{one.title}. Interactive chart: arrow keys go from point to point."
    chart = (
        f'<div class="chart" id="{one.name}" role="application" tabindex="0" aria-label="{escape(label)}" '
        f'aria-describedby="{one.name}-about"></div>'
        f'<p class="readout" id="{one.name}-readout" aria-live="polite"></p>'
        f'<script type="application/json" id="{one.name}-data">{content}</script>'
    )
    head, lines = numbers(one, rows)
    below = markup.details(
        f"The numbers of this chart ({len(lines)} points)", markup.table(head, lines, f"Numbers: {one.title}")
    )
    source = f"<code>results/{escape(one.table)}</code>"
    about = f'<p id="{one.name}-about">{escape(one.about)} From {source}.</p>'
    return f'<section class="frontier"><h4>{escape(one.title)}</h4>{about}{chart}{below}</section>'


def seeds_of(one: Frontier, ledger: pd.DataFrame) -> str:
    """Seeds of the frontier's runs, from the ledger's row that it names.

    Raises:
        ResultsError: if there is no such row.
    """
    claim, data, preset = one.seeds
    if not claim:
        return ""
    found = ledger[(ledger["claim"] == claim) & (ledger["data"] == data) & (ledger["preset"] == preset)]
    if len(found) != 1:
        raise ResultsError(f"{len(found)} rows of the ledger are {claim}, {data}, {preset}; one is needed")
    return str(found.iloc[0]["seeds"])


def numbers(one: Frontier, rows: pd.DataFrame) -> tuple[list[str], list[list[str]]]:
    """Head and cells of the table below a chart: as in the committed table, to four digits."""
    knobs = [name for name in one.knob if name in rows and rows[name].notna().any()]
    axes = [axis for axis in (one.x, one.y) if axis.column not in one.knob]
    head = ["method", *(one.knob[name] for name in knobs), *(escape(axis.title) for axis in axes)]
    lines = []
    for row in charts.records(rows):
        cells = [escape(one.methods[row[one.by]])]
        cells += ["" if pd.isna(row[name]) else charts.shown(row[name]) for name in knobs]
        cells += [_cell(axis, row) for axis in axes]
        lines.append([*cells, f"{int(row[one.n]):,}"])
    return [*head, f"n, {escape(one.units)}"], lines


def _cell(axis: Axis, row: dict[str, Any]) -> str:
    return markup.number(charts.value(axis, row), row[axis.column])


def figures_of(parts: Iterable[Part], place: Path) -> dict[str, list[str]]:
    """Names of the figures of each experiment, in order; those of none are under "" (nothing is left out)."""
    left = sorted(path.stem for path in place.glob("*.txt"))
    found: dict[str, list[str]] = {}
    for part in parts:
        own = found.setdefault(part.experiment, [])
        for pattern in part.figures:
            own += [name for name in fnmatch.filter(left, pattern) if name not in own]
        left = [name for name in left if name not in own]
    return found | ({"": left} if left else {})


def figure(name: str, place: Path, note: str = "") -> str:
    """A figure with its caption. What it shows in words is the caption's beginning.

    Raises:
        ResultsError: if the picture or its caption is missing.
    """
    picture, caption = place / f"{name}.png", place / f"{name}.txt"
    for path in (picture, caption):
        if not path.is_file():
            raise ResultsError(f"{path} is missing; make figures writes it")
    text = caption.read_text(encoding="utf-8").strip()
    alt = f"Figure {name.replace('_', ' ')}{note}: {first_sentence(text)}"
    with Image.open(picture) as opened:
        size = opened.width // 2, opened.height // 2  # saved at 200 points an inch
    shown = markup.scrolling(markup.image(picture, alt, size), f"Figure {name}{note}", "scroll picture")
    head = f"<b>{escape(name)}{escape(note)}.</b> "
    place_ = f"figure-{name}{'-paper' if note else ''}"
    return f'<figure id="{place_}">{shown}<figcaption>{head}{escape(text)}</figcaption></figure>'


def first_sentence(text: str) -> str:
    """Up to the first full stop that ends a sentence, at most 200 characters."""
    end = text.find(". ")
    return (text if end < 0 else text[: end + 1])[:200]


def episodes(results: Path) -> str:
    """Guarded and unguarded episodes side by side, as moving pictures; they stand still on request."""
    path = results / EPISODES
    if not path.is_file():
        return ""
    parts = []
    for about in json.loads(path.read_text(encoding="utf-8")):
        cells = []
        for kind in ("unguarded", "guarded"):
            file, own = path.parent / about[kind]["file"], about[kind]
            with Image.open(file) as opened:
                size = opened.size
            counted = f"{own['steps_in_a_hazard']} of {about['steps']} steps inside a hazard"
            counted += f", return {own['return']:.1f}"
            how = "without the guard" if kind == "unguarded" else f"under the guard, r_t = {about['r_t']:g}"
            alt = f"{about['task']} from above, {how}: {counted}."
            shown = markup.image(file, alt, size).replace("<img", '<img class="moving"')
            text = f"{how[0].upper()}{how[1:]}: {counted}."
            cells.append(f"<figure>{shown}<figcaption>{escape(text)}</figcaption></figure>")
        intro = (
            f"The same agent in the same layout twice, seed {about['seed']}: number {about['layout']} of "
            f"{about['layouts']} layouts, the first in which the agent alone enters a hazard. "
            "Blue: hazards; green: goal; red: a step inside a hazard. Beside the guarded "
            "robot: its candidate actions, coloured by the bound on their risk, the chosen one framed. From "
            f"<code>{escape(about['command'])}</code>, commit <code>{escape(about['commit'][:12])}</code>."
        )
        pair = f'<div class="pair">{"".join(cells)}</div>'
        parts.append(f"<section><h4>{escape(about['task'])}</h4><p>{intro}</p>{pair}</section>")
    stop = '<button type="button" class="still" aria-pressed="false">Stop the moving pictures</button>'
    return f"<h3>Episodes</h3><p>{stop}</p>{''.join(parts)}" if parts else ""


def manifests(raw: Path, experiment: str) -> str:
    """Every run behind the figures: settings, command, commit, machine and times; the whole manifest too."""
    lines = []
    for place in sorted(raw.glob(f"*/{experiment}")):
        if not (place / INDEX).is_file():
            continue
        for run in sorted(read_raw(place), key=lambda one: one.finished):
            about = run.manifest
            whole = json.dumps({"config": run.config, "manifest": about}, indent=1, default=str)
            shown = markup.scrolling(f"<pre>{escape(whole)}</pre>", f"Manifest of run {run.run}")
            lines.append([
                f"<code>{escape(run.run)}</code>", escape(str(run.setting("preset"))), str(run.seed),
                f"<code>{escape(str(about.get('command', '')))}</code>",
                f"<code>{escape(str(about.get('commit', ''))[:12])}</code>",
                escape(run.finished), f"{float(about.get('seconds', 0)):,.0f}",
                escape(str(about.get("hardware", {}).get("processor", ""))),
                markup.details("manifest", shown),
            ])  # fmt: skip
    if not lines:
        return ""
    head = [
        "run",
        "preset",
        "seed",
        "command",
        "commit",
        "finished (UTC)",
        "seconds",
        "processor",
        "all of it",
    ]
    content = markup.table(head, lines, f"Runs of {experiment}")
    return markup.details(f"The {len(lines)} runs behind these results", content)
