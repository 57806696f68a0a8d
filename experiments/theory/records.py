"""What a run of theory keeps, as its writer and its readers both know it."""

from __future__ import annotations

TABLES = ("theorem_1", "measured_xi", "leak", "theorem_2", "gradients", "slopes", "tightness", "chosen",
          "validity", "libraries", "coverage", "firing", "sensitivities", "constraints", "episodes",
          "quality", "path", "cases_needed", "promises", "monitor", "monitor_time", "shrinkage",
          "group_constraints", "priced", "tailoring", "tailoring_why")  # fmt: skip
"""Tables that are drawn from and committed, as results/tables/theory_<name>.csv. (theorem_3.csv, every error
at every size, is large and stays with the run.)"""
