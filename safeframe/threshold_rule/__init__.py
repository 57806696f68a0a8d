"""One rule from labelled margins to thresholds, for every guard and every experiment.

Between calibration and use P(unsafe | accepted) = U pi / (U pi + L (1 - pi)) can rise for three reasons, and
the rule meets each:

- The likelihoods move (U up, L down). For each r_t the radius xi is measured between two halves of the
  internal test data (:class:`safeframe.informativeness.HalvesRadius`), only for thresholds that r_t can lead
  to at radius 0. A coupling that fails on mass delta gives p <= p^{+xi} + delta, so the mass that is left
  out, delta = share * r_t, is added to the bound.
- The prior moves. It may be an interval; the bound rises in the prior, so the upper end rules. "observed"
  takes the largest share of unsafe cases among the blocks (years, sites).
- Cases are few. One unsafe case more is counted than was seen, 1 / (n_unsafe + 1) (the correction of
  conformal risk control, Angelopoulos et al., arXiv 2208.02814): no unsafe case among n says nothing below 1
  / n. A bound of 0 cannot arise.

What is safe enough at a stricter r_t is so at a looser one: of all thresholds up to r_t the most permissive
one counts. Without these three parts it is the paper's plug-in rule (:class:`PlugIn`). A rule of another
kind, which needs calibrated probabilities, is :class:`safeframe.shrinkage.Shrinkage`.
"""

from safeframe.threshold_rule.calibrated import Calibrated, most_permissive
from safeframe.threshold_rule.prior import Prior, PriorInterval, prior_interval
from safeframe.threshold_rule.rule import Curve, Event, Rule, ThresholdRule
from safeframe.threshold_rule.rules import Conservative, LackingClassError, PlugIn, one_more

__all__ = [
    "Calibrated",
    "Conservative",
    "Curve",
    "Event",
    "LackingClassError",
    "PlugIn",
    "Prior",
    "PriorInterval",
    "Rule",
    "ThresholdRule",
    "most_permissive",
    "one_more",
    "prior_interval",
]
