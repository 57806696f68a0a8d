"""Figures of the sensitivities, of per-step against per-episode risk, and of quality against quantity."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from experiments.support.results import figures

Drawn = tuple[Any, str]
GREY = "#777777"
_LABELS = {
    "prior": "prior assumed / true",
    "label noise": "flips of every label, η",
    "hidden unsafe": "unsafe labelled safe",
    "xi": "radius ξ",
    "n_t": "$n_t$",
}


def sensitivities(tables: dict[str, pd.DataFrame]) -> Drawn:
    """True risk over r_t against each setting; many constraints at once."""
    import matplotlib.pyplot as plt

    table, many = tables["sensitivities"], tables["constraints"]
    figure, axes = plt.subplots(2, 3, figsize=(figures.PAGE[0], 5.0))
    colours = figures.colours(list(table["variant"].unique()))
    for letter, one, (what, label) in zip("ABCDE", axes.flat, _LABELS.items(), strict=False):
        part = table[table["what"] == what]
        places = sorted(part["at"].unique())
        variants = list(part["variant"].unique())
        for i, variant in enumerate(variants):
            rows = part[part["variant"] == variant].sort_values("at")
            x = np.arange(len(rows)) + 0.18 * (i - (len(variants) - 1) / 2)
            over = rows["median"].clip(lower=2e-3)
            one.errorbar(
                x,
                over,
                [
                    over - rows["low"].clip(lower=2e-3, upper=None).clip(upper=over),
                    (rows["high"] - over).clip(lower=0),
                ],
                fmt=figures.MARKERS[i],
                color=colours[variant],
                capsize=2,
                label=variant,
            )
        one.axhline(1, color=GREY, linewidth=0.8)
        one.set_xticks(
            range(len(places)), [f"{value / 1000:g}k" if value >= 1000 else f"{value:g}" for value in places]
        )
        one.set_yscale("log")
        one.set_ylim(1.5e-3, 20)
        one.set_xlabel(label)
        one.set_title(letter, loc="left", fontweight="bold")
    for row in axes:
        row[0].set_ylabel("true risk / $r_t$")
    last = axes[1, 2]
    for i, (variant, rows) in enumerate(many.groupby("variant", sort=False)):
        last.plot(
            rows["constraints"],
            rows["any_broken"],
            color=figures.PALETTE[i + 4],
            marker=figures.MARKERS[i + 3],
            label=variant,
        )
    last.axhline(many["delta"].iloc[0], color=GREY, linewidth=0.8)
    last.set_xscale("log", base=2)
    last.set_xticks(many["constraints"].unique(), [str(k) for k in many["constraints"].unique()])
    last.set(xlabel="constraints at once", ylabel="some constraint above $r_t$", ylim=(-0.03, 1.03))
    last.set_title("F", loc="left", fontweight="bold")
    last.legend(loc="center right", fontsize=5.5)
    handles: dict[str, Any] = {}
    for one in axes.flat[:5]:
        handles |= dict(zip(*reversed(one.get_legend_handles_labels()), strict=True))
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=len(handles))
    trials, n = int(table["trials"].iloc[0]), int(many["pool"].iloc[0])
    return figure, (
        "Sensitivities. A to E: true risk of the threshold chosen for r_t = 0.01 over r_t; points are "
        "medians, bars 5 to "
        f"95 % of {trials} draws; values below 0.002 (nothing or almost nothing accepted) lie on the "
        "lower edge; grey: the "
        "promise. A: the user's prior is off by a factor. B: every label flips with probability eta, "
        "known to the "
        "corrected bounds. C: a share of the unsafe cases is labelled safe. D: radius xi. E: internal "
        "test cases. F: "
        f"how often at least one of several constraints is above r_t; {n} draws of one constraint, "
        "resampled; grey: delta."
    )


def episodes(tables: dict[str, pd.DataFrame]) -> Drawn:
    """A: per-episode risk against the horizon. B: limits that take steps as independent, or do not."""
    import matplotlib.pyplot as plt

    table = tables["episodes"]
    figure, (left, right) = plt.subplots(1, 2, figsize=figures.PAGE)
    for colour, (rho, rows) in enumerate(table.groupby("rho")):
        left.plot(
            rows["horizon"],
            rows["per_episode"],
            color=figures.PALETTE[colour],
            marker=figures.MARKERS[colour],
            label=f"ρ = {rho:g}",
        )
    one = table[table["rho"] == table["rho"].min()]
    left.plot(one["horizon"], one["independent"], color=GREY, linestyle="--", label="independent")
    left.plot(one["horizon"], one["union"], color=GREY, linestyle=":", label="union bound")
    left.set(xscale="log", yscale="log", xlabel="steps of an episode", ylabel="P(some unsafe step)")
    left.legend(loc="upper left", fontsize=6)
    longest = table[table["horizon"] == table["horizon"].max()]
    place = np.arange(len(longest))
    names = {"per_accepted_step": ("measured", "D", "black"),
             "limit_steps_independent": ("limit, steps as independent", "o", figures.PALETTE[1]),
             "limit_clusters": ("limit, episodes as units", "s", figures.PALETTE[0])}  # fmt: skip
    for i, (column, (label, marker, colour)) in enumerate(names.items()):
        right.plot(place + 0.12 * (i - 1), longest[column], marker, color=colour, label=label)
    right.set_xticks(place, [f"{rho:g}" for rho in longest["rho"]])
    right.set(yscale="log", xlabel="correlation ρ", ylabel="risk per accepted step")
    right.set_ylim(
        longest["per_accepted_step"].replace(0, np.nan).min() / 2, longest["limit_clusters"].max() * 8
    )
    right.legend(loc="upper right", fontsize=6)
    for axes, letter in ((left, "A"), (right, "B")):
        axes.set_title(letter, loc="left", fontweight="bold")
    return figure, (
        "Per step against per episode; stationary sequences whose every step has the same risk "
        f"({table['per_step'].mean():.2g}), correlation rho from step to step; n = "
        f"{int(table['episodes'].iloc[0]):,} episodes "
        "per point. A: the same per-step risk makes an episode's risk anything between itself and the "
        "union bound. B: "
        "one-sided 95 % limits on the risk per accepted step, episodes of "
        f"{int(longest['horizon'].iloc[0])} steps: as if steps "
        "were independent (no guarantee), and with episodes as units (betting, valid for any dependence "
        "within)."
    )


def quality(tables: dict[str, pd.DataFrame]) -> Drawn:
    """A: zeta of internal test data of one size. B: plug-in and conservative bound beside the truth."""
    import matplotlib.pyplot as plt

    table = tables["quality"]
    figure, (left, right) = plt.subplots(1, 2, figsize=figures.PAGE)
    kinds = list(table["kind"].unique())
    for i, kind in enumerate(kinds):
        part = table[table["kind"] == kind]
        for axes, column, colour, move in ((left, "zeta", 0, 0.0), (right, "plug_in", 1, -0.12),
                                           (right, "conservative", 0, 0.12)):  # fmt: skip
            low, middle, high = part[column].quantile([0.05, 0.5, 0.95])
            axes.errorbar(
                i + move,
                middle,
                [[middle - low], [high - middle]],
                fmt=figures.MARKERS[colour],
                capsize=2,
                color=figures.PALETTE[colour],
                label={"plug_in": "plug-in", "conservative": "bound, $\\xi = K\\zeta$"}.get(column)
                if i == 0
                else None,
            )
    right.axhline(table["truth"].iloc[0], color=GREY, linewidth=0.9, label="truth")
    for axes, letter, name in ((left, "A", "ζ of the data"), (right, "B", "P(unsafe | accepted)")):
        axes.set_xticks(range(len(kinds)), [kind.replace("repeated ", "repeated\n").replace("one ", "one\n")
                                            for kind in kinds], fontsize=6)  # fmt: skip
        axes.set_ylabel(name)
        axes.set_title(letter, loc="left", fontweight="bold")
    left.set_ylim(0, None)
    right.legend(loc="center left")
    return figure, (
        f"Quality against quantity: {int(table['n_t'].iloc[0])} internal test cases in every column, two "
        "states in the "
        f"plane. Points: medians, bars: 5 to 95 % of {table['trial'].nunique()} draws. 'repeated m': m "
        "different cases, each "
        "many times with a jitter of 1 %. A: zeta (upper limit by matching). B: plug-in and conservative "
        "posterior bound "
        "at one threshold, and the truth."
    )
