"""One threshold for several groups, from a window: the largest at which each group's bound is within r_t.

This is a recalibration with ``constraint="worst_group"``: the single threshold stays a single one, on the
common scale that was fitted when the guard was calibrated. What the window says group by group leads to one
verdict for all:

- "refused" where some group's window speaks against the threshold in force, or has cases enough and no
  threshold qualifies, or none qualifies in every group at once;
- "new" where the groups that the window can calibrate have a common threshold. A group that it cannot
  calibrate (no unsafe case, too few) keeps the promise that it had: the threshold does not rise for its sake,
  and where it falls for the others' sake that takes that the group's risk does not grow as it falls;
- "kept" where the window can calibrate no group.

It rises only where audited cases of *every* group allow it. Certified thresholds are those certified in every
group; the groups share delta, because which of them are judged depends on the window.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from safeframe.groups.constraint import share_of
from safeframe.groups.worst import WorstRule
from safeframe.guard.settings import Certified
from safeframe.service.cuts import Cut
from safeframe.service.looking import Found, Look, judged, new, refused, ruled
from safeframe.service.window import Cases
from safeframe.threshold_rule import ThresholdRule


@dataclass(frozen=True)
class _Common:
    """A common threshold (-inf: none), the bound of each group that was judged, and the one that binds."""

    tau: float
    bounds: Mapping[Hashable, float]
    binding: Hashable


def in_every_group(looks: Mapping[Hashable, Look]) -> dict[Hashable, Cut]:
    """One threshold for all groups from a window.

    Args:
        looks: at every group, for one r_t; the threshold in force is the same in all of them.

    Returns:
        By group; the threshold is the same in all of them.
    """
    limit = min(look.limit for look in looks.values())
    looks = {key: replace(look, limit=limit) for key, look in looks.items()}
    first = next(iter(looks.values()))
    ceiling = min(look.former.tau for look in looks.values())
    certifies = isinstance(first.guard.settings.rule, Certified)
    alone = _passed(looks) if certifies else {key: _below(look, ceiling) for key, look in looks.items()}
    able = {key: looks[key] for key, found in alone.items() if found.tau > -np.inf}
    kept = {key: judged(alone[key], look) for key, look in looks.items() if key not in able}
    against = [key for key, cut in kept.items() if cut.verdict == "refused"]
    if against:
        return _nowhere(looks, f"group {against[0]!r}: {kept[against[0]].why}", against[0])
    common = None
    if able:
        below = {key: look.cases.up_to(ceiling) for key, look in able.items()}
        common = _certified(able, ceiling if kept else limit) if certifies else _estimated(able, below)
        if common.tau == -np.inf:
            why = f"no threshold qualifies in every group at once, least of all in group {common.binding!r}"
            return _nowhere(looks, why, common.binding)
        if not certifies:
            common = replace(common, tau=min(common.tau, ceiling))
    if not certifies and limit > ceiling and (common is None or common.tau >= ceiling):
        above = _estimated(looks, {key: look.beyond() for key, look in looks.items()})
        if above.tau > ceiling:
            return {key: _new(look, replace(above, tau=min(above.tau, limit))) for key, look in looks.items()}
    if common is None:
        return kept
    lacking = {key: cut.why.partition("; the window cannot")[0] for key, cut in kept.items()}
    return {key: _new(look, common, lacking.get(key, "")) for key, look in looks.items()}


def _below(look: Look, ceiling: float) -> Found:
    return ruled(look, look.cases.up_to(ceiling))


def _estimated(looks: Mapping[Hashable, Look], cases: Mapping[Hashable, Cases]) -> _Common:
    """The largest threshold at which the rule's bound on every group's cases is within the level."""
    rules: dict[Hashable, ThresholdRule] = {}
    for key, look in looks.items():
        rule, _ = look.rule(cases[key])
        if rule is None:
            return _Common(-np.inf, {}, key)
        rules[key] = rule
    level, worst = next(iter(looks.values())).level, WorstRule(rules)
    tau = worst.calibrate(level).tau
    bounds = {key: share_of(rule, level, tau).bound for key, rule in rules.items()}
    return _Common(tau, bounds, worst.binding(level, tau))


def _passed(looks: Mapping[Hashable, Look]) -> dict[Hashable, Found]:
    """The largest threshold of the common list that is certified in each group by itself."""
    grid = _grid(looks)
    found = {}
    for key, look in looks.items():
        fine = grid[look.passing(grid) & (grid <= look.limit)]
        found[key] = Found(float(fine[-1]), look.level) if len(fine) else Found(-np.inf)
    return found


def _certified(looks: Mapping[Hashable, Look], limit: float) -> _Common:
    """The largest threshold of the common list that is certified in every group and within the limit."""
    grid = _grid(looks)
    passed = {key: look.passing(grid) & (grid <= limit) for key, look in looks.items()}
    fine = grid[np.all(list(passed.values()), axis=0)]
    tau = float(fine[-1]) if len(fine) else -np.inf
    binding = min(passed, key=lambda key: int(passed[key].sum()))
    return _Common(tau, {key: look.level for key, look in looks.items()}, binding)


def _grid(looks: Mapping[Hashable, Look]) -> np.ndarray:
    return np.unique(np.concatenate([look.grid() for look in looks.values()]))


def _new(look: Look, common: _Common, lacking: str = "") -> Cut:
    """A group's report of the common threshold."""
    if look.group in common.bounds:
        return new(look, common.tau, common.bounds[look.group], binding=common.binding)
    held = f" ({lacking}: it keeps the promise that it had)"
    return new(look, common.tau, look.level, held, common.binding)


def _nowhere(looks: Mapping[Hashable, Look], why: str, binding: Hashable) -> dict[Hashable, Cut]:
    return {key: refused(look, why, binding) for key, look in looks.items()}
