"""Figures of the theorems, drawn from a run's saved tables, each with a caption that gives n, seed,
interval.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from experiments.support.results import figures
from experiments.support.results.saved import Saved
from experiments.theory.reporting import figures_groups, figures_sensitivity
from experiments.theory.reporting.figures_monitor import monitor
from experiments.theory.reporting.figures_priced import priced
from experiments.theory.reporting.figures_promises import promises
from experiments.theory.reporting.figures_tailoring import tailoring
from experiments.theory.reporting.report import read
from safeframe.certificates.cases import clopper_pearson_lower, clopper_pearson_upper

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Drawn = tuple[Any, str]
GREY = "#777777"


def draw(run: Saved, place: Path | None = None) -> list[Path]:
    """All figures of a run, saved under `place` (results/figures); paths of png, pdf and txt."""
    tables = read(run)
    makers: dict[str, Callable[[dict[str, pd.DataFrame]], Drawn]] = {
        "theory_theorem_1": theorem_1,
        "theory_leak": leak,
        "theory_theorem_2": theorem_2,
        "theory_theorem_3": theorem_3,
        "theory_certificates": certificates,
        "theory_coverage": coverage,
        "theory_sensitivities": figures_sensitivity.sensitivities,
        "theory_episodes": figures_sensitivity.episodes,
        "theory_quality": figures_sensitivity.quality,
        "theory_promises": promises,
        "theory_monitor": monitor,
        "theory_shrinkage": figures_groups.shrinkage,
        "theory_group_constraints": figures_groups.group_constraints,
        "theory_priced": priced,
        "theory_tailoring": tailoring,
    }
    paths: list[Path] = []
    for name, make in makers.items():
        with figures.style():
            figure, caption = make(tables)
            where = f"Seed {run.seed}, preset {run.setting('preset')}."
            paths += figures.save(figure, name, f"{caption} {where}\n", place)
    return paths


def panels(rows: int, columns: int, height: float | None = None) -> tuple[Figure, np.ndarray]:
    """Panels side by side on a page, lettered."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(
        rows, columns, figsize=(figures.PAGE[0], height or figures.PAGE[1] * rows), squeeze=False
    )
    for letter, one in zip("ABCDEFGH", axes.flat, strict=False):
        one.set_title(letter, loc="left", fontweight="bold")
    return figure, axes


def theorem_1(tables: dict[str, pd.DataFrame]) -> Drawn:
    """A: draws in which a bound fails, against the radius. B: measured radius against K zeta."""
    table = tables["theorem_1"][tables["theorem_1"]["statement"] == "likelihood"]
    figure, ((left, right),) = panels(1, 2, 3.1)
    lines = {"sample": "-", "grid": "--", "worst": ":"}
    names = {"sample": "random sample", "grid": "grid, moved", "worst": "moved as a whole, linear"}
    for colour, d in enumerate(sorted(table["d"].unique())):
        for kind, line in lines.items():
            part = table[(table["d"] == d) & (table["kind"] == kind)]
            left.plot(
                part["factor"], 100 * part["failures"] / part["trials"], line, color=figures.PALETTE[colour]
            )
    left.axvline(1.0, color=GREY, linewidth=0.8)
    left.set_xlabel("radius $\\xi\\,/\\,K\\zeta$")
    left.set_ylabel("draws in which a bound fails (%)")
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], color=figures.PALETTE[i], label=f"{d}-D")
               for i, d in enumerate(sorted(table["d"].unique()))]  # fmt: skip
    handles += [
        Line2D([], [], color="black", linestyle=line, label=names[kind]) for kind, line in lines.items()
    ]
    xi = tables["measured_xi"]
    for colour, (d, part) in enumerate(xi.groupby("d")):
        right.scatter(part["k_zeta"], part["xi"], s=8, alpha=0.6, color=figures.PALETTE[colour], linewidth=0,
                      marker=figures.MARKERS[colour], label=f"{d}")  # fmt: skip
    ends = np.array([xi["xi"].min() / 1.3, xi["k_zeta"].max() * 1.3])
    right.plot(ends, ends, color=GREY, linewidth=0.8)
    right.set(xscale="log", yscale="log", xlabel="$K\\zeta$ (logit units)", ylabel="measured $\\xi$")
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
    at = table[table["factor"] == 1.0]
    return figure, (
        "Theorem 1 on laws with known likelihoods. A: share of draws of the internal test data in which "
        "p^-xi <= p <= p^+xi fails for some state and output, against the radius; n = "
        f"{at['trials'].max()} draws per "
        f"point, {int(at['failures'].sum())} failures at K zeta in {int(at['trials'].sum())} draws. "
        "Dotted: linear "
        "logits and data moved as a whole along their gradient, where nothing less than K zeta will do. "
        "zeta is exact "
        "in one dimension and an upper limit above. B: radius measured from 20,000 fresh cases per class "
        "(quantile "
        "gap of the margins, nothing trimmed; its 95 % band is a mass of 0.0096) against K zeta; one "
        "point per draw, "
        f"n = {len(xi)}; grey: equal. Measured in logit space the dimension of the measurement does not "
        "matter."
    )


