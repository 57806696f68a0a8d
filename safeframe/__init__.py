"""safeframe: guarantees on the probability of an unsafe action, around any model (arXiv 2504.20924).

Names are imported when they are first used, and torch, cvxpy and scipy.stats when something needs them, so
that `import safeframe` costs little.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from safeframe.lazy import lazy_names

if TYPE_CHECKING:
    from safeframe.chance_constraint import ChanceConstraint
    from safeframe.coverage.coverage_guard import CoverageGuard, CoverageSettings
    from safeframe.groups.constraint import GroupConstraint
    from safeframe.guard.report import GuardedActions
    from safeframe.guard.safety_guard import SafetyGuard
    from safeframe.guard.settings import Certified, Priced
    from safeframe.internal_test import InternalTestData
    from safeframe.margins import margin_of
    from safeframe.priced.curve import PricedRiskCurve
    from safeframe.risk_curve import GroupedRiskCurve, RiskCurve
    from safeframe.risk_scale.fitting import fit_risk_scale
    from safeframe.risk_scale.isotonic import IsotonicRisk
    from safeframe.risk_scale.logistic import LogisticRisk
    from safeframe.selected_risk import SelectedRiskCurve
    from safeframe.service.budget import LongRunBudget
    from safeframe.service.log import GuardLog
    from safeframe.service.monitor import RiskMonitor
    from safeframe.service.monitors import RiskMonitors
    from safeframe.service.recalibration import recalibrate, restore
    from safeframe.service.replay import replay
    from safeframe.shrinkage import Shrinkage
    from safeframe.threshold_rule.rule import ThresholdRule
    from safeframe.threshold_rule.rules import Conservative, PlugIn
    from safeframe.types import SafeframeError, Status

__all__ = [
    "Certified",
    "ChanceConstraint",
    "Conservative",
    "CoverageGuard",
    "CoverageSettings",
    "GroupConstraint",
    "GroupedRiskCurve",
    "GuardLog",
    "GuardedActions",
    "InternalTestData",
    "IsotonicRisk",
    "LogisticRisk",
    "LongRunBudget",
    "PlugIn",
    "Priced",
    "PricedRiskCurve",
    "RiskCurve",
    "RiskMonitor",
    "RiskMonitors",
    "SafeframeError",
    "SafetyGuard",
    "SelectedRiskCurve",
    "Shrinkage",
    "Status",
    "ThresholdRule",
    "fit_risk_scale",
    "margin_of",
    "recalibrate",
    "replay",
    "restore",
]

HOMES = {
    "safeframe.chance_constraint": ("ChanceConstraint",),
    "safeframe.coverage.coverage_guard": ("CoverageGuard", "CoverageSettings"),
    "safeframe.groups.constraint": ("GroupConstraint",),
    "safeframe.guard.report": ("GuardedActions",),
    "safeframe.guard.safety_guard": ("SafetyGuard",),
    "safeframe.guard.settings": ("Certified", "Priced"),
    "safeframe.internal_test": ("InternalTestData",),
    "safeframe.margins": ("margin_of",),
    "safeframe.priced.curve": ("PricedRiskCurve",),
    "safeframe.risk_curve": ("GroupedRiskCurve", "RiskCurve"),
    "safeframe.risk_scale.fitting": ("fit_risk_scale",),
    "safeframe.risk_scale.isotonic": ("IsotonicRisk",),
    "safeframe.risk_scale.logistic": ("LogisticRisk",),
    "safeframe.selected_risk": ("SelectedRiskCurve",),
    "safeframe.service.budget": ("LongRunBudget",),
    "safeframe.service.log": ("GuardLog",),
    "safeframe.service.monitor": ("RiskMonitor",),
    "safeframe.service.monitors": ("RiskMonitors",),
    "safeframe.service.recalibration": ("recalibrate", "restore"),
    "safeframe.service.replay": ("replay",),
    "safeframe.shrinkage": ("Shrinkage",),
    "safeframe.threshold_rule.rule": ("ThresholdRule",),
    "safeframe.threshold_rule.rules": ("Conservative", "PlugIn"),
    "safeframe.types": ("SafeframeError", "Status"),
}
"""Where each public name is defined."""

__getattr__, __dir__ = lazy_names(__name__, HOMES)
