"""What a run of production keeps, as its writer and its readers both know it."""

from __future__ import annotations

SOURCES = ("synthetic", "eia")
"""Where demand comes from."""
ORACLE = "oracle"
"""The method that knows demand."""
WEEKLY = "weekly"
"""Table of sums over the hours of each week of validation, a row for each point and week."""
POINT = ["method", "r_t", "knob"]
WEEKLY_COLUMNS = (*POINT, "week", "hours", "produced", "violations", "revenue")
