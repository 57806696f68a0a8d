"""What the cases of a window say about one group: the guard's rule on them, and a verdict.

Estimated thresholds (``Conservative``, ``PlugIn``, ``Shrinkage``) are what the rule of the guard says on the
cases below the threshold in force; above it on audited cases alone. Certified ones are those of a fixed list
that pass an e-process (:mod:`safeframe.service.looks`). Where groups share a threshold the margins of the log
are log odds on the common scale; ``Shrinkage`` takes its probabilities from the scale too. No recalibration
fits a scale anew.
"""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import dataclass, replace

import numpy as np

from safeframe.certificates.cases import clopper_pearson_lower
from safeframe.groups.constraint import GroupShare, share_of
from safeframe.guard.ruling import GroupRuling
from safeframe.guard.safety_guard import SafetyGuard
from safeframe.guard.settings import Certified
from safeframe.risk_curve import RiskCurve
from safeframe.risk_scale.odds import from_log_odds
from safeframe.service.cuts import Cut
from safeframe.service.looks import passing
from safeframe.service.window import Cases
from safeframe.shrinkage import Shrinkage
from safeframe.threshold_rule import PlugIn, ThresholdRule
from safeframe.types import BoolArray, FloatArray

_GRID = 40
_AGAINST = 0.01  # level at which a window speaks against a threshold that it is too small to replace


