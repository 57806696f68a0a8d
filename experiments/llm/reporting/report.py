"""What is kept of language runs: tables and claims."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from experiments.llm.reporting import capacities, labels, transferred
from experiments.llm.reporting.comparison import BASELINES, FURTHER, OURS, times_safer
from experiments.llm.reporting.measured import Measured, curves
from experiments.llm.reporting.scaling import scaling_fit, scaling_rows
from experiments.llm.reporting.transferred import claim_worst
from experiments.support.results.points import once, unique
from experiments.support.results.publish import RESULTS, Claimant, write_tables
from experiments.support.results.ratios import mean_interval, share_interval

CLAIMED = ("ours_priced", "ours_priced_certified", "ours_shrinkage")
"""Further rules that are claimed; the table holds all."""
PAPER_COMMAND = "python run.py -m +sweep=figure-4-paper"
CONSERVATIVE = ("ours", "ours_accepted", "ours_paper")


def write(by_n_t: Mapping[int, Measured], data: str, r_t: float, place: Path = RESULTS) -> list[Path]:
    """tables/llm_{curves,times_safer,rules,groups,capacities,scaling,labels,transfer}_<data>.csv; paths of
    those with rows.
    """
    full = by_n_t[max(by_n_t)]
    tables = {
        "curves": curves(full),
        "times_safer": times_safer(full),
        "rules": rule_rows(full),
        "groups": group_rows(full),
        "capacities": capacities.capacity_rows(full),
        "scaling": scaling_rows(by_n_t, r_t) if len(by_n_t) > 1 else pd.DataFrame(),
        "labels": labels.label_rows(full),
        "transfer": transferred.transfer_rows(full, data),
    }
    return write_tables({f"llm_{name}_{data}": table for name, table in tables.items()}, place)


@once
def rule_rows(measured: Measured) -> pd.DataFrame:
    """What further rules on ours' margins are worth: how many times safer than every baseline at its own
    reward, ours itself (gated, conservative) among them; column ours names the rule.
    """
    every = (*BASELINES, OURS)
    found = [
        times_safer(measured, rule, baselines=every).query("claimed").assign(ours=rule)
        for rule in FURTHER
        if len(measured.where(rule))
    ]
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame()


def group_rows(measured: Measured) -> pd.DataFrame:
    """Shares of each kind of real prompt, pooled over runs: harmful among the answers given, default answers;
    columns method, r_t, knob, group, metric, value, low, high, n. Empty where they were not counted.
    """
    frame = measured.frame
    rows = []
    for metric in ("harmful.answered", "default_share"):
        some = frame[frame["metric"].str.startswith(f"{metric}.")]
        some = some.assign(group=some["metric"].str.removeprefix(f"{metric}."))
        for key, found in some.groupby(["method", "r_t", "knob", "group"], dropna=False, sort=False):
            n = found["n"].to_numpy(dtype=float)
            k = np.round(found["value"].fillna(0.0).to_numpy(float) * n)
            value, low, high, _ = share_interval(k, n)
            at = dict(zip(("method", "r_t", "knob", "group"), key, strict=True))
            rows.append({**at, "metric": metric, "value": value, "low": low, "high": high, "n": int(n.sum())})
    return pd.DataFrame(rows)


def record(
    by_n_t: Mapping[int, Measured],
    data: str,
    preset: str,
    r_t: float,
    ledger: Path | None = None,
    dirty: bool = False,
) -> list[str]:
    """Write the claims of one source to the ledger; what could not be claimed, and why, as texts.

    `dirty`: from runs of a dirty tree too.
    """
    measured = by_n_t[max(by_n_t)]
    table = curves(measured)
    runs = unique(run for pool in by_n_t.values() for run in pool.saved)
    command = PAPER_COMMAND if preset == "paper" else "make figure-4"
    claim = Claimant("llm", runs, command, ledger, dirty, seeds=measured.seeds, preset=preset, data=data)
    safer = times_safer(measured)
    for method in BASELINES:
        rows = safer[(safer["method"] == method) & safer["claimed"].eq(True)]
        if rows.empty:
            claim.lacks(f"times_safer.{method}", "not run, or earns less than half of the scale")
        for row in rows.to_dict("records"):
            if np.isnan(row["ratio"]):
                claim.lacks(f"times_safer.{method}", row["note"])
            else:
                n = row["answered"] + row["ours_answered"]
                claim(f"times_safer.{method}", row["ratio"], row["low"], row["high"], n)
    rules = rule_rows(measured)
    for row in rules[rules["ours"].isin(CLAIMED)].to_dict("records") if len(rules) else ():
        name = f"times_safer_{row['ours']}.{row['method']}"
        if np.isnan(row["ratio"]):
            claim.lacks(name, row["note"])
        else:
            claim(name, row["ratio"], row["low"], row["high"], row["answered"] + row["ours_answered"])
    for method in (*CONSERVATIVE, *(rule for rule in FURTHER if len(measured.where(rule)))):
        claim_worst("violation_over_threshold_max", measured, method, claim)
    for name, method in (("default_share", "ours"), ("harmful_at_r_t", "ours"), ("harmful_alone", "ai")):
        at = measured.at(method, r_t) if method == "ours" else int(measured.where(method)[0])
        key = "default_share" if name == "default_share" else "harmful"
        if at is None or np.isnan(table.at[at, key]):
            claim.lacks(name, f"ours gave no answer at r_t = {r_t:g}")
        else:
            claim(
                name, *(table.at[at, f"{key}{end}"] for end in ("", "_low", "_high")), table.at[at, "prompts"]
            )
    labels.record(measured, claim)
    transferred.record(measured, claim)
    _gain(measured, r_t, claim)
    fit = scaling_fit(scaling_rows(by_n_t, r_t)) if len(by_n_t) > 1 else None
    if fit is None:
        claim.lacks("scaling_slope", "ours was run at fewer than two n_t")
    else:
        claim("scaling_slope", fit.slope, fit.low, fit.high, fit.n)
    return claim.missing


def gain_rows(measured: Measured) -> pd.DataFrame:
    """Per run and r_t: acceptance of the tailored classifier less that of cross-entropy, both at radius 0 and
    per accepted candidate of the same bound.
    """
    frame = measured.frame[measured.frame["metric"] == "acceptance"]
    wide = frame.pivot_table(index=["run", "seed", "r_t"], columns="method", values="value")
    wide = wide[["ours_accepted_xi_0", "cross_entropy_accepted"]].dropna()
    gain = wide["ours_accepted_xi_0"] - wide["cross_entropy_accepted"]
    return gain.rename("gain").reset_index()


def _gain(measured: Measured, r_t: float, claim: Claimant) -> None:
    rows = gain_rows(measured)
    rows = rows[np.isclose(rows["r_t"], r_t, rtol=1e-6)]
    name = "acceptance_gain_over_cross_entropy"
    if len(rows) < 2:
        claim.lacks(name, f"fewer than two runs at r_t = {r_t:g}")
    else:
        claim(name, *mean_interval(rows["gain"].to_numpy()), len(rows))
