"""Guards in service through a year: was the promise kept for every product, and what did it earn?

A cell is one product at one r_t in one run; `reporting.cells` says how it is tested.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from experiments.production.records import ALARMS, ORACLE, SERVED
from experiments.production.reporting.cells import CELL, LEVEL, cells
from experiments.production.reporting.comparison import curves
from experiments.production.reporting.measured import Measured, gather, read
from experiments.support.results import collect, figures
from experiments.support.results.largest import largest_ratio
from experiments.support.results.publish import Claimant, Target, write_tables
from experiments.support.results.ratios import ratio
from experiments.support.results.saved import Saved

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COMMAND = "make deployment"
STATIC = "static_plug_in"
"""What a guard is compared with: the thresholds of the paper's rule, never renewed."""
RAIL = 0.2
"""Where no violation stands on the logarithmic axis of panel A."""
SHOWN = (1e-3, 1e-2, 1e-1)
NAMES = {
    "static_plug_in": "plug-in, static",
    "rolling_plug_in": "plug-in, weekly",
    "static": "conservative, static",
    "static_prior": "conservative + prior, static",
    "rolling": "conservative, weekly",
    "rolling_prior": "conservative + prior, weekly",
    "shrinkage": "shrinkage, weekly",
    "strict": "shrinkage, strict, weekly",
    "worst_product_static": "worst product, static",
    "worst_product": "worst product, weekly",
    "worst_product_strict": "worst product, strict, weekly",
    "pooled": "pooled, weekly",
    "budget": "plug-in with budget",
    "shrinkage_budget": "shrinkage, weekly, with budget",
    "worst_product_budget": "worst product, weekly, with budget",
}
LOOKS: dict[str, dict[str, Any]] = {
    "static_plug_in": {"color": "#000000", "marker": "v"},
    "rolling_plug_in": {"color": "#999999", "marker": "v", "linestyle": "--"},
    "static_prior": {"color": "#E69F00", "marker": "s"},
    "rolling_prior": {"color": "#D55E00", "marker": "s", "linestyle": "--"},
    "strict": {"color": "#0072B2", "marker": "o"},
    "worst_product_strict": {"color": "#56B4E9", "marker": "o", "linestyle": "--"},
    "budget": {"color": "#009E73", "marker": "^"},
}


def load(
    source: str, preset: str, where: Mapping[str, Any] | None = None, root: collect.Root = collect.RUNS
) -> dict[tuple[int, ...], list[Saved]]:
    """Finished runs with guards in service, by the order of the years; empty if there are none."""
    wanted = {"data.source": source, "preset": preset, **(where or {})}
    runs = [run for run in collect.finished("production", wanted, root) if run.has(SERVED)]
    found: dict[tuple[int, ...], list[Saved]] = {}
    for run in runs:
        found.setdefault(tuple(run.setting("data.order")), []).append(run)
    chosen = {
        order: collect.one_a_seed(
            collect.comparable(_fullest(some), ("seed", "data.path", "service.methods"))[0]
        )
        for order, some in found.items()
    }
    return dict(sorted(chosen.items()))


def _fullest(runs: Sequence[Saved]) -> list[Saved]:
    """Those with the most guards: runs of a few of them, for another table, are not pooled with these."""
    most = max(len(run.setting("service.methods")) for run in runs)
    return [run for run in runs if len(run.setting("service.methods")) == most]


def served(runs: Sequence[Saved]) -> pd.DataFrame:
    """The cells of every guard, with the hour and labels of the alarm (NaN without one)."""
    alarms = pd.concat(run.table(ALARMS).assign(seed=run.seed) for run in runs)
    alarms = alarms.astype({"hour": float, "labels": float})
    named = alarms.rename(columns={"hour": "alarm_hour", "labels": "alarm_labels"})
    return cells(runs, SERVED).merge(named, on=[*CELL, "seed"], validate="one_to_one")