def leak(tables: dict[str, pd.DataFrame]) -> Drawn:
    """A: what the plug-in share misses. B: bounds that are valid in spite of the leak, and what they cost."""
    table = tables["leak"]
    figure, ((left, right),) = panels(1, 2, 3.0)
    for colour, (ridge, part) in enumerate(table.groupby("ridge")):
        style = {
            "color": figures.PALETTE[colour],
            "marker": figures.MARKERS[colour],
            "label": f"ridge {ridge:g}",
        }
        group = part.assign(gap=100 * (part["truth"] - part["plug_in"])).groupby("n")["gap"]
        n = np.array(list(group.groups)) * 1.03**colour
        half = 1.96 * group.std() / np.sqrt(group.count())
        left.errorbar(n, group.mean(), half, capsize=2, **style)
        means = part.groupby("n")[["truth", "measured", "conservative"]].mean()
        right.plot(means.index, means["conservative"], "-", **style)
        right.plot(means.index, means["measured"], "--", color=style["color"], marker=style["marker"])
        right.plot(means.index, means["truth"], ":", color=style["color"], marker=style["marker"])
    left.axhline(0, color=GREY, linewidth=0.8)
    left.set(
        xscale="log", xlabel="internal test cases per state, trained on", ylabel="truth less plug-in (points)"
    )
    right.set(xscale="log", ylim=(0, 1.05), xlabel="internal test cases per state, trained on",
              ylabel="p(accept | unsafe)")  # fmt: skip
    from matplotlib.lines import Line2D

    handles, _ = left.get_legend_handles_labels()
    handles += [
        Line2D([], [], color="black", linestyle=s, label=t)
        for s, t in (("-", "bound, $\\xi = K\\zeta$"), ("--", "bound, $\\xi$ measured"), (":", "truth"))
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
    for axes in (left, right):
        _plain_ticks(axes, sorted(table["n"].unique()))
    failed = int((table["conservative"] < table["truth"] - 1e-3).sum())
    measured = int((table["measured"] < table["truth"] - 1e-3).sum())
    return figure, (
        "A classifier (ridge regression on random features of the plane) trained on its own internal "
        "test data. A: how "
        "much p(accept | unsafe) is larger than its plug-in estimate on those data; mean and 95 % "
        "interval over "
        f"{table['trial'].nunique()} draws. B: mean bound with xi = K zeta (solid), with a radius "
        "measured on "
        f"held-out cases plus its band (dashed), and the truth (dotted). Of {len(table)} fits the bound "
        "with K zeta is "
        f"below the truth in {failed}, the measured one in {measured} (its confidence is 95 %)."
    )


def _plain_ticks(axes: Any, values: list[Any]) -> None:
    from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

    axes.xaxis.set_major_locator(FixedLocator(values))
    axes.xaxis.set_major_formatter(FixedFormatter([f"{value:g}" for value in values]))
    axes.xaxis.set_minor_locator(NullLocator())


def theorem_2(tables: dict[str, pd.DataFrame]) -> Drawn:
    """A: L* and L~ along a line of outputs. B, C: distance of L~ from L*, convex and finite."""
    from matplotlib.ticker import NullFormatter

    path, table = tables["path"], tables["theorem_2"]
    figure, ((first, second, third),) = panels(1, 3, 3.0)
    for colour, name in enumerate(list(path.columns[2:])):
        beta, weight = (part.split("=")[1] for part in name.split())
        first.plot(path["log_risk"], path[name], color=figures.PALETTE[colour],
                   label=f"$\\beta$ = {beta}, $\\lambda$ = {weight}")  # fmt: skip
    jump = np.where(np.abs(np.diff(path["exact"], prepend=path["exact"][0])) > 0.5, np.nan, path["exact"])
    first.plot(path["log_risk"], jump, color="black", linewidth=1.0, linestyle="--", label="L*")
    first.set(xlabel="log risk of the best candidate less log $r_t$", ylabel="loss", ylim=(-1.2, 1.6))
    first.legend(loc="upper left", fontsize=6)
    for axes, problem in ((second, "convex"), (third, "finite")):
        part = table[table["problem"] == problem]
        for colour, (beta, rows) in enumerate(part.groupby("beta")):
            axes.plot(
                rows["lambda"],
                rows["mean"],
                color=figures.PALETTE[colour],
                marker=figures.MARKERS[colour],
                label=f"$\\beta$ = {beta:g}",
            )
        axes.set(xscale="log", yscale="log", xlabel="$\\lambda$")
        axes.set_title(problem, fontsize=8)
        axes.invert_xaxis()
        axes.yaxis.set_minor_formatter(NullFormatter())
    second.set_ylabel("mean |L̃ − L*|")
    handles, labels = second.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=6)
    errors = tables["gradients"]
    return figure, (
        "Theorem 2. A: L* (dashed) jumps where the cheapest candidate becomes forbidden; L~ goes over "
        "continuously and "
        "tends to L* as beta grows and lambda falls. B, C: mean distance over "
        f"{table['n'].max():,} random outputs, on a convex program and on a finite set of six candidates; "
        "curves that "
        "lie on each other (B, beta from 3) differ in nothing there. The envelope gradient differs from "
        "central "
        f"differences by at most {errors['largest_error'].max():.1e} (relative) over "
        f"{int(errors['smooth'].sum()):,} "
        "outputs where a gradient exists."
    )


