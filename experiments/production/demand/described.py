"""What a run says of its demand: how it was scaled, what was clipped, how the share of unsafe hours moved."""

from __future__ import annotations

import logging

import numpy as np

from experiments.production.demand.quality import CLIPPED
from experiments.production.demand.quarters import Quarter
from experiments.production.demand.series import UNSAFE_BELOW, DemandData

log = logging.getLogger(__name__)


def tell(data: DemandData) -> None:
    """Write to the log what `described` says; what is suspicious as a warning."""
    for text in described(data):
        log.info("%s", text)
    for text in (*data.oddities, *far_out(data)):
        log.warning("%s", text)


def described(data: DemandData) -> list[str]:
    """The demand of a run in a few lines: scale, clipping, notes, and the prior by quarter of time."""
    ranges = zip(data.names, data.clip.minimum, data.clip.maximum, strict=True)
    return [
        f"demand from {data.source}, 0 to 10 is "
        + "; ".join(f"{name} {low:g} to {high:g}" for name, low, high in ranges),
        str(data.clip),
        *data.notes,
        *moved(data),
    ]


def shares(data: DemandData) -> np.ndarray:
    """(quarters of time, p) share of unsafe hours, the prior of each; NaN for a quarter that is left out."""
    found = np.full((len(data.starts), len(data.names)), np.nan)
    for k in range(len(found)):
        mine = data.period == k
        if mine.any():
            found[k] = data.unsafe[mine].mean(axis=0)
    return found


def moved(data: DemandData) -> list[str]:
    """The prior of every quarter of time, and its odds over those of the quarters calibrated on."""
    share = shares(data)
    calibration = data.unsafe[data.where(Quarter.INTERNAL_TEST_VALIDATION)].mean(axis=0)
    lines = [
        f"share of hours with a demand below {UNSAFE_BELOW:g} (odds / those of the hours calibrated on):"
    ]
    for k, start in enumerate(data.starts):
        if np.isnan(share[k]).any():
            continue
        role = Quarter(int(data.quarter[data.period == k][0]))
        parts = [
            f"{name} {mine:.3f}{_odds(mine, theirs)}"
            for name, mine, theirs in zip(data.names, share[k], calibration, strict=True)
        ]
        lines.append(f"  from {start}, {role.title}: {', '.join(parts)}")
    return lines


def _odds(mine: float, theirs: float) -> str:
    if not 0 < theirs < 1 or mine == 1:
        return ""
    return f" (x {mine / (1 - mine) / (theirs / (1 - theirs)):.2f})"


def far_out(data: DemandData) -> list[str]:
    """A sentence for every series and role of which a large share was clipped."""
    return [
        f"{name}: {share:.0%} of the hours of {role.title} lie {side} the range of the training quarter and "
        "were clipped: did the series or its unit change?"
        for side, table in (("below", data.clip.below), ("above", data.clip.above))
        for role in Quarter
        for name, share in zip(data.names, table[role], strict=True)
        if share > CLIPPED
    ]
