"""What is claimed of priced risk: reward beside gated at equal risk, and how often the promise is broken."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd

from safeframe.certificates.cases import clopper_pearson_upper

CELL = ["classifier", "candidates", "r_t"]
LEAST = 0.01
"""Rewards below are not compared: where the best gated rule hardly acts, a ratio says nothing."""


def claimed(table: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Claims under priced: ratios of rewards in hindsight (median and extremes over numbers of candidates and
    r_t) and calibrated (mean rewards summed over them); by rule the most broken promises and the largest mean
    risk over r_t.
    """
    hindsight = compared(table, "hindsight")
    for classifier, part in hindsight.groupby("classifier", sort=False):
        for other in ("gated", "oracle"):
            ratio = (part["priced"] / part[other])[part[other] >= LEAST]
            yield {
                "claim": f"priced.reward_over_{other}.{classifier}",
                "value": float(ratio.median()),
                "low": float(ratio.min()),
                "high": float(ratio.max()),
                "n": len(ratio),
            }
    for rule in rules(table):
        mine = compared(table, rule)
        name = rule.replace("-", "_")
        for classifier, part in mine.groupby("classifier", sort=False):
            total = part[["gated", "priced"]].sum()
            if total["gated"] >= LEAST:
                yield {
                    "claim": f"priced.reward_over_gated_{name}.{classifier}",
                    "value": float(total["priced"] / total["gated"]),
                    "n": int(table["repeats"].max()),
                }
        counted = table[(table["rule"] == rule) & (table["choice"] == "priced")]
        most = counted.loc[counted["broken"].idxmax()]
        n = int(most["repeats"])
        high = float(most["broken_high"]) if most["broken"] else clopper_pearson_upper(0, n, 0.025)
        yield {"claim": f"priced.broken_max.{name}", "value": most["broken"] / n,
               "low": float(most["broken_low"]), "high": high, "n": n}  # fmt: skip
        worst = counted.loc[counted["mean_ratio"].idxmax()]
        yield {
            "claim": f"priced.mean_risk_over_threshold_max.{name}",
            "value": worst["mean_ratio"],
            "low": worst["ratio_low"],
            "high": worst["ratio_high"],
            "n": int(worst["repeats"]),
        }


def rules(table: pd.DataFrame) -> list[str]:
    """The rules that calibrate."""
    return [rule for rule in table["rule"].unique() if rule != "hindsight"]


def compared(table: pd.DataFrame, rule: str) -> pd.DataFrame:
    """Rewards by choice, one row for each classifier, number of candidates and r_t."""
    wide = table[table["rule"] == rule].pivot_table(index=CELL, columns="choice", values="reward", sort=False)
    return wide.reset_index()
