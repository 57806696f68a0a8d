"""Two sources of demand in one import: `synthetic` (embedded, seeded), `load_eia` (a user's file)."""

from experiments.production.demand.eia import load_eia
from experiments.production.demand.quarters import HOURS_PER_QUARTER, Quarter
from experiments.production.demand.series import CALENDAR_NAMES, UNSAFE_BELOW, ClipReport, DemandData
from experiments.production.demand.synthetic import synthetic, truth_probability

__all__ = [
    "CALENDAR_NAMES",
    "HOURS_PER_QUARTER",
    "UNSAFE_BELOW",
    "ClipReport",
    "DemandData",
    "Quarter",
    "load_eia",
    "synthetic",
    "truth_probability",
]
