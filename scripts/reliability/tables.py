"""The counts of a campaign as a table that is committed."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from cases import BUILD, CRASH, REFUSED, REPOSITORY, SAME, WRONG
from scipy import stats

TABLES = REPOSITORY / "results" / "tables"
PARTS = ("kills", "engine", "sweep", "damage", "disk", "clock", "together", "inputs")
OUTCOMES = (REFUSED, SAME, WRONG, CRASH)


def counted(seed: int) -> pd.DataFrame:
    """A row for each kind of each part, and one for all of a part."""
    rows = []
    for part in PARTS:
        path = BUILD / f"{part}_{seed}.csv"
        if not path.exists():
            continue
        cases = pd.read_csv(path, keep_default_na=False)
        cases = cases[cases["what"] != "finished"]  # the run had ended before it was to be killed
        for kind, mine in [*cases.groupby("kind", sort=False), ("all", cases)]:
            counts = {name: int((mine["outcome"] == name).sum()) for name in OUTCOMES}
            bad = counts[WRONG] + counts[CRASH]
            high = stats.beta.ppf(0.95, bad + 1, len(mine) - bad) if bad < len(mine) else 1.0
            rows.append(
                {"part": part, "kind": kind, "cases": len(mine), **counts, "bad_at_most": high, "seed": seed}
            )
    return pd.DataFrame(rows)


def write_table(seed: int, name: str = "reliability") -> Path:
    """Write the counts; `bad_at_most` is the 95 % Clopper-Pearson limit on the share of wrong and crashed.

    Parts that were not counted here keep the rows that the table has.
    """
    path = TABLES / f"{name}.csv"
    found = counted(seed)
    if path.exists():
        before = pd.read_csv(path)
        found = pd.concat([found, before[~before["part"].isin(found["part"])]], ignore_index=True)
    found = found.sort_values("part", key=lambda parts: parts.map(PARTS.index), kind="stable")
    found.to_csv(path, index=False, float_format="%.4g", lineterminator="\n")
    return path
