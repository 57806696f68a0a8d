"""What is claimed of tailored training: gains over as many steps of cross-entropy, harm, and its causes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from safeframe.certificates.cases import clopper_pearson_lower, clopper_pearson_upper

BASELINE = "cross-entropy"
PRICED = ("priced", "priced mended")
_KEY = ["capacity", "n", "r_t", "repeat"]
_FEW, _MANY = "few_cases", "many_cases"


def gains(table: pd.DataFrame) -> pd.DataFrame:
    """Each method less as many steps of cross-entropy on the same draw, in points: mean and 95 % t interval
    over draws, by capacity, number of cases and r_t. Of the priced methods what is earned, of others what is
    accepted.
    """
    rows: list[dict[str, Any]] = []
    for metric in ("acceptance", "reward"):
        wide = table.pivot_table(index=_KEY, columns="method", values=metric, sort=False)
        of = [name for name in wide.columns if (name in PRICED) == (metric == "reward") and name != BASELINE]
        for key, part in wide.groupby(_KEY[:3], sort=False):
            for name in of:
                value = 100 * (part[name] - part[BASELINE]).to_numpy()
                rows.append(mean_of(value) | dict(zip(_KEY, key, strict=False)) | {"method": name})
    return pd.DataFrame(rows)


def mean_of(value: np.ndarray) -> dict[str, float]:
    """Mean with its 95 % t interval over draws."""
    half = float(stats.t.ppf(0.975, len(value) - 1) * value.std(ddof=1) / np.sqrt(len(value)))
    mean = float(value.mean())
    return {"value": mean, "low": mean - half, "high": mean + half, "n": len(value)}


def claimed(table: pd.DataFrame, why: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Claims under theory.tailoring: gains in points at the strictest r_t and the loosest, the share of never
    harm's choices that were worse than the start, and what takes the harm away.
    """
    found = gains(table)
    sizes = {found["n"].min(): _FEW, found["n"].max(): _MANY} if len(found) else {}
    shown = found[found["method"].isin(("plain", "mended", "never harm", *PRICED)) & found["n"].isin(sizes)]
    for row in shown.to_dict("records"):
        words = _word(row["method"]), _word(row["capacity"]), sizes[row["n"]], f"{row['r_t']:g}"
        yield {
            "claim": ".".join(("theory.tailoring.gain_points", *words)),
            "value": row["value"],
            "low": row["low"],
            "high": row["high"],
            "n": int(table["repeat"].nunique()),
        }
    wide = table.pivot_table(index=_KEY, columns="method", values="acceptance", sort=False)
    for method in (name for name in wide.columns if name.startswith("never harm")):
        bad = int((wide[method] < wide["start"] - 1e-12).sum())
        taken = int((wide[method] != wide["start"]).sum())
        name = _word(method)
        yield {
            "claim": f"theory.tailoring.worse_share.{name}",
            "value": bad / len(wide),
            "low": clopper_pearson_lower(bad, len(wide), 0.025),
            "high": clopper_pearson_upper(bad, len(wide), 0.025),
            "n": len(wide),
        }
        yield {"claim": f"theory.tailoring.taken.{name}", "value": taken / len(wide), "n": len(wide)}
    for key, part in why.groupby(["capacity", "temperature", "data"], sort=False):
        for claim, column in (("why_points", "gain"), ("why_seen_points", "gain_seen")):
            yield {
                "claim": ".".join((f"theory.tailoring.{claim}", *(_word(str(word)) for word in key))),
                **mean_of(100 * part[column].to_numpy()),
            }


def _word(text: str) -> str:
    return text.replace(", ", "_").replace("-", "_").replace(" ", "_")
