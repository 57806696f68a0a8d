"""The choices of a SafetyGuard that its calibration depends on, validated at once."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from safeframe.chance_constraint import validate_prior, validate_threshold
from safeframe.coverage.coverage_guard import CoverageSettings
from safeframe.groups.constraint import Constraint, check_constraint
from safeframe.groups.scales import Scale
from safeframe.priced.rule import CHARGES, check_charges
from safeframe.risk_scale import RiskScale, ScaleKind
from safeframe.shrinkage import Shrinkage
from safeframe.threshold_rule import Conservative, Event, PlugIn, Prior
from safeframe.types import SafeframeError, number

OnError = Literal["default", "raise"]


@dataclass(frozen=True)
class Certified:
    """Fixed-sequence testing (Learn then Test): tau is chosen by a finite-sample certificate.

    Half of the held-out cases is set aside for it. All thresholds and groups together hold with confidence
    1 - delta, for cases that are independent and drawn alike.

    Attributes:
        delta: allowed probability of failure, in (0, 1).

    Raises:
        SafeframeError: on a delta outside (0, 1).
    """

    delta: float = 0.05

    def __post_init__(self) -> None:
        _check_delta(self.delta, "delta")


@dataclass(frozen=True)
class Priced:
    """Risk priced instead of gated: the candidate of largest R(u) - mu (p(u) - c r_t), R its score.

    One price mu for all measurements (of a group), the smallest whose bound on P(unsafe | acted) is at most
    r_t. The default action is taken where it is worth more. Where its reward differs from measurement to
    measurement, let the model return scores less that reward, and leave ``default_reward`` at 0.

    Attributes:
        scale: p as a map of the margin, fitted on cases that the curve does not use: "logistic", "isotonic"
            (needs scikit-learn), or any callable from margins to probabilities that does not fall.
        default_reward: R of the default action, in units of the scores, finite.
        gate: only candidates with margin < gate are considered; +inf: all.
        charges: shares c of r_t in (0, 1] that candidates may be charged from; the one that earns most is
            taken (:mod:`safeframe.priced.rule`).
        share: of the cases (of a group), whole blocks where they have any, that fits the scale; in (0, 1).

    Raises:
        SafeframeError: on a value outside its range.
    """

    scale: ScaleKind | RiskScale | Callable[[Any], Any] = "logistic"
    default_reward: float = 0.0
    gate: float = math.inf
    charges: tuple[float, ...] = CHARGES
    share: float = 0.25

    def __post_init__(self) -> None:
        named = self.scale in ("logistic", "isotonic") if isinstance(self.scale, str) else True
        if not named or not (isinstance(self.scale, str | RiskScale) or callable(self.scale)):
            raise SafeframeError(
                f"scale is {self.scale!r}; it must be 'logistic', 'isotonic', or a callable from margins to "
                "probabilities"
            )
        if not math.isfinite(number(self.default_reward, "default_reward")):
            raise SafeframeError(f"default_reward is {self.default_reward}; it must be finite")
        if math.isnan(number(self.gate, "gate")) or self.gate == -math.inf:
            raise SafeframeError(f"gate is {self.gate}; it must be a margin, or inf for no gate")
        object.__setattr__(self, "charges", check_charges(self.charges))
        if not 0.0 < number(self.share, "share") < 1.0:
            raise SafeframeError(f"share is {self.share}; the share that fits the scale must lie in (0, 1)")


GuardRule = Conservative | PlugIn | Certified | Shrinkage
GuardChoice = Literal["gated"] | Priced
GuardPrior = Prior | Mapping[Hashable, Prior]
GuardScale = Scale | Mapping[Hashable, Scale]


@dataclass(frozen=True)
class GuardSettings:
    """The choices of a guard that its calibration depends on; see SafetyGuard for their meaning.

    Attributes:
        threshold: one r_t in (0, 1] or several.
        rule: how thresholds are found.
        event: "accepted" or "selected"; None: "selected" where the model returns candidates.
        prior: P(unsafe), (low, high) or "observed"; or one of these per group id (with a constraint over
            groups that is not pooled); None: the share in the internal test data.
        constraint: over groups: "per_group", "pooled" or "worst_group"; None: groups do not count.
        certificate_delta: allowed probability in (0, 1) that a certificate beside the rule fails; None: none.
        coverage: of the test for unlike inputs; None: no such test.
        blocks: runs of consecutive cases that alternate between the halves of a measured radius, at least 2,
            where the data have no block ids.
        seed: of the random choice of cases that certify, of those held out for coverage, and of those that
            fit a scale.
        scale: of risk, where one is needed (:attr:`on_common_scale`, rule Shrinkage).
        scale_share: of the cases that choose, in (0, 1), which fit it and are not counted.
        choice: "gated", or how risk is priced.

    Raises:
        SafeframeError: on a value that is not allowed.
    """

    threshold: tuple[float, ...]
    rule: GuardRule = field(default_factory=Conservative)
    event: Event | None = None
    prior: GuardPrior = None
    constraint: Constraint | None = None
    certificate_delta: float | None = None
    coverage: CoverageSettings | None = None
    blocks: int = 20
    seed: int = 0
    scale: GuardScale = "logistic"
    scale_share: float = 1.0 / 3.0
    choice: GuardChoice = "gated"

    def __post_init__(self) -> None:
        if not self.threshold:
            raise SafeframeError("threshold is empty; give at least one r_t in (0, 1]")
        for r_t in self.threshold:
            validate_threshold(r_t, "threshold")
        if not isinstance(self.rule, GuardRule):
            raise SafeframeError(
                f"rule is {self.rule!r}; it must be Conservative(), PlugIn(), Certified() or Shrinkage(), or "
                "one of 'conservative', 'plug-in' and 'shrinkage'"
            )
        if self.event is not None and not (
            isinstance(self.event, str) and self.event in ("accepted", "selected")
        ):
            raise SafeframeError(f"event is {self.event!r}; it must be 'accepted' or 'selected'")
        if self.choice != "gated" and not isinstance(self.choice, Priced):
            raise SafeframeError(f"choice is {self.choice!r}; it must be 'gated', 'priced' or Priced(...)")
        if isinstance(self.choice, Priced) and self.event == "accepted":
            raise SafeframeError(
                "event 'accepted' is about a candidate drawn at random among the accepted ones; with risk "
                "priced the bound is that of the action taken: leave event out"
            )
        if isinstance(self.choice, Priced) and self.on_common_scale:
            raise SafeframeError(
                f"constraint is {self.constraint!r}, one threshold for all groups; risk is priced over all "
                "cases (no constraint) or with a price for every group (constraint='per_group')"
            )
        if isinstance(self.choice, Priced) and isinstance(self.rule, Shrinkage):
            raise SafeframeError("rule Shrinkage is about thresholds; risk is priced with another rule")
        if self.certificate_delta is not None:
            _check_delta(self.certificate_delta, "certificate_delta")
        if number(self.blocks, "blocks") < 2:
            raise SafeframeError(f"blocks is {self.blocks}; measuring a radius takes at least 2")
        if self.constraint is not None:
            check_constraint(self.constraint)
        if not 0.0 < number(self.scale_share, "scale_share") < 1.0:
            raise SafeframeError(f"scale_share is {self.scale_share}; it must lie in (0, 1)")
        if isinstance(self.prior, Mapping) and self.constraint not in ("per_group", "worst_group"):
            raise SafeframeError(
                f"prior is given per group, but constraint is {self.constraint!r}; it must be 'per_group' or "
                "'worst_group'"
            )
        given: list[Any] = list(self.prior.values()) if isinstance(self.prior, Mapping) else [self.prior]
        for value in given:
            _check_prior(value)

    @property
    def delta(self) -> float | None:
        """Allowed probability that a certificate fails; None where there are none."""
        return self.rule.delta if isinstance(self.rule, Certified) else self.certificate_delta

    @property
    def on_common_scale(self) -> bool:
        """Whether one threshold serves all groups, on the log odds of calibrated probabilities."""
        return self.constraint in ("pooled", "worst_group")

    @property
    def scaled(self) -> bool:
        """Whether a scale of risk is needed."""
        return self.on_common_scale or isinstance(self.rule, Shrinkage)

    def prior_of(self, group: Hashable) -> Prior:
        """P(unsafe) of a group, as it was given.

        Args:
            group: its id.

        Returns:
            The prior; None for the share in the group's cases.

        Raises:
            SafeframeError: where priors are given per group and this group has none.
        """
        if not isinstance(self.prior, Mapping):
            return self.prior
        if group not in self.prior:
            raise SafeframeError(f"prior has no entry for group {group!r}; it has {list(self.prior)}")
        return self.prior[group]


def _check_delta(value: float, name: str) -> None:
    if not 0.0 < number(value, name) < 1.0:
        raise SafeframeError(f"{name} is {value}; it must lie in (0, 1)")


def _check_prior(value: Any) -> None:
    if isinstance(value, str):
        if value != "observed":
            raise SafeframeError(f'prior is {value!r}; it must be a number, (low, high) or "observed"')
    elif isinstance(value, tuple | list):
        if len(value) != 2 or not number(value[0], "prior") <= number(value[1], "prior"):
            raise SafeframeError(f"prior is {value}; an interval is (low, high) with low <= high")
        for end in value:
            validate_prior(end, 2)
    elif value is not None:
        validate_prior(value, 2)


def modern(former: dict[str, Any], rule: GuardRule | str, chosen: dict[str, Any]) -> GuardRule:
    """The rule from today's argument and the keywords of version 0.2, which still work, with a warning.

    Args:
        former: keywords of version 0.2: radius, calibrate, form, and rule "certificate" with
            ``certificate_delta``; and ``group_conditional`` of 0.3.
        rule: as it was given.
        chosen: today's keywords; ``event``, ``certificate_delta`` and ``constraint`` are changed in place
            where former ones say so.

    Returns:
        The rule.

    Raises:
        SafeframeError: on an unknown keyword or rule, or where old and new keywords contradict each other.
    """
    unknown = set(former) - {"radius", "calibrate", "form", "group_conditional"}
    if unknown:
        raise SafeframeError(f"SafetyGuard has no argument {sorted(unknown)[0]!r}")
    if "group_conditional" in former:
        wanted = "per_group" if former.pop("group_conditional") else None
        if chosen["constraint"] not in (None, wanted):
            raise SafeframeError(
                f"group_conditional and constraint {chosen['constraint']!r} contradict each other"
            )
        chosen["constraint"] = wanted
        warnings.warn(
            "group_conditional=True is now constraint='per_group'; the old keyword goes in version 0.5",
            DeprecationWarning,
            stacklevel=3,
        )
    if former:
        warnings.warn(
            f"{', '.join(sorted(former))}: radius and form are now arguments of rule=Conservative(...) or "
            "rule=PlugIn(...), and calibrate is called event; the old keywords go in version 0.4",
            DeprecationWarning,
            stacklevel=3,
        )
    if "calibrate" in former:
        chosen["event"] = former["calibrate"]
    inner = {key: former[key] for key in ("radius", "form") if key in former}
    if isinstance(rule, str):
        if rule == "certificate":
            if chosen["certificate_delta"] is None:
                raise SafeframeError("rule 'certificate' needs certificate_delta, for example 0.05")
            delta, chosen["certificate_delta"] = chosen["certificate_delta"], None
            return Certified(delta)
        if rule == "conservative":
            return Conservative(**inner)
        if rule == "shrinkage":
            return Shrinkage()
        if rule == "plug-in":
            return Conservative(share=0.0, **inner) if inner.get("radius") == "measured" else PlugIn(**inner)
        raise SafeframeError(
            f"rule is {rule!r}; it must be 'conservative', 'plug-in' or 'shrinkage', or Conservative(), "
            "PlugIn(), Certified() or Shrinkage()"
        )
    if inner:
        return type(rule)(**{**vars(rule), **inner}) if isinstance(rule, Conservative | PlugIn) else rule
    return rule
