"""A common scale of risk: from scores to P(unsafe), comparable between models, groups and candidates.

A margin says which of two cases is riskier, not by how much, and margins of two groups (or of two
classifiers) cannot be compared. A risk scale maps them to probabilities. It is fitted on cases that no risk
curve counts: then the rule that a curve judges is fixed before its cases are seen, and no promise rests on
how good the scale is. A bad one is valid and earns less.

Three kinds come under one interface (:class:`RiskScale`), made by :func:`fit_risk_scale`:

- :class:`LogisticRisk`, of one score or several: penalised maximum likelihood by Newton steps (iteratively
  reweighted least squares), every slope >= 0 unless asked otherwise;
- :class:`IsotonicRisk`, of one score: the monotone step fit (pool adjacent violators), of scikit-learn, with
  one unsafe case more than was seen;
- :class:`GivenRisk`: any callable of the user's.

:class:`TailScale` comes after one of them, and flattens small risks where the cases there ask for it.
"""

from safeframe.risk_scale.fitting import GivenRisk, fit_risk_scale
from safeframe.risk_scale.isotonic import IsotonicRisk
from safeframe.risk_scale.logistic import LogisticRisk
from safeframe.risk_scale.scale import RiskScale, ScaleKind
from safeframe.risk_scale.tail import TailScale

__all__ = [
    "GivenRisk",
    "IsotonicRisk",
    "LogisticRisk",
    "RiskScale",
    "ScaleKind",
    "TailScale",
    "fit_risk_scale",
]
