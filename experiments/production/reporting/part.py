"""Production planning's part of the report: its figures and interactive frontiers."""

from __future__ import annotations

from experiments.production.reporting.looks import NAMES
from experiments.support.page.parts import Axis, Frontier, Part

COMPARED = (
    "mean_variance", "mean_variance_days", "two_stage", "end_to_end",
    "forecast_law", "forecast_law_errors", "two_stage_margin", "cross_entropy",
)  # fmt: skip
METHODS = {
    "ours": "ours",
    "ours_per_product_static": "ours, per product",
    "ours_pooled_weekly": "ours, pooled, weekly",
    "binary": "binary (the paper's)",
    **{name: NAMES[name] for name in COMPARED},
}
PROMISED = ("ours", "ours_per_product_static", "ours_pooled_weekly", "binary")
SOURCES = {"eia": "real demand", "synthetic": "synthetic demand"}
VIOLATION = Axis(
    "violation", "violations (share of what is produced)", True, "violation_low", "violation_high"
)
REVENUE = Axis(
    "revenue_share", "revenue (share of the oracle's)", False, "revenue_share_low", "revenue_share_high"
)


def _frontiers(source: str, name: str) -> tuple[Frontier, Frontier]:
    shared = {
        "table": f"tables/production_curves_{source}.csv",
        "y": VIOLATION,
        "n": "produced",
        "units": "product-hours produced",
        "seeds": ("production.violation_over_threshold_max", source, "laptop"),
    }
    against_revenue = Frontier(
        name=f"production_{source}_revenue",
        title=f"Violations against revenue, {name}",
        about="Lower is safer, further right earns more. Every method is shown over what it is set by.",
        x=REVENUE,
        methods=METHODS,
        **shared,
    )
    against_threshold = Frontier(
        name=f"production_{source}_threshold",
        title=f"Violations against the threshold, {name}",
        about="At or below the dotted line is what is promised.",
        x=Axis("r_t", "threshold r_t", True),
        methods={key: METHODS[key] for key in PROMISED},
        promise=True,
        **shared,
    )
    return against_revenue, against_threshold


PART = Part(
    experiment="production",
    title="Production planning",
    about="Four products are planned a day ahead from the last 24 hours of demand. Where demand turns out "
    "too low, having made the product was a mistake, a violation. The guard lets a product be made only "
    "in hours in which the bound on the probability of a violation is at most the threshold r_t.",
    figures=("figure_2_eia", "figure_2_synthetic", "figure_2_*", "production_*"),
    frontiers=tuple(one for source, name in SOURCES.items() for one in _frontiers(source, name)),
)