@dataclass(frozen=True)
class Look:
    """One look at one group, for one r_t.

    Attributes:
        guard: as it was calibrated.
        group: id of the group; or ``EVERYTHING``.
        former: threshold in force.
        cases: of the group in the window, those that count.
        level: the threshold on the probability that has to be kept.
        limit: beyond which the threshold may not rise.
        needed: cases, none unsafe, with which a threshold can qualify at least.
        delta: of the tests at this look; 0 where nothing is certified.
    """

    guard: SafetyGuard
    group: Hashable
    former: Cut
    cases: Cases
    level: float
    limit: float
    needed: int
    delta: float = 0.0

    def rule(self, cases: Cases) -> tuple[ThresholdRule | None, str]:
        """The guard's rule on some of the cases; for certified thresholds the plug-in rule.

        Args:
            cases: of the group.

        Returns:
            The rule, or None with the reason why these cases cannot calibrate.
        """
        settings, n = self.guard.settings, len(cases.margin)
        rule = PlugIn() if isinstance(settings.rule, Certified) else settings.rule
        borrows = isinstance(rule, Shrinkage)  # it needs no unsafe case
        if n == 0 or not (borrows or (cases.unsafe == 1).any()):
            return None, f"there is no unsafe case among the {n:,} that count"
        odd = (np.arange(n) * min(settings.blocks, n) // n) % 2 == 1
        chance = self.probability(cases) if borrows else None
        made = ThresholdRule(cases.margin, cases.unsafe, rule, odd, few=True, probability=chance)
        return (None, made.refused) if made.refused else (made, "")

    def probability(self, cases: Cases) -> FloatArray:
        """Calibrated probabilities of cases, on the scale that was fitted when the guard was calibrated.

        Args:
            cases: of the group.

        Returns:
            (n,) probabilities in (0, 1].
        """
        settings = self.guard.settings
        if settings.on_common_scale:  # where margins are log odds of them already
            return from_log_odds(cases.margin)
        ruling = self.guard._rulings[self.group]
        assert isinstance(ruling, GroupRuling)
        assert ruling.scales is not None
        return ruling.scales.probability(cases.margin, None if settings.constraint is None else cases.group)

    def beyond(self) -> Cases:
        """The audited cases, from which thresholds above the one in force are judged.

        Returns:
            Those below the limit: beyond it another choice would have been made.
        """
        return self.cases.subset(self.cases.audit & (self.cases.margin < self.limit))

    def passing(self, grid: FloatArray) -> BoolArray:
        """Which of the thresholds of a list are certified for this group.

        Args:
            grid: (t,) ascending thresholds.

        Returns:
            (t,) bool.
        """
        return passing(*self.cases.counts(grid), self.level, self.delta)

    def grid(self) -> FloatArray:
        """The thresholds to test: fixed by the guard's own calibration, before any case of the log was seen.

        Returns:
            (t,) ascending.
        """
        accepted = getattr(self.guard._rulings[self.group], "accepted", None)
        shares = np.linspace(0.0, 1.0, _GRID)
        if isinstance(accepted, RiskCurve):
            quantiles = accepted.quantile(shares)
        else:  # a guard that prices risk has another curve; its gate is on the margins themselves
            assert self.guard.evidence is not None
            margin = self.guard.evidence.flat[0]
            quantiles = np.quantile(margin[np.isfinite(margin)], shares)
        own = np.array([float(found[self.group].tau) for found in self.guard.calibrations.values()])
        return np.unique(np.append(quantiles, own[np.isfinite(own)]))


@dataclass(frozen=True)
class Found:
    """What the rule chose.

    Attributes:
        tau: the threshold; -inf: none.
        bound: on the risk there.
        refused: why it could not choose, where that is not for the bound; else empty.
    """

    tau: float
    bound: float = math.nan
    refused: str = ""


def chosen(look: Look) -> Found:
    """The threshold that the guard's rule chooses for one group by itself.

    Args:
        look: at the group.

    Returns:
        What was found; it may lie above the limit only where everything below the limit qualifies.
    """
    if isinstance(look.guard.settings.rule, Certified):
        grid = look.grid()
        fine = grid[look.passing(grid) & (grid <= look.limit)]
        return Found(float(fine[-1]), look.level) if len(fine) else Found(-np.inf)
    ceiling = look.former.tau
    found = ruled(look, look.cases.up_to(ceiling))
    if not look.cases.audit.any() or (not found.refused and found.tau < ceiling):
        return found
    above = ruled(look, look.beyond())
    return above if above.tau > ceiling else replace(found, tau=min(found.tau, ceiling))


def ruled(look: Look, cases: Cases) -> Found:
    """The threshold that the guard's rule chooses on some cases.

    Args:
        look: at the group.
        cases: of it.

    Returns:
        What was found.
    """
    if (cases.unsafe == 1).any() and not (cases.unsafe == 0).any():
        return Found(-np.inf)
    rule, lacking = look.rule(cases)
    if rule is None:
        return Found(-np.inf, refused=lacking)
    made = rule.calibrate(look.level)
    return Found(made.tau, made.threshold.bound, made.refused)


def judged(made: Found, look: Look) -> Cut:
    """The threshold that is put in force, and why.

    Args:
        made: what the rule chose.
        look: at the group.

    Returns:
        The cut.
    """
    if made.tau > -np.inf:
        held = "; without audited cases it does not rise" if made.tau > look.limit else ""
        return new(look, min(made.tau, look.limit), made.bound, held)
    n, k, against = spoken(look)
    if not against and (made.refused or n < look.needed):
        why = made.refused or f"{n:,} cases count, fewer than the {look.needed:,} that are needed at least"
        why = f"{why}; the window cannot calibrate, so the threshold stays"
        return replace(look.former, verdict="kept", why=why)
    why = f"{k:,} unsafe among {n:,} cases below {look.former.tau:.6g}, and no threshold qualifies"
    return refused(look, why)


def spoken(look: Look) -> tuple[int, int, bool]:
    """What a window says about the threshold in force.

    Args:
        look: at the group.

    Returns:
        Cases below it, unsafe ones among them, and whether they speak against it.
    """
    below = look.cases.up_to(look.former.tau)
    n, k = len(below.margin), int(below.unsafe.sum())
    return n, k, n > 0 and clopper_pearson_lower(k, n, _AGAINST) > look.level


def new(look: Look, tau: float, bound: float, held: str = "", binding: Hashable = None) -> Cut:
    """A threshold that was chosen on a window.

    Args:
        look: at the group.
        tau: the threshold.
        bound: on the risk there.
        held: what else there is to say.
        binding: as :class:`safeframe.service.cuts.Cut` has it.

    Returns:
        The cut, with the shares of the groups that are pooled.
    """
    below = look.cases.up_to(tau)
    n, k = len(below.margin), int(below.unsafe.sum())
    why = f"{k:,} unsafe among {n:,} cases below it{held}"
    members = {}
    if look.guard.settings.constraint == "pooled":
        ids = look.cases.group
        members = {key: _share(look, look.cases.subset(ids == key), tau) for key in np.unique(ids).tolist()}
    return Cut(tau, "new", why, bound, n, k, len(look.cases.margin), binding, members)


def _share(look: Look, own: Cases, tau: float) -> GroupShare:
    """What one of the groups that are pooled has of a window."""
    below = own.up_to(tau)
    n, k = len(below.margin), int(below.unsafe.sum())
    rule, _ = look.rule(below)
    bound = 1.0 if rule is None else share_of(rule, look.level, tau).bound
    return GroupShare(tau, len(own.margin), n, k, bound)


def refused(look: Look, why: str, binding: Hashable = None) -> Cut:
    """Nothing is accepted.

    Args:
        look: at the group.
        why: in words.
        binding: as :class:`safeframe.service.cuts.Cut` has it.

    Returns:
        The cut.
    """
    return Cut(-np.inf, "refused", why, 1.0, 0, 0, len(look.cases.margin), binding)
