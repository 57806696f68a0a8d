"""One chance constraint over several groups of cases (products, actions, categories): three readings of it.

- ``per_group``: P(unsafe | accepted) <= r_t within every group, each with a threshold of its own.
- ``pooled``: P(unsafe | accepted) <= r_t over all that is accepted in any group. One threshold, on a common
  scale of risk, counted on all groups' cases together. A group may be above r_t where others are below it.
- ``worst_group``: the promise of the first with the single threshold of the second: the largest threshold on
  the common scale at which *every* group's own bound is <= r_t. A group of which nothing is accepted has
  bound 1, so a group too small to promise anything refuses for all.

The common scale is the log odds of calibrated probabilities p̂ (:mod:`safeframe.risk_scale`, fitted on other
cases), one for each group or one for all: a margin says which of two cases of a group is riskier, not which
of two groups'. No promise of ``Conservative`` and ``PlugIn`` rests on p̂; that of ``Shrinkage`` does. In
logit units a radius means the same as on margins.

Exact: between two neighbouring edges of any group's curve the bound of every group is constant or only falls,
so the largest common threshold is one of the edges.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from safeframe.groups.worst import WorstRule
from safeframe.risk_scale.odds import from_log_odds, log_odds
from safeframe.shrinkage import Shrinkage, check_probabilities
from safeframe.threshold_rule import Event, LackingClassError, Prior, Rule, ThresholdRule
from safeframe.types import BoolArray, FloatArray, LabelArray, SafeframeError

Constraint = Literal["per_group", "pooled", "worst_group"]


def check_constraint(constraint: str) -> None:
    """Whether a constraint over groups is known.

    Args:
        constraint: its name.

    Raises:
        SafeframeError: if it is not.
    """
    if constraint not in get_args(Constraint):
        raise SafeframeError(
            f"constraint is {constraint!r}; it must be one of {', '.join(get_args(Constraint))}"
        )


@dataclass(frozen=True)
class GroupShare:
    """What one group has of what is accepted.

    Attributes:
        tau: its threshold.
        n_t: its internal test cases (measurements).
        n_accepted: those accepted (with event "selected": measurements with a selected candidate).
        n_unsafe_accepted: unsafe ones among them.
        bound: its own bound, by the rule, at its threshold; 1 where it has too few cases for one. Under
            ``pooled`` it is told, not promised, and at the group's own share of unsafe cases.
    """

    tau: float
    n_t: int
    n_accepted: int
    n_unsafe_accepted: int
    bound: float

    def __str__(self) -> str:
        return (
            f"{self.n_unsafe_accepted:,} unsafe of {self.n_accepted:,} accepted among {self.n_t:,} cases, "
            f"own bound {self.bound:.3g}"
        )


def share_of(rule: ThresholdRule, r_t: float, tau: float) -> GroupShare:
    """One group's share at a threshold.

    Args:
        rule: on the group's cases.
        r_t: threshold on the probability that a radius is measured for, in (0, 1].
        tau: threshold on the scale of the rule.

    Returns:
        The share.
    """
    n, k = rule.counts(tau)
    bound = 1.0
    if n and not rule.lacking:
        try:
            curve = rule.curve(r_t)
            bound = 1.0 if curve is None else min(float(curve.bound(tau)), 1.0)
        except LackingClassError:
            bound = 1.0
    return GroupShare(float(tau), rule.n_t, n, k, bound)


@dataclass(frozen=True)
class GroupThresholds:
    """What a constraint over groups chose for one r_t.

    Attributes:
        r_t: threshold on the probability, in (0, 1].
        tau: by group, accept iff the log odds of p̂ are below it; the same for all but with ``per_group``.
        bound: on what the constraint promises: of all that is accepted (``pooled``), or the largest of the
            groups' own; 1 where nothing is accepted.
        shares: every group's own.
        refused: why nothing may be accepted, where that is not for the bound; else empty.
    """

    r_t: float
    tau: dict[Hashable, float]
    bound: float
    shares: dict[Hashable, GroupShare]
    refused: str = ""

    @property
    def probability(self) -> dict[Hashable, float]:
        """The thresholds as probabilities p̂, by group: 0 rejects everything, 1 accepts everything."""
        return {key: float(from_log_odds(tau)) for key, tau in self.tau.items()}

    @property
    def worst(self) -> Hashable:
        """The group whose own bound is the largest."""
        return max(self.shares, key=lambda key: self.shares[key].bound)


class GroupConstraint:
    """Thresholds on a common scale of risk, from cases of several groups.

    Args:
        probability: (n,) calibrated P(unsafe) in (0, 1] of the cases, or (n, c) of their candidates, fitted
            on other cases.
        label: shaped like ``probability``, 0 safe and 1 unsafe.
        group: (n,) ids.
        rule: how a bound is made of cases: Conservative, PlugIn or Shrinkage.
        constraint: "per_group", "pooled" or "worst_group".
        odd: (n,) bool, the half of each row, between which a radius is measured; None: rows of a group (with
            ``pooled`` of all) alternate.
        score: (n, c) for event "selected"; -inf where absent.
        event: "accepted" or "selected", as :class:`safeframe.threshold_rule.ThresholdRule` has them.
        prior: P(unsafe) as that class takes it; or a mapping of it per group (not with ``pooled``).
        block: (n,) ids of periods or sites, for prior "observed".

    Raises:
        SafeframeError: on shapes that differ, values out of range, a mapping of priors that lacks a group. A
            class that is absent (from a group, or from a half where a radius is measured) is none: nothing is
            accepted there, with ``worst_group`` nothing at all, and ``refused`` says why. ``Shrinkage`` needs
            no class.
    """

    def __init__(
        self,
        probability: FloatArray,
        label: LabelArray,
        group: np.ndarray,
        rule: Rule,
        constraint: Constraint = "worst_group",
        odd: BoolArray | None = None,
        score: FloatArray | None = None,
        event: Event = "accepted",
        prior: Prior | Mapping[Hashable, Prior] = None,
        block: np.ndarray | None = None,
    ) -> None:
        check_constraint(constraint)
        self.constraint, self.rule = constraint, rule
        chance, labels, ids = np.asarray(probability, np.float64), np.asarray(label), np.asarray(group)
        if ids.shape != chance.shape[:1]:
            raise SafeframeError(f"group has shape {ids.shape}; expected one per row, {chance.shape[:1]}")
        if len(ids) == 0:
            raise SafeframeError("there is no case: a constraint over groups needs some")
        present = np.ones(chance.shape, bool) if score is None else np.asarray(score) != -np.inf
        chance = check_probabilities(np.where(present, chance, 1.0), chance.shape)
        if isinstance(prior, Mapping) and constraint == "pooled":
            raise SafeframeError(
                "prior is given per group, but 'pooled' counts all groups together: give one"
            )

        def made(rows: np.ndarray | slice, own: Prior) -> ThresholdRule:
            def part(values: np.ndarray | None) -> np.ndarray | None:
                return None if values is None else np.asarray(values)[rows]

            return ThresholdRule(
                log_odds(chance[rows]), labels[rows], rule, part(odd), part(score), event, own, part(block),
                True, chance[rows] if isinstance(rule, Shrinkage) else None,
            )  # fmt: skip

        self.rules: dict[Hashable, ThresholdRule] = {}
        """On every group's own cases."""
        for key in np.unique(ids).tolist():
            if isinstance(prior, Mapping) and key not in prior:
                raise SafeframeError(f"prior has no entry for group {key!r}; it has {list(prior)}")
            own = prior[key] if isinstance(prior, Mapping) else None if constraint == "pooled" else prior
            try:
                self.rules[key] = made(np.flatnonzero(ids == key), own)
            except SafeframeError as error:
                raise SafeframeError(f"group {key!r}: {error}") from error
        self._one: ThresholdRule | WorstRule | None = None
        if constraint == "pooled":
            assert not isinstance(prior, Mapping)
            self._one = made(slice(None), prior)
        elif constraint == "worst_group":
            self._one = WorstRule(self.rules)

    def calibrate(self, r_t: float) -> GroupThresholds:
        """The largest thresholds within r_t, judged at r_t alone.

        Args:
            r_t: threshold on the probability, in (0, 1].

        Returns:
            The thresholds, with every group's own share.

        Raises:
            SafeframeError: on an r_t outside (0, 1].
        """
        return self.thresholds([r_t])[0]

    def thresholds(self, levels: Sequence[float]) -> list[GroupThresholds]:
        """One choice for each r_t: of all thresholds up to it, the most permissive.

        Args:
            levels: ascending r_t in (0, 1].

        Returns:
            The choices, in the order of the levels.

        Raises:
            SafeframeError: as :meth:`calibrate`.
        """
        if self._one is None:
            found = {key: rule.thresholds(levels) for key, rule in self.rules.items()}
        else:
            common = self._one.thresholds(levels)
            found = dict.fromkeys(self.rules, common)
        made = []
        for i, r_t in enumerate(levels):
            chosen = {key: choices[i] for key, choices in found.items()}
            tau = {key: one.tau for key, one in chosen.items()}
            shares = {key: share_of(self.rules[key], one.r_t, one.tau) for key, one in chosen.items()}
            bound = max(one.threshold.bound for one in chosen.values())
            refused = next((one.refused for one in chosen.values() if one.refused), "")
            made.append(GroupThresholds(float(r_t), tau, bound, shares, refused))
        return made
