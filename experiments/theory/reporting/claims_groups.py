"""What is claimed of the shrinkage bound and of constraints over groups: broken promises, acceptance."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd

from experiments.theory.reporting.claims_promises import largest_share

ASSUMED = ("right", "low", "high", "fitted", "drift, prior upper end", "weeks")
"""States of the model in which what the shrinkage bound assumes holds."""


def shrinkage(table: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Claims under guard.shrinkage: broken, mean risk (where it holds, by state where not), acceptance."""
    mine = table[table["rule"] == "shrinkage"]
    parts = {"assumed": mine[mine["setting"].isin(ASSUMED)]}
    parts |= {_name(state): part for state, part in mine.groupby("setting") if state not in ASSUMED}
    for name, part in parts.items():
        yield from _worst(part, f"guard.shrinkage.{{}}.{name}")
    largest = table[(table["setting"] == "right") & (table["n"] == table["n"].max())]
    least = largest[largest["r_t"] == largest["r_t"].min()]
    for rule, part in least.groupby("rule"):
        row = part.iloc[0]
        name = f"guard.shrinkage.acceptance_rare.{_name(rule)}"
        yield {"claim": name, "value": row["acceptance"], "n": int(row["repeats"])}
    row = least.iloc[0]
    yield {
        "claim": "guard.shrinkage.acceptance_rare.best",
        "value": row["best"],
        "n": int(row["repeats"]),
    }


def group_constraints(table: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Claims under guard.groups: broken promises and mean risk over r_t by constraint and rule."""
    for (constraint, rule), part in table.groupby(["constraint", "rule"]):
        yield from _worst(part, f"guard.groups.{{}}.{constraint}.{_name(rule)}")
    pooled = table[table["constraint"] == "pooled"]
    for rule, part in pooled.groupby("rule"):
        row = part.loc[part["worst_ratio"].idxmax()]
        yield {
            "claim": f"guard.groups.worst_group_under_pooled.{_name(rule)}",
            "value": row["worst_ratio"],
            "n": int(row["repeats"]),
        }


def _worst(part: pd.DataFrame, name: str) -> Iterator[dict[str, Any]]:
    value, low, high = largest_share(part)
    n = int(part["repeats"].min())
    yield {"claim": name.format("broken_max"), "value": value, "low": low, "high": high, "n": n}
    row = part.loc[part["mean_ratio"].idxmax()]
    yield {
        "claim": name.format("mean_risk_over_threshold_max"),
        "value": row["mean_ratio"],
        "low": row["ratio_low"],
        "high": row["ratio_high"],
        "n": int(row["repeats"]),
    }


def _name(text: Any) -> str:
    return str(text).replace(", ", "_").replace(" ", "_").replace("-", "_")
