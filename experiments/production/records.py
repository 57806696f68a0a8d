"""What a run of production keeps, as its writer and its readers both know it."""

from __future__ import annotations

SOURCES = ("synthetic", "eia")
"""Where demand comes from."""
ORACLE = "oracle"
"""The method that knows demand."""
WEEKLY = "weekly"
"""Table of sums over the hours of each week of validation, a row for each point and week."""
CONSTRAINTS = ("per_product", "pooled", "worst_product")
"""What is promised: every product's share with thresholds of its own, the share of all together, or every
product's with one threshold for all."""
CHOICES = ("gated", "priced")
CALIBRATIONS = ("static", "weekly")
COMMITTED_ORDER = (0, 1, 2, 3)
"""Roles of the quarters in order of time, of the committed figure 2."""
PARTS = ("guard", "binary", "baselines")
"""What a run measures beside the oracle."""
PRODUCTS = "products"
"""Table of product-hours made and violations among them, a row for each point of the guard, product and
week."""
POINT = ["method", "r_t", "knob"]
WEEKLY_COLUMNS = (*POINT, "week", "hours", "produced", "violations", "revenue")
PAPERS_BASELINES = ("mean_variance", "mean_variance_days", "two_stage", "end_to_end")
STRONG_BASELINES = ("forecast_law", "forecast_law_errors", "two_stage_margin", "cross_entropy")
CHOSEN = "_chosen"
"""After a method's name: its knob chosen on the calibration quarter for each r_t, not with hindsight."""
SERVICES = (
    "static_plug_in",
    "rolling_plug_in",
    "static",
    "static_prior",
    "rolling",
    "rolling_prior",
    "shrinkage",
    "strict",
    "worst_product_static",
    "worst_product",
    "worst_product_strict",
    "pooled",
    "budget",
    "shrinkage_budget",
    "worst_product_budget",
)
"""Guards in service; `guard.service.SERVICES` says what each is."""
SERVED = "served"
"""Table of hours accepted and violations among them, a row for each guard in service, r_t, product and week
in use."""
ALARMS = "alarms"
"""Table of the monitors of a run: a row for each guard in service, r_t and product."""
LIKELIHOODS = "likelihoods"
"""Table of safe and unsafe hours of every product, year and week, and how many of either are accepted at each
r_t by thresholds of the year calibrated on."""
LIKELIHOODS_COLUMNS = (
    "product", "r_t", "period", "start", "role", "week", "safe", "unsafe", "accepted_safe", "accepted_unsafe",
)  # fmt: skip
CALIBRATED_ON, IN_USE = 3, 2
"""Roles of the years that thresholds come from and that they are used in (`demand.quarters.Quarter`)."""