def theorem_3(tables: dict[str, pd.DataFrame]) -> Drawn:
    """Cases needed against 1 / alpha, for the rule that assumes Lipschitz and for the one that knows more."""
    table, slopes = tables["cases_needed"], tables["slopes"]
    figure, ((left, right),) = panels(1, 2)
    titles = {"nearest": "nearest case (Lipschitz only)", "quadratic": "quadratic margin (truth is one)"}
    for axes, rule in ((left, "nearest"), (right, "quadratic")):
        for colour, d in enumerate(sorted(table["d"].unique())):
            part = table[(table["d"] == d) & (table["rule"] == rule)].dropna(subset="n")
            found = slopes[(slopes["d"] == d) & (slopes["rule"] == rule)]
            if part.empty or found.empty:
                continue
            row = found.iloc[0]
            group = part.groupby("alpha")["n"]
            mean = np.exp(part.assign(log=np.log(part["n"])).groupby("alpha")["log"].mean())
            label = f"$n_y$ = {d}: slope {row['slope']:.2f} [{row['low']:.2f}, {row['high']:.2f}]"
            axes.plot(
                1 / mean.index,
                mean,
                marker=figures.MARKERS[colour],
                color=figures.PALETTE[colour],
                label=label,
            )
            axes.fill_between(
                1 / mean.index,
                group.min(),
                group.max(),
                color=figures.PALETTE[colour],
                alpha=0.15,
                linewidth=0,
            )
            bound = mean.iloc[-1] * (mean.index[-1] / mean.index) ** d
            axes.plot(1 / mean.index, bound, color=figures.PALETTE[colour], linestyle=":", linewidth=0.9)
        axes.set(xscale="log", yscale="log", xlabel="1 / α")
        axes.set_title(titles[rule], fontsize=8)
        axes.legend(loc="upper left")
    left.set_ylabel("cases until both errors ≤ α")
    top = left.get_ylim()[1] * 30  # room for the legend
    left.set_ylim(top=top)
    right.set_ylim(left.get_ylim())
    streams = int(slopes["streams"].min())
    return figure, (
        "Theorem 3. Cases until P(accept | unsafe) and P(reject | safe) are both at most alpha for good; "
        "the safe set "
        f"is a ball in [0, 1]^n_y. Lines: geometric mean over {streams} or more independent streams, "
        "band: their range; "
        "dotted: the bound's exponent n_y, through the first point. Slopes: fitted per stream "
        "(safeframe.scaling_law), mean and 95 % t interval over streams."
    )


