"""Production planning's part of the report: its figures and interactive frontiers."""

from __future__ import annotations

from experiments.support.page.parts import Axis, Frontier, Part

METHODS = {
    "ours": "ours",
    "ours_xi_0": "ours, radius 0",
    "ours_certified": "ours, certified",
    "cross_entropy": "cross-entropy",
    "mean_variance": "mean-variance",
    "two_stage": "two-stage",
    "end_to_end": "end-to-end",
}
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
        methods={key: METHODS[key] for key in ("ours", "ours_xi_0", "ours_certified", "cross_entropy")},
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
