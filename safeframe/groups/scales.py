"""Scales of risk for several groups: one for each that has cases enough, one of all cases for the others."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Any

import numpy as np

from safeframe.risk_scale import RiskScale, ScaleKind, fit_risk_scale
from safeframe.risk_scale.odds import log_odds
from safeframe.types import SAFE, UNSAFE, FloatArray, LabelArray, SafeframeError

Scale = ScaleKind | Callable[[Any], Any] | RiskScale
ENOUGH = 10
"""Cases of each class from which a group has a scale of its own."""
FLOOR = 1e-12
"""The least probability: a scale that says 0 would claim that a case cannot be unsafe."""


class GroupScales:
    """From margins and groups to calibrated probabilities, and to their log odds.

    A group with fewer than ``ENOUGH`` safe or unsafe fitting cases takes the scale that is fitted on all
    groups' cases together.

    Args:
        kind: "logistic", "isotonic", a callable from margins to probabilities or a scale, which serve all
            groups; or a mapping of these per group.
        score: (n,) finite margins of the fitting cases.
        label: (n,) 0 safe, 1 unsafe; both occur where something is fitted.
        group: (n,) ids; None: one scale for all cases.

    Raises:
        SafeframeError: as :func:`safeframe.risk_scale.fit_risk_scale`, and where a mapping lacks a group.
    """

    def __init__(
        self,
        kind: Scale | Mapping[Hashable, Scale],
        score: FloatArray,
        label: LabelArray,
        group: np.ndarray | None = None,
    ) -> None:
        self.own: dict[Hashable, RiskScale] = {}
        """The scales of groups that have their own."""
        self.common: RiskScale | None = None
        """The scale of all other groups; None where every group must have its own."""
        keys = [] if group is None else np.unique(group).tolist()
        if isinstance(kind, Mapping):
            missing = [key for key in keys if key not in kind]
            if group is None or missing:
                what = f"lacks group {missing[0]!r}" if missing else "is given per group, but there are none"
                raise SafeframeError(f"scale {what}; it has {list(kind)}")
            for key in keys:
                mine = group == key
                self.own[key] = fit_risk_scale(kind[key], score[mine], label[mine])
            return
        self.common = fit_risk_scale(kind, score, label)
        if kind not in ("logistic", "isotonic"):
            return
        for key in keys:
            mine = group == key
            few = min((label[mine] == SAFE).sum(), (label[mine] == UNSAFE).sum())
            if few >= ENOUGH:
                self.own[key] = fit_risk_scale(kind, score[mine], label[mine])

    def probability(self, score: FloatArray, group: np.ndarray | None = None) -> FloatArray:
        """Calibrated probabilities of cases.

        Args:
            score: (n,) margins, or (n, c) of candidates; may be infinite.
            group: (n,) ids; None: the scale of all cases.

        Returns:
            Probabilities in [FLOOR, 1], shaped like ``score``; 1 where the margin is +inf.

        Raises:
            SafeframeError: on a group without a scale.
        """
        values = np.asarray(score, np.float64)
        if group is None:
            found = self._of(None).probability(values)
        else:
            found = np.empty(values.shape)
            for key in np.unique(group).tolist():
                mine = group == key
                found[mine] = self._of(key).probability(values[mine])
        return np.where(values == np.inf, 1.0, np.maximum(found, FLOOR))

    def log_odds(self, score: FloatArray, group: np.ndarray | None = None) -> FloatArray:
        """Calibrated probabilities as log odds, the common scale.

        Args:
            score: (n,) margins, or (n, c) of candidates; may be infinite.
            group: (n,) ids; None: the scale of all cases.

        Returns:
            Log odds, shaped like ``score``, finite but for +inf where the margin is +inf.

        Raises:
            SafeframeError: on a group without a scale.
        """
        found = log_odds(self.probability(score, group))
        return np.where(np.asarray(score) == np.inf, np.inf, found)

    def _of(self, key: Hashable) -> RiskScale:
        found = self.own.get(key, self.common)
        if found is None:
            raise SafeframeError(f"group {key!r} has no scale; there are those of {list(self.own)}")
        return found