def certificates(tables: dict[str, pd.DataFrame]) -> Drawn:
    """A: tightness against n_t. B: acceptance of chosen thresholds. C: failure rates."""
    figure, ((first, second, third),) = panels(1, 3, 3.9)
    for colour, (name, part) in enumerate(tables["tightness"].groupby("method", sort=False)):
        first.plot(
            part["n_t"],
            part["median"],
            color=figures.PALETTE[colour],
            marker=figures.MARKERS[colour],
            label=name,
        )
        first.fill_between(part["n_t"], np.maximum(part["low"], 0.03), part["high"], alpha=0.12, linewidth=0,
                           color=figures.PALETTE[colour])  # fmt: skip
    first.axhline(1, color=GREY, linewidth=0.8)
    first.set(xscale="log", yscale="log", ylim=(0.1, 40), xlabel="$n_t$", ylabel="bound / true risk")
    first.legend(loc="upper right", fontsize=5.5)
    chosen = tables["chosen"]
    for colour, (name, part) in enumerate(chosen.groupby("method", sort=False)):
        second.plot(
            part["n_t"],
            part["acceptance"],
            color=figures.PALETTE[colour],
            marker=figures.MARKERS[colour],
            label=name,
        )
    second.axhline(chosen["best"].iloc[0], color=GREY, linewidth=0.8)
    second.set(xscale="log", xlabel="$n_t$", ylabel="acceptance")
    second.set_ylim(-0.32, 0.75)  # room for the legend
    second.set_yticks([0.0, 0.2, 0.4, 0.6])
    second.legend(loc="lower right", fontsize=5.5)
    table = tables["validity"].iloc[::-1].reset_index(drop=True)
    rate = table["failures"] / table["repeats"]
    sure = table["guaranteed"].astype(bool)
    ends = [(clopper_pearson_lower(int(k), int(n), 0.025), clopper_pearson_upper(int(k), int(n), 0.025))
            for k, n in zip(table["failures"], table["repeats"], strict=True)]  # fmt: skip
    low, high = np.array(ends).T
    for mask, colour in ((sure, figures.PALETTE[0]), (~sure, figures.PALETTE[1])):
        third.errorbar(rate[mask], table.index[mask], xerr=[(rate - low)[mask], (high - rate)[mask]], fmt="o",
                       color=colour)  # fmt: skip
    third.axvline(table["delta"].iloc[0], color=GREY, linewidth=0.8)
    third.set_yticks(table.index, table["certificate"], fontsize=5.5)
    third.set_xlabel("share of draws that fail")
    third.grid(axis="x")
    trials = int(tables["tightness"]["trials"].iloc[0])
    return figure, (
        f"Certificates. A: bound over true risk ({tables['tightness']['truth'].iloc[0]:.2g}) for one "
        "threshold fixed "
        f"before, median and 5 to 95 % of {trials:,} draws. The paper's bound at xi = 0 is a plug-in "
        "estimate: below the "
        "truth in about half of the draws. A fixed xi leaves a gap that no n_t closes; falling as 2 / "
        "sqrt(n_t) it "
        "closes but covers nothing. B: what thresholds chosen for "
        f"r_t = {chosen['r_t'].iloc[0]:g} accept (mean over {int(chosen['trials'].iloc[0]):,} draws); "
        "grey: the best that is "
        "truly below r_t. C: how often each certificate fails, with 95 % Clopper-Pearson intervals; "
        "blue: promised to "
        f"be at most delta = {table['delta'].iloc[0]:g} (grey); orange: no promise. Draws per row: "
        f"{int(table['repeats'].min()):,} to {int(table['repeats'].max()):,}."
    )


