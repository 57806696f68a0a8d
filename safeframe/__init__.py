"""safeframe: guarantees on the probability of an unsafe action, around any model (arXiv 2504.20924)."""

from safeframe.chance_constraint import ChanceConstraint
from safeframe.coverage.coverage_guard import CoverageGuard, CoverageSettings
from safeframe.guard.safety_guard import GuardedActions, SafetyGuard
from safeframe.internal_test import InternalTestData
from safeframe.risk_curve import GroupedRiskCurve, RiskCurve, margin_of
from safeframe.selected_risk import SelectedRiskCurve
from safeframe.types import SafeframeError, Status

__all__ = [
    "ChanceConstraint",
    "CoverageGuard",
    "CoverageSettings",
    "GroupedRiskCurve",
    "GuardedActions",
    "InternalTestData",
    "RiskCurve",
    "SafeframeError",
    "SafetyGuard",
    "SelectedRiskCurve",
    "Status",
    "margin_of",
]
