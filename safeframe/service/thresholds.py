"""New thresholds from the cases of a window, by the guard's own rule.

A threshold rises only where audited cases allow it. With candidates it never rises above the guard's own:
beyond it the guard's choice is not vetoed but another one.

What a window may lead to, for each r_t and group:

- "new": the rule found a threshold on it;
- "kept": the window cannot calibrate (no unsafe case counts, or fewer cases than would be needed if none were
  unsafe), and does not speak against the threshold in force, which stays; its promise is the former one;
- "refused": no threshold qualifies although there are cases enough, or the window speaks against the
  threshold in force: nothing is accepted.
"""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import dataclass, replace

import numpy as np

from safeframe.certificates.cases import bonferroni, cases_needed, clopper_pearson_lower
from safeframe.chance_constraint import validate_threshold
from safeframe.guard.safety_guard import SafetyGuard
from safeframe.guard.settings import Certified
from safeframe.risk_curve import RiskCurve
from safeframe.service.looks import fewest, passing, spent
from safeframe.service.versions import Cut, Cuts, least_of_looser, selects, whole
from safeframe.service.window import Cases
from safeframe.threshold_rule import Conservative, PlugIn, ThresholdRule
from safeframe.types import FloatArray, SafeframeError

_GRID = 40
_AGAINST = 0.01  # level at which a window speaks against a threshold that it is too small to replace


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
        SafeframeError: where the guard's rule is another than ``Conservative``, ``PlugIn`` or ``Certified``.
    """
    rule = guard.settings.rule
    found: dict[float, dict[Hashable, Cut]] = {}
    statements = sum(len(groups) for groups in former.values())
    for r_t, groups in former.items():
        level = at_odds(r_t, odds)
        for group, cut in groups.items():
            mine = np.ones(len(cases.margin), bool) if whole(groups) else cases.group == group
            if selects(guard):
                mine &= cases.r_t == r_t
            own = cases.subset(mine)
            limit = float(guard.calibrations[r_t][group].tau) if selects(guard) else math.inf
            if not own.audit.any():
                limit = min(limit, cut.tau)
            if isinstance(rule, Certified):
                delta = bonferroni(spent(rule.delta, start), statements)
                made = _certified(own, level, delta, _grid(guard, group), limit)
                needed = fewest(level, delta)
            else:
                made, needed = _estimated(own, level, cut.tau, guard), cases_needed(level, 0.05)
            found.setdefault(r_t, {})[group] = _judged(made, own, cut, level, limit, needed)
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


@dataclass(frozen=True)
class _Found:
    """A threshold that the rule chose (-inf: none), with its bound, or why it could not choose."""

    tau: float
    bound: float = math.nan
    refused: str = ""


def _estimated(cases: Cases, level: float, ceiling: float, guard: SafetyGuard) -> _Found:
    """The guard's rule on the cases below the threshold in force; above it on audited cases alone."""
    found = _ruled(cases.up_to(ceiling), level, guard)
    if not cases.audit.any() or (not found.refused and found.tau < ceiling):
        return found
    above = _ruled(cases.subset(cases.audit), level, guard)
    return above if above.tau > ceiling else replace(found, tau=min(found.tau, ceiling))


def _ruled(cases: Cases, level: float, guard: SafetyGuard) -> _Found:
    rule, n = guard.settings.rule, len(cases.margin)
    if not isinstance(rule, Conservative | PlugIn):
        raise SafeframeError(
            f"recalibration knows the rules Conservative, PlugIn and Certified, but the guard has {rule!r}"
        )
    if not (cases.unsafe == 1).any():
        return _Found(-np.inf, refused=f"there is no unsafe case among the {n:,} that count")
    if not (cases.unsafe == 0).any():
        return _Found(-np.inf)
    blocks = guard.settings.blocks
    odd = (np.arange(n) * min(blocks, n) // n) % 2 == 1
    made = ThresholdRule(cases.margin, cases.unsafe, rule, odd, few=True)
    found = made.calibrate(level)
    return _Found(found.tau, found.threshold.bound, made.refused)


def _certified(cases: Cases, level: float, delta: float, grid: FloatArray, limit: float) -> _Found:
    """The largest threshold of a fixed list that is certified and within the limit."""
    chosen = grid[passing(*cases.counts(grid), level, delta) & (grid <= limit)]
    return _Found(float(chosen[-1]), level) if len(chosen) else _Found(-np.inf)


def _judged(made: _Found, cases: Cases, former: Cut, level: float, limit: float, needed: int) -> Cut:
    """The threshold that is put in force, and why."""
    n_window = len(cases.margin)
    if made.tau > -np.inf:
        tau = min(made.tau, limit)
        below = cases.up_to(tau)
        n, k = len(below.margin), int(below.unsafe.sum())
        held = "; without audited cases it does not rise" if made.tau > limit else ""
        why = f"{k:,} unsafe among {n:,} cases below it{held}"
        return Cut(tau, "new", why, made.bound, n, k, n_window)
    below = cases.up_to(former.tau)
    n, k = len(below.margin), int(below.unsafe.sum())
    against = n > 0 and clopper_pearson_lower(k, n, _AGAINST) > level
    if not against and (made.refused or n < needed):
        why = made.refused or f"{n:,} cases count, fewer than the {needed:,} that are needed at least"
        return Cut(former.tau, "kept", f"{why}; the window cannot calibrate, so the threshold stays",
                   former.bound, former.n, former.k, former.n_window)  # fmt: skip
    why = f"{k:,} unsafe among {n:,} cases below {former.tau:.6g}, and no threshold qualifies"
    return Cut(-np.inf, "refused", why, 1.0, 0, 0, n_window)


def _grid(guard: SafetyGuard, group: Hashable) -> FloatArray:
    """The thresholds to test: fixed by the guard's own calibration, before any case of the log was seen."""
    accepted = getattr(guard._rulings[group], "accepted", None)
    shares = np.linspace(0.0, 1.0, _GRID)
    if isinstance(accepted, RiskCurve):
        quantiles = accepted.quantile(shares)
    else:  # a guard that prices risk has another curve; its gate is on the margins themselves
        assert guard.evidence is not None
        margin = guard.evidence.flat[0]
        quantiles = np.quantile(margin[np.isfinite(margin)], shares)
    own = np.array([float(found[group].tau) for found in guard.calibrations.values()])
    return np.unique(np.append(quantiles, own[np.isfinite(own)]))