def coverage(tables: dict[str, pd.DataFrame]) -> Drawn:
    """Violations with and without the guard, and the share refused, against the strength of each change."""
    table = tables["coverage"]
    kinds = [kind for kind in table["kind"].unique() if kind != "in distribution"]
    figure, axes = panels(2, len(kinds), 4.0)
    for letter in axes.flat:
        letter.set_title("", loc="left")
    home = table[table["kind"] == "in distribution"]
    top = 100 * max(table["unsafe"].div(table["accepted"]).max(), 0.01)
    for column, kind in enumerate(kinds):
        part = pd.concat([home, table[table["kind"] == kind]])
        above, below = axes[0, column], axes[1, column]
        for colour, (name, rows) in enumerate(part.groupby("features", sort=False)):
            style = {"color": figures.PALETTE[colour], "marker": figures.MARKERS[colour]}
            if colour == 0:
                above.plot(
                    rows["strength"],
                    100 * rows["unsafe"] / rows["accepted"],
                    color="black",
                    marker="x",
                    label="no coverage guard",
                )
            kept = rows["accepted_guarded"] >= 100
            guarded = (100 * rows["unsafe_guarded"] / rows["accepted_guarded"].clip(lower=1)).where(kept)
            above.plot(rows["strength"], guarded, label=f"guard on the {name}", **style)
            below.plot(rows["strength"], 100 * rows["refused"] / rows["n"], **style)
        above.set_title(kind, fontsize=8)
        above.set_ylim(0, top * 1.05)
        below.set_ylim(-2, 102)
        below.set_xlabel("strength")
        if column:
            above.set_yticklabels([])
            below.set_yticklabels([])
    axes[0, 0].set_ylabel("unsafe among accepted (%)")
    axes[1, 0].set_ylabel("refused (%)")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3)
    fires = tables["firing"]
    over = int((fires["fires"] / fires["n"] > fires["epsilon"]).sum())
    return figure, (
        "Coverage guard, epsilon = "
        f"{fires['epsilon'].iloc[0]:g}. Top: unsafe share of the accepted; bottom: share refused as "
        "unlike the internal "
        "test data; strength 0 is in distribution. Strengths: shift in units of four spreads of the "
        "axis; rotation in "
        "quarter turns; sensor noise in halves; number of sensors stuck at one plausible value; "
        "Euclidean length of "
        f"the adversarial step. n = {int(home['n'].iloc[0]):,} cases per point; points with fewer than "
        "100 accepted cases "
        f"are left out. In distribution {100 * home['refused'].iloc[0] / home['n'].iloc[0]:.2g} % are "
        "refused; over "
        f"{len(fires)} calibrations the true share exceeded epsilon in {over} (allowed: 5 %)."
    )
