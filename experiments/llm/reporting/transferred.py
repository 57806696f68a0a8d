"""What runs with transfer measured: the table beside the run's own set, and the claims."""

from __future__ import annotations

import numpy as np
import pandas as pd

from experiments.llm.records import COVERED, KINDS, TRANSFER
from experiments.llm.reporting.measured import Measured, curves, worst
from experiments.support.results.publish import Claimant
from experiments.support.results.ratios import ratio, share_interval

OWN = ("ai", "best_of_k", "ours", "ours_accepted", *COVERED)
COLUMNS = [
    "answers", "method", "r_t", "runs", "prompts", "answered", "harmful_count", "harmful", "harmful_low",
    "harmful_high", "over_threshold", "default_share", "default_share_low", "default_share_high", "accepted",
    "reward", "auc", "refused", "refused_low", "refused_high", "interval",
]  # fmt: skip


def other_sets(measured: Measured) -> list[str]:
    """Formats of the sets that the guards were applied to."""
    return list(dict.fromkeys(m.split(".")[1] for m in measured.methods if m.startswith(TRANSFER)))


def refused(measured: Measured, prefix: str, kind: str) -> tuple[float, float, float, str, int]:
    """Share that coverage of this kind refuses, pooled over runs: value, interval, its name, n."""
    frame = measured.frame
    rows = frame[(frame["method"] == f"{prefix}coverage") & (frame["metric"] == f"refused.{kind}")]
    n = rows["n"].to_numpy(dtype=float)
    return *share_interval(np.round(rows["value"].to_numpy(dtype=float) * n), n), int(n.sum())


def auc(measured: Measured, prefix: str) -> tuple[float, float, float, int]:
    """Mean over runs of how ours ranks the candidates of a set: value, t interval over runs, candidates."""
    frame = measured.frame
    rows = frame[(frame["method"] == f"{prefix}ours") & (frame["metric"] == "auc")]
    value, low, high = ratio(rows["value"].to_numpy(dtype=float), np.ones(len(rows)))
    return value, float(np.maximum(low, 0.0)), float(np.minimum(high, 1.0)), int(rows["n"].sum())


def transfer_rows(measured: Measured, data: str) -> pd.DataFrame:
    """Ours on the run's own answers and on the other set's, with and without coverage, at every r_t.

    Empty where no transfer was run. `refused`: share that the coverage guard of the method refuses. `auc`: of
    ours' margins on the set's candidates.
    """
    others, table = other_sets(measured), curves(measured)
    if not others:
        return pd.DataFrame()
    parts = []
    for answers, prefix in [(data, ""), *((name, f"{TRANSFER}{name}.") for name in others)]:
        inside = table["method"].str.startswith(prefix) if prefix else table["method"].isin(OWN)
        part = table[inside].assign(answers=answers, method=table["method"].str[len(prefix) :])
        for method, kind in COVERED.items():
            value, low, high, _, _ = refused(measured, prefix, kind)
            for name, number in (("refused", value), ("refused_low", low), ("refused_high", high)):
                part.loc[part["method"] == method, name] = number
        part.loc[part["method"] == "ours", "auc"] = auc(measured, prefix)[0]
        parts.append(part)
    found = pd.concat(parts, ignore_index=True)
    found["over_threshold"] = found["harmful"] / found["r_t"]
    return found.reindex(columns=COLUMNS)


def claim_worst(name: str, measured: Measured, method: str, claim: Claimant, prefix: str = "") -> None:
    """Claim the largest harmful share over r_t of a method, or say why there is none.

    Other methods than ours are claimed under `name` with their own name behind it. `prefix`: of the method in
    the table, where its answers are another set's.
    """
    name += "" if method == "ours" else f".{method}"
    value, low, high, n = worst(measured, prefix + method)
    if n:
        claim(name, value, low, high, n)
    else:
        claim.lacks(name, "gave no answer at any threshold")


def record(measured: Measured, claim: Claimant) -> None:
    """Claims llm.transfer.*: one other set is claimed (what `transfer.format` says); nothing without any."""
    others, table = other_sets(measured), curves(measured)
    if not others:
        return
    if len(others) > 1:
        claim.lacks("transfer", f"runs with several other sets ({', '.join(others)})")
        return
    prefix = f"{TRANSFER}{others[0]}."
    for method in ("ours", "ours_accepted", *COVERED, "ours_recalibrated"):
        claim_worst("transfer.violation_over_threshold_max", measured, method, claim, prefix)
    for method in COVERED:
        claim_worst("violation_over_threshold_max", measured, method, claim)
    for name, of in (("refused", prefix), ("refused_own", "")):
        for kind in KINDS:
            value, low, high, _, n = refused(measured, of, kind)
            claim(f"transfer.{name}.{kind}", value, low, high, n)
    for name, of in (("auc", prefix), ("auc_own", "")):
        claim(f"transfer.{name}", *auc(measured, of))
    alone = table[table["method"] == f"{prefix}ai"].iloc[0]
    claim("transfer.harmful_alone", *(alone[f"harmful{end}"] for end in ("", "_low", "_high")),
          alone["answered"])  # fmt: skip
