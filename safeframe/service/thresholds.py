"""New thresholds from the cases of a window, by the guard's own rule.

A threshold rises only where audited cases allow it. With candidates it never rises above the guard's own:
beyond it the guard's choice is not vetoed but another one.

What a window may lead to, for each r_t and group:

- "new": the rule found a threshold on it;
- "kept": the window cannot calibrate (no unsafe case counts, or fewer cases than would be needed if none were
  unsafe), and does not speak against the threshold in force, which stays; its promise is the former one;
- "refused": no threshold qualifies although there are cases enough, or the window speaks against the
  threshold in force: nothing is accepted.

Every group has its own threshold, groups that are pooled have one for all their cases together, and with
``constraint="worst_group"`` one threshold serves all groups (:mod:`safeframe.service.common_threshold`).
Scales of risk stay as they were fitted when the guard was calibrated.
"""

from __future__ import annotations

import math
from collections.abc import Hashable

import numpy as np

from safeframe.certificates.cases import bonferroni, cases_needed
from safeframe.chance_constraint import validate_threshold
from safeframe.guard.safety_guard import SafetyGuard
from safeframe.guard.settings import Certified
from safeframe.service.common_threshold import in_every_group
from safeframe.service.cuts import Cut, Cuts, least_of_looser, whole
from safeframe.service.looking import Look, chosen, judged
from safeframe.service.looks import fewest, spent
from safeframe.service.versions import selects
from safeframe.service.window import Cases
from safeframe.shrinkage import Shrinkage
from safeframe.threshold_rule import Conservative, PlugIn
from safeframe.types import SafeframeError


def new_cuts(
    guard: SafetyGuard, former: Cuts, cases: Cases, start: int, odds: float = 1.0
) -> dict[float, dict[Hashable, Cut]]:
    """Thresholds from the cases of a window.

    Args:
        guard: as it was calibrated; its rule counts.
        former: thresholds in force.
        cases: of the window, those that count (:meth:`safeframe.service.window.Cases.counted`).
        start: how many starts of windows there have been before this one's, for ``Certified``.
        odds: factor by which the odds of an unsafe case may rise after the window.

    Returns:
        Thresholds by r_t and group, each with a verdict.

    Raises:
        SafeframeError: where the guard's rule is none of ``Conservative``, ``PlugIn``, ``Shrinkage`` and
            ``Certified``.
    """
    rule = guard.settings.rule
    if not isinstance(rule, Conservative | PlugIn | Shrinkage | Certified):
        raise SafeframeError(
            "recalibration knows the rules Conservative, PlugIn, Shrinkage and Certified, but the guard has "
            f"{rule!r}"
        )
    found: dict[float, dict[Hashable, Cut]] = {}
    statements = sum(len(groups) for groups in former.values())
    for r_t, groups in former.items():
        level, delta = at_odds(r_t, odds), 0.0
        needed = cases_needed(level, 0.05)
        if isinstance(rule, Certified):
            delta = bonferroni(spent(rule.delta, start), statements)
            needed = fewest(level, delta)
        looks: dict[Hashable, Look] = {}
        for group, cut in groups.items():
            mine = np.ones(len(cases.margin), bool) if whole(groups) else cases.group == group
            if selects(guard):
                mine &= cases.r_t == r_t
            own = cases.subset(mine)
            limit = float(guard.calibrations[r_t][group].tau) if selects(guard) else math.inf
            if not own.audit.any():
                limit = min(limit, cut.tau)
            looks[group] = Look(guard, group, cut, own, level, limit, needed, delta)
        if guard.settings.constraint == "worst_group":
            found[r_t] = in_every_group(looks)
        else:
            found[r_t] = {group: judged(chosen(look), look) for group, look in looks.items()}
    return least_of_looser(found)


def at_odds(r_t: float, odds: float) -> float:
    """The threshold to keep now so that r_t is kept where the odds of an unsafe case rise.

    Args:
        r_t: threshold on the probability, in (0, 1].
        odds: factor on the odds.

    Returns:
        r_t / (r_t + odds (1 - r_t)).

    Raises:
        SafeframeError: on an r_t outside (0, 1].
    """
    risk = validate_threshold(r_t)
    return risk / (risk + odds * (1.0 - risk))
