"""What a dashboard shows, in words of our own: panels that name keys which runs log (`keys.py`)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from experiments.support.tracking import keys


@dataclass(frozen=True)
class Lines:
    """Curves over a logged key, one for each run, or for each group of runs: their mean and range.

    Attributes:
        title: of the panel.
        x: key that is drawn over.
        y: keys that are drawn.
        log_x, log_y: whether an axis is logarithmic.
    """

    title: str
    x: str
    y: tuple[str, ...]
    log_x: bool = False
    log_y: bool = False

    @property
    def keys(self) -> tuple[str, ...]:
        """Keys that the panel needs."""
        return (self.x, *self.y)


@dataclass(frozen=True)
class Points:
    """One point for each run: a key of the summary against another one."""

    title: str
    x: str
    y: str
    log_x: bool = False
    log_y: bool = False

    @property
    def keys(self) -> tuple[str, ...]:
        """Keys that the panel needs."""
        return (self.x, self.y)


@dataclass(frozen=True)
class Bars:
    """One bar for each run and key of the summary."""

    title: str
    y: tuple[str, ...]

    @property
    def keys(self) -> tuple[str, ...]:
        """Keys that the panel needs."""
        return self.y


@dataclass(frozen=True)
class Media:
    """Pictures that runs left."""

    title: str
    media: tuple[str, ...]

    @property
    def keys(self) -> tuple[str, ...]:
        """Keys that the panel needs."""
        return self.media


@dataclass(frozen=True)
class Rows:
    """A logged table."""

    title: str
    table: str = keys.TABLE

    @property
    def keys(self) -> tuple[str, ...]:
        """Keys that the panel needs."""
        return (self.table,)


Panel = Lines | Points | Bars | Media | Rows


@dataclass(frozen=True)
class Section:
    """Panels under one heading, with a sentence that says how to read them."""

    title: str
    about: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True)
class Dashboard:
    """One experiment's dashboard."""

    experiment: str
    title: str
    about: str
    sections: tuple[Section, ...]

    @property
    def panels(self) -> list[Panel]:
        """All panels, in order."""
        return [panel for section in self.sections for panel in section.panels]


def missing(dashboard: Dashboard, logged: Iterable[str]) -> list[str]:
    """Keys that panels name and no run has logged.

    Args:
        dashboard: what is shown.
        logged: keys; of tables and pictures, which are logged as several, the beginning counts.

    Returns:
        "PANEL: KEY" for each of them.
    """
    known = set(logged)
    starts = {name.rsplit("/", 1)[0] for name in known}
    return [
        f"{panel.title}: {key}"
        for panel in dashboard.panels
        for key in panel.keys
        if key not in known and key not in starts
    ]


def losses(*names: str) -> tuple[Lines, ...]:
    """A panel for each training."""
    return tuple(Lines(f"Loss: {name}", *_loss(name), log_y=True) for name in names)


def _loss(name: str) -> tuple[str, tuple[str, ...]]:
    over, value = keys.loss(name)
    return over, (value,)


def curve(method: str, metric: str) -> str:
    """Key of a result over r_t."""
    return keys.key("curve", method, metric)