def table(runs: Sequence[Saved]) -> pd.DataFrame:
    """One row per guard and r_t: violations over all products, the worst cell, how many cells are above r_t
    and significantly so, alarms, and revenue as a share of the oracle's and of the static plug-in guard's.
    """
    measured, by_cell = pooled(runs), served(runs)
    found = curves(measured)
    static = measured.where(STATIC)
    rows = []
    for at, point in found[found["method"] != ORACLE].iterrows():
        method, r_t = point["method"], point["r_t"]
        mine = by_cell[(by_cell["method"] == method) & np.isclose(by_cell["r_t"], r_t, rtol=1e-6)]
        used = mine[mine["accepted"] > 0]
        row = {"method": method, "r_t": r_t, "runs": len(measured.runs)}
        row |= {key: point[key] for key in ("produced", "violations", "violation")}
        row |= {f"over{end}": point[f"violation{end}"] / r_t for end in ("", "_low", "_high")}
        row |= {
            "cells": len(mine),
            "accepting": len(used),
            "worst_over": used["over"].max() if len(used) else np.nan,
            "above": int((used["over"] > 1).sum()),
            "significant_exact": int((used["p_exact"] < LEVEL).sum()),
            "significant_weeks": int((used["p_weeks"] < LEVEL).sum()),
            "significant_holm": int(used["holm"].sum()),
            "alarms": int(mine["alarm_hour"].notna().sum()),
            "alarm_hour": mine["alarm_hour"].median(),
        }
        row |= {key: point[key] for key in ("revenue_share", "revenue_share_low", "revenue_share_high")}
        base = [i for i in static if np.isclose(measured.points["r_t"][i], r_t, rtol=1e-6)]
        if base:
            earned, theirs = (measured.revenue[:, i].sum(axis=1) for i in (int(at), base[0]))
            kept = ratio(earned, theirs) if theirs.all() else (np.nan, np.nan, np.nan)
            row |= dict(zip(("revenue_kept", "revenue_kept_low", "revenue_kept_high"), kept, strict=True))
        rows.append(row)
    return pd.DataFrame(rows)


def pooled(runs: Sequence[Saved]) -> Measured:
    """The runs' weekly sums over products."""
    return gather(read(run) for run in runs)


def summary(runs: Sequence[Saved]) -> str:
    """What guards in service did, at a few r_t, as text."""
    shown = table(runs)
    shown = shown[[np.isclose(r_t, SHOWN, rtol=1e-6).any() for r_t in shown["r_t"]]]
    names = ("over r_t", "worst", "above", "signif.", "alarms", "revenue")
    head = f"{'guard':<24}{'r_t':>8}" + "".join(f"{name:>9}" for name in names)
    lines = [head, "-" * len(head)]
    for row in shown.to_dict("records"):
        cells_of = (f"{row['above']}/{row['accepting']}",)
        tests = (f"{row['significant_exact']}/{row['significant_weeks']}",)
        ratios = ("-" if np.isnan(row[key]) else f"{row[key]:.2f}" for key in ("over", "worst_over"))
        values = (*ratios, *cells_of, *tests, str(row["alarms"]))
        shown_as = "".join(f"{value:>9}" for value in (*values, f"{row['revenue_share']:.1%}"))
        lines.append(f"{row['method']:<24}{row['r_t']:>8.3g}{shown_as}")
    lines.append(
        "over r_t: violations of all products over r_t; worst: the largest of a single product;\n"
        "above: products above r_t, of those made; signif.: of these by the exact test (hours independent)\n"
        "and over weeks, at 5 %; alarms: monitors that rang; revenue: share of the oracle's; -: nothing made"
    )
    return "\n".join(lines)


