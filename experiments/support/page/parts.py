"""What an experiment says about its part of the report: its figures, its frontiers, its episodes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#777777", "#A6761D")
"""The colours of the figures, less black and yellow, which are lost on a dark or a light ground."""


@dataclass(frozen=True)
class Axis:
    """One axis of a frontier.

    Attributes:
        column: of the table.
        title: what it is, with its unit.
        log: whether the axis is logarithmic; zeros then lie on a line marked 0 below all other values.
        low: column of the interval's lower end; None: there is no interval.
        high: column of its upper end.
        least: a logarithmic axis ends here, and bars that go on are cut; None: at the least value.
    """

    column: str
    title: str
    log: bool = False
    low: str | None = None
    high: str | None = None
    least: float | None = None


@dataclass(frozen=True)
class Frontier:
    """Points of several methods, drawn from a committed table of results.

    Attributes:
        name: of the chart, used as its id in the page.
        title: what is shown.
        about: how to read it, in a sentence or two.
        table: file under results/.
        x: horizontal axis.
        y: vertical axis.
        methods: value of the column `by` -> name that a reader sees, in the order of the legend.
        n: column with the number of units behind a point.
        units: what they are ("product-hours").
        by: column that tells methods apart.
        where: column -> the value that rows must have.
        knob: column -> how hover text names it, for what a method is set by.
        interval: of the bars, where the table has no column `interval`.
        seeds: (claim, data, preset) of the row of the ledger that says the seeds.
        promise: whether the line y = x is drawn: what is promised lies at or below it.
    """

    name: str
    title: str
    about: str
    table: str
    x: Axis
    y: Axis
    methods: Mapping[str, str]
    n: str
    units: str
    by: str = "method"
    where: Mapping[str, str | float] = field(default_factory=dict)
    knob: Mapping[str, str] = field(default_factory=lambda: {"r_t": "r_t", "knob": "setting"})
    interval: str = ""
    seeds: tuple[str, str, str] = ("", "", "laptop")
    promise: bool = False


@dataclass(frozen=True)
class Part:
    """One experiment's part of the report.

    Attributes:
        experiment: its name.
        title: heading.
        about: a paragraph for someone who does not know the paper.
        figures: patterns of the names of its figures under results/figures, in the order they are shown.
        frontiers: its interactive charts.
        episodes: whether results/episodes shows its episodes.
    """

    experiment: str
    title: str
    about: str
    figures: tuple[str, ...]
    frontiers: tuple[Frontier, ...] = ()
    episodes: bool = False
