"""Thresholds in force, by r_t and group: how each came about, and how they are kept as text."""

from __future__ import annotations

import json
import math
from collections.abc import Hashable, Mapping
from dataclasses import asdict, dataclass, field, replace
from itertools import pairwise
from typing import Any

from safeframe.groups.constraint import GroupShare
from safeframe.guard.report import EVERYTHING
from safeframe.guard.safety_guard import SafetyGuard
from safeframe.service.storage.encoding import group_text


@dataclass(frozen=True)
class Cut:
    """One threshold in force, for one r_t and group.

    Attributes:
        tau: accept iff margin < tau; -inf rejects everything.
        verdict: "first" (as the guard was calibrated), "new" (chosen on a window), "kept" (the window could
            not calibrate, so the former one stays) or "refused" (the window speaks against all thresholds).
        why: in words.
        bound: on the risk at ``tau``, as the rule states it; NaN where nothing new was found.
        n: labelled cases of the window that the bound counts.
        k: unsafe ones among them.
        n_window: labelled cases of the window.
        binding: with a threshold common to all groups, that of the largest bound there, or the one for which
            nothing is accepted; else None.
        members: what each of the groups that are pooled has of the window; empty where none are.
    """

    tau: float
    verdict: str = "first"
    why: str = "as the guard was calibrated"
    bound: float = math.nan
    n: int = 0
    k: int = 0
    n_window: int = 0
    binding: Hashable = None
    members: Mapping[Hashable, GroupShare] = field(default_factory=dict)


Cuts = Mapping[float, Mapping[Hashable, Cut]]


def first_cuts(guard: SafetyGuard) -> dict[float, dict[Hashable, Cut]]:
    """The thresholds that a guard was calibrated with.

    Args:
        guard: calibrated.

    Returns:
        By r_t and group.
    """
    return {
        r_t: {group: Cut(float(one.tau)) for group, one in found.items()}
        for r_t, found in guard.calibrations.items()
    }


def cuts_text(cuts: Cuts) -> str:
    """Thresholds as JSON.

    Args:
        cuts: by r_t and group.

    Returns:
        The text.

    Raises:
        SafeframeError: on group ids that are neither texts nor numbers.
    """
    return json.dumps([
        [r_t, json.loads(group_text(group)), {**vars(cut), "members": [
            [json.loads(group_text(key)), asdict(share)] for key, share in cut.members.items()
        ]}]
        for r_t, found in cuts.items()
        for group, cut in found.items()
    ])  # fmt: skip


def read_cuts(text: str) -> dict[float, dict[Hashable, Cut]]:
    """Thresholds from JSON.

    Args:
        text: from :func:`cuts_text`.

    Returns:
        By r_t and group.
    """
    cuts: dict[float, dict[Hashable, Cut]] = {}
    for r_t, group, cut in json.loads(text):
        members = {key: GroupShare(**share) for key, share in cut.pop("members", [])}
        cuts.setdefault(r_t, {})[group] = Cut(**cut, members=members)
    return cuts


def whole(groups: Mapping[Hashable, Any]) -> bool:
    """Whether one threshold is in force for all cases, whatever group they have.

    Args:
        groups: what belongs to each group.

    Returns:
        True where there is nothing but ``EVERYTHING``.
    """
    return list(groups) == [EVERYTHING]


def least_of_looser(cuts: Mapping[float, dict[Hashable, Cut]]) -> dict[float, dict[Hashable, Cut]]:
    """Thresholds in which no stricter r_t accepts more than a looser one: the smaller threshold counts.

    Args:
        cuts: by r_t and group.

    Returns:
        The same, lowered where needed.
    """
    made: dict[float, dict[Hashable, Cut]] = {r_t: dict(found) for r_t, found in sorted(cuts.items())}
    levels = sorted(made, reverse=True)
    for looser, stricter in pairwise(levels):
        for key, cut in made[stricter].items():
            above = made[looser][key]
            if above.tau < cut.tau:
                why = f"r_t = {looser:g} has this threshold, and a stricter one may not accept more"
                made[stricter][key] = replace(above, why=why)
    return {r_t: made[r_t] for r_t in cuts}
