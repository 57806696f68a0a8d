"""Where a judge labels: how it errs on people's labels, and what people say of what guards accept."""

from __future__ import annotations

import numpy as np
import pandas as pd

from experiments.llm.records import ERRORS
from experiments.llm.reporting.measured import Measured
from experiments.support.results.largest import largest_ratio
from experiments.support.results.publish import Claimant
from experiments.support.results.ratios import mean_interval, share_interval

_OVER = ("over_threshold", "over_threshold_low", "over_threshold_high")
COLUMNS = ["method", "metric", "r_t", "value", "low", "high", "n", *_OVER]
PROMISED = ("ours_people", "ours_denoised", "ours_denoised_untested")
"""Methods that promise something about people's labels (`guard.people`)."""
_ANSWERED = "accepted_pairs.answered"
_MEANS = ("auc.", "p_value.")


def label_rows(measured: Measured) -> pd.DataFrame:
    """The judge's errors on people's labels, and what both say of answers that each guard accepts.

    The judge labels the run's own answers, or those of transfer. What people and the judge say of the
    human-labelled answers that a guard accepts is pooled over runs, and so is the share that it accepts; the
    judge and its held-out pairs are the same in every run: counted once. `records.ERRORS`: its errors as each
    run has measured them on some of these pairs, pooled (of rank tests the mean over runs). The columns
    over_threshold are value, low and high over r_t.
    """
    frame, rows = measured.frame, []
    of_judge = frame[frame["method"].str.endswith("judge")].drop_duplicates(["method", "metric"])
    for row in of_judge.to_dict("records"):
        rows.append({name: row[name] for name in ("method", "metric", "value", "low", "high", "n")})
    pairs = frame[frame["metric"].str.startswith("accepted_pairs.")]
    for (method, metric, r_t), group in pairs.groupby(["method", "metric", "r_t"]):
        row = {"method": method, "metric": metric, "r_t": r_t, **_pooled(group)}
        if metric != _ANSWERED:
            row |= {name: row[end] / r_t for name, end in zip(_OVER, ("value", "low", "high"), strict=True)}
        rows.append(row)
    for metric, group in frame[frame["method"] == ERRORS].groupby("metric"):
        found = _mean(group) if str(metric).startswith(_MEANS) else _pooled(group)
        rows.append({"method": ERRORS, "metric": metric, **found})
    return pd.DataFrame(rows).reindex(columns=COLUMNS)


def _pooled(group: pd.DataFrame) -> dict[str, float]:
    n = group["n"].to_numpy(dtype=float)
    value, low, high, _ = share_interval(np.round(group["value"].fillna(0.0).to_numpy(float) * n), n)
    return {"value": value, "low": low, "high": high, "n": int(n.sum())}


def _mean(group: pd.DataFrame) -> dict[str, float]:
    tested = group["value"].dropna().to_numpy(dtype=float)
    value, low, high = mean_interval(tested) if len(tested) else (np.nan, np.nan, np.nan)
    return {"value": value, "low": low, "high": high, "n": int(group["n"].sum())}


def record(measured: Measured, claim: Claimant) -> None:
    """llm.judge.*: errors of the judge that labels the run's own answers, and what they do to the promise:
    unsafe by people (by the judge) among the human-labelled answers that a guard accepts, largest over r_t.
    """
    table = label_rows(measured)
    for row in table[table["method"] == "judge"].to_dict("records"):
        claim(f"judge.{row['metric']}", row["value"], row["low"], row["high"], row["n"])
    name = "judge.accepted_pairs_over_threshold_max"
    for who in ("human", "judge"):
        _claim_largest(f"{name}.{who}", measured, "ours", who, claim)
    for method in PROMISED:
        _claim_largest(f"{name}.human.{method}", measured, method, "human", claim)
    errors = table[(table["method"] == ERRORS) & table["value"].notna()].to_dict("records")
    for row in (row for row in errors if row["metric"].startswith("auc.")):
        claim(f"judge.errors_{row['metric']}", row["value"], row["low"], row["high"], row["n"])


def largest_of(measured: Measured, method: str, who: str) -> tuple[float, float, float, int] | None:
    """The largest share over r_t of unsafe pairs by people or by the judge (who) among those that a guard
    accepts: as `largest_ratio` gives it, blocks being runs; None where it was not counted.
    """
    frame = measured.frame
    rows = frame[(frame["method"] == method) & (frame["metric"] == f"accepted_pairs.{who}")]
    if rows.empty:
        return None
    wide = rows.assign(bad=(rows["value"].fillna(0.0) * rows["n"]).round()).set_index(["run", "r_t"])
    bad, n = (wide[key].astype(float).unstack("r_t").fillna(0.0) for key in ("bad", "n"))
    return largest_ratio(
        bad.to_numpy()[:, :, None], n.to_numpy()[:, :, None], bad.columns.to_numpy(dtype=float)
    )


def _claim_largest(name: str, measured: Measured, method: str, who: str, claim: Claimant) -> None:
    found = largest_of(measured, method, who)
    if found is None:
        return
    value, low, high, count = found
    if count:
        claim(name, value, low, high, count)
    else:
        claim.lacks(name, f"{method} accepts none of the human-labelled answers")
