"""The largest of several groups' bounds at a common threshold, and where all of them are within r_t."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

import numpy as np

from safeframe.certificates.cases import cases_needed
from safeframe.chance_constraint import validate_threshold
from safeframe.margins import as_query
from safeframe.piecewise_curve import PiecewiseCurve
from safeframe.selected_risk import SelectedRiskCurve
from safeframe.shrinkage import ShrinkageCurve
from safeframe.threshold_rule import Calibrated, Curve, ThresholdRule, most_permissive
from safeframe.types import FloatArray, Floats, IntArray, SafeframeError, Threshold


class WorstCurve(PiecewiseCurve):
    """The largest of several groups' bounds at a common threshold.

    Args:
        curves: of the groups, by id, all on one scale.

    Raises:
        SafeframeError: if there are none.
    """

    def __init__(self, curves: Mapping[Hashable, Curve]) -> None:
        if not curves:
            raise SafeframeError("there is no group: the worst of none is not defined")
        self.curves = dict(curves)

    @property
    def _entries(self) -> FloatArray:
        return np.concatenate([curve.edges[:-1] for curve in self.curves.values()])

    def bounds(self, tau: Floats) -> FloatArray:
        """Every group's own bound.

        Args:
            tau: common thresholds, of any shape.

        Returns:
            (groups, ...) bounds, in the order of the curves.

        Raises:
            SafeframeError: if a tau is NaN.
        """
        return np.stack([curve.bound(tau) for curve in self.curves.values()])

    def bound(self, tau: Floats) -> FloatArray:
        """The largest of the groups' bounds; 1 where some group accepts nothing.

        Args:
            tau: common thresholds, of any shape.

        Returns:
            Bounds, shaped like ``tau``.

        Raises:
            SafeframeError: if a tau is NaN.
        """
        return self.bounds(tau).max(axis=0)

    def counts(self, tau: Floats) -> tuple[IntArray, IntArray]:
        """What all groups together accept.

        Args:
            tau: common thresholds, of any shape.

        Returns:
            Two integer arrays shaped like ``tau``, what is accepted and what of it is unsafe.

        Raises:
            SafeframeError: if a tau is NaN.
        """
        found = [curve.counts(as_query(tau)) for curve in self.curves.values()]
        n, k = (np.sum([pair[i] for pair in found], axis=0).reshape(np.shape(tau)) for i in (0, 1))
        return n, k

    def acceptance(self, tau: Floats) -> FloatArray:
        """Share of all groups' cases (or measurements) that is accepted.

        Args:
            tau: common thresholds, of any shape.

        Returns:
            Shares in [0, 1], shaped like ``tau``.

        Raises:
            SafeframeError: if a tau is NaN.
        """
        sizes = [_size(curve) for curve in self.curves.values()]
        return self.counts(tau)[0] / sum(sizes)

    def worst(self, tau: float) -> Hashable:
        """The group whose bound is the largest at a threshold.

        Args:
            tau: a common threshold; -inf: of all thresholds, that at which a group's own bound is least.

        Returns:
            Its id.
        """
        bounds = self.bounds(self.edges).min(axis=1) if tau == -np.inf else self.bounds(tau)
        return list(self.curves)[int(bounds.argmax())]


def _size(curve: Curve) -> int:
    if isinstance(curve, SelectedRiskCurve):
        return curve.n_groups
    return curve.n_cases if isinstance(curve, ShrinkageCurve) else curve.n


class WorstRule:
    """The thresholds at which every group's own rule is within r_t.

    Args:
        rules: of the groups, by id, all on one scale.
    """

    def __init__(self, rules: Mapping[Hashable, ThresholdRule]) -> None:
        self.rules = dict(rules)
        self._fixed: WorstCurve | None = None
        self._binding: dict[tuple[float, float], Hashable] = {}
        lacking = [(key, rule) for key, rule in self.rules.items() if rule.lacking]
        self.refused = f"group {lacking[0][0]!r}: {lacking[0][1].lacking}" if lacking else ""
        """Why nothing may be accepted, at any r_t: the group that lacks a class; "" if none does."""

    @property
    def fixed(self) -> bool:
        """Whether the curve is the same for every r_t: no radius is measured."""
        return all(rule.fixed for rule in self.rules.values())

    def curve(self, r_t: float) -> WorstCurve | None:
        """The curve of the largest bound, with each group's own radius, mass and one case more.

        Args:
            r_t: threshold on the probability, in (0, 1].

        Returns:
            The curve; None where some group can promise nothing.

        Raises:
            LackingClassError: where a radius is measured and a group lacks a class in a half.
        """
        if self._fixed is not None:
            return self._fixed
        found = {key: rule.curve(r_t) for key, rule in self.rules.items()}
        whole = {key: curve for key, curve in found.items() if curve is not None}
        if len(whole) < len(found):
            return None
        made = WorstCurve(whole)
        if self.fixed:
            self._fixed = made
        return made

    def calibrate(self, r_t: float) -> Calibrated:
        """The largest common threshold at which no group's bound is above r_t, judged at r_t alone.

        Args:
            r_t: threshold on the probability, in (0, 1].

        Returns:
            The threshold, with the largest radius and slack among the groups.

        Raises:
            SafeframeError: on an r_t outside (0, 1].
        """
        validate_threshold(r_t)
        nothing = Threshold(-np.inf, 1.0, 0.0, False, 0, 0, cases_needed(r_t, 0.05), r_t)
        if self.refused:
            return Calibrated(nothing, 0.0, refused=self.refused)
        curve = self.curve(r_t)
        if curve is None:
            small = self.binding(r_t, -np.inf)
            why = f"group {small!r}: one unsafe case more than was seen leaves nothing to accept"
            return Calibrated(nothing, 0.0, 1.0, why)
        radius = max(one.radius for one in curve.curves.values())
        slack = max(one.slack for one in curve.curves.values())
        return Calibrated(curve.largest_threshold(r_t), radius, slack)

    def binding(self, r_t: float, tau: float) -> Hashable:
        """The group that keeps the threshold from being larger: that of the largest bound.

        Args:
            r_t: threshold on the probability that radii are measured for, in (0, 1].
            tau: the common threshold; -inf where none qualifies.

        Returns:
            Its id.
        """
        if (r_t, tau) not in self._binding:
            curve = None if self.refused else self.curve(r_t)
            if curve is not None:
                found = curve.worst(tau)
            else:
                found = next(key for key, one in self.rules.items() if one.lacking or one.curve(r_t) is None)
            self._binding[r_t, tau] = found
        return self._binding[r_t, tau]

    def thresholds(self, levels: Sequence[float]) -> list[Calibrated]:
        """One choice for each r_t: of all thresholds up to it, the most permissive.

        Args:
            levels: ascending r_t in (0, 1].

        Returns:
            The choices, in the order of the levels; tau never falls.

        Raises:
            SafeframeError: as :meth:`calibrate`.
        """
        return most_permissive(self.calibrate, levels)