def panels(found: pd.DataFrame) -> Figure:
    """A: the worst product's violations over r_t. B: revenue. Both against r_t, from `table`."""
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(figures.PAGE[0], 3.6))
    for method, look in LOOKS.items():
        rows = found[found["method"] == method].sort_values("r_t")
        rows = rows[rows["r_t"] < 1]
        if rows.empty:
            continue
        look = {"label": NAMES[method], "markersize": 4, "linewidth": 1.2, **look}
        made = rows[rows["accepting"] > 0]
        left.plot(made["r_t"], np.maximum(made["worst_over"], RAIL), **look)
        right.plot(rows["r_t"], 100 * rows["revenue_share"], **look)
    left.axhline(1.0, color="#555555", linestyle=":", linewidth=1.0)
    figures.log_axis_with_zero(left, RAIL, max(float(found["worst_over"].max()), 2.0))
    left.set_ylabel("violations / $r_t$ of the worst product and seed")
    right.set_ylabel("revenue (% of the oracle's)")
    for axes, letter in ((left, "A"), (right, "B")):
        axes.set_xscale("log")
        axes.set_xlabel("threshold $r_t$")
        axes.set_title(letter, loc="left", fontweight="bold")
    handles, labels = left.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4)
    return figure


def caption(measured: Measured, source: str) -> str:
    """What the figure shows, with n and seeds."""
    return (
        f"A guard in service, {source}: {len(measured.runs)} seeds {measured.seeds}, "
        f"{int(measured.hours[0].sum()):,} hours in use each, four products. Order of the years "
        f"{list(measured.runs['order'][0])} (0, 1 training, 3 calibration, 2 in use). A: the largest of the "
        "violations / r_t of any product and seed (0: none); below the dotted line the promise is kept for "
        "every one. B: revenue, pooled over seeds. Every row with intervals and tests: "
        f"tables/production_deployment_{source}_{_tag(measured.runs['order'][0])}.csv"
    )


def _tag(order: Sequence[int]) -> str:
    return "".join(str(role) for role in order)


def publish(
    found: Mapping[tuple[int, ...], Sequence[Saved]], source: str, preset: str, target: Target
) -> list[Path]:
    """Tables, figure and claims of every order of the years; the paths."""
    paths: list[Path] = []
    for order, runs in found.items():
        name, measured, counted = f"production_deployment_{source}_{_tag(order)}", pooled(runs), table(runs)
        paths += write_tables({name: counted}, target.place)
        with figures.style():
            paths += figures.save(panels(counted), name, caption(measured, source), target.figures)
        claims(measured, counted, source, preset, target)
    return paths


def claims(measured: Measured, found: pd.DataFrame, source: str, preset: str, target: Target) -> None:
    """Of every guard: the largest violations over r_t of all products and of any one, cells significantly
    above r_t, alarms, and revenue at SHOWN, as a share of the oracle's and of the static plug-in guard's.
    """
    tag = _tag(measured.runs["order"][0])
    claim = Claimant(
        "production", measured.saved, COMMAND, target.ledger, target.dirty,
        seeds=measured.seeds, preset=preset, data=source,
    )  # fmt: skip
    for method in dict.fromkeys(found["method"]):
        at = measured.where(method)
        name = f"deployment.{tag}.{method}"
        r_t = measured.points["r_t"].to_numpy(dtype=float)[at]
        value, low, high, n = largest_ratio(
            measured.violations[:, at], measured.produced[:, at], r_t, measured.realisation
        )
        if not n:
            claim.lacks(f"{name}.violation_over_threshold_max", "nothing was made")
            continue
        claim(f"{name}.violation_over_threshold_max", value, low, high, n)
        mine = found[(found["method"] == method) & (found["r_t"] < 1)]
        accepting = int(mine["accepting"].sum())
        claim(
            f"{name}.worst_product_over_threshold_max",
            float(mine["worst_over"].max()),
            np.nan,
            np.nan,
            accepting,
        )
        for test in ("exact", "weeks", "holm"):
            count = int(mine[f"significant_{test}"].sum())
            claim(f"{name}.significant_{test}", count, np.nan, np.nan, accepting)
        claim(f"{name}.alarms", int(mine["alarms"].sum()), np.nan, np.nan, int(mine["cells"].sum()))
        for level in SHOWN:
            row = mine[np.isclose(mine["r_t"], level, rtol=1e-6)].iloc[0]
            place = f"{level:.0e}".replace("-0", "_")
            for metric in ("revenue_share", "revenue_kept"):
                values = [row[f"{metric}{end}"] for end in ("", "_low", "_high")]
                claim(f"{name}.{metric}.{place}", *values, int(row["produced"]))
