"""Where thresholds of one year fail in another: which of four things moved, and by how much.

With odds o(p) = p / (1 - p), for one product at one r_t,

    o(P(unsafe | accepted)) = (U / L) o(pi),
    U = P(accepted | unsafe), L = P(accepted | safe), pi = P(unsafe),

so what a year in use has over what r_t allows is a product of four factors, exactly:

    o(P) / o(r_t) = cases x U x L x prior
    cases = o(P of the year calibrated on, with one unsafe case more accepted) / o(r_t)
    U     = U in use / U of the year calibrated on with one unsafe case more, U+ = U + 1 / (n_unsafe + 1)
    L     = L of the year calibrated on / L in use
    prior = o(pi in use) / o(pi of the year calibrated on)

`cases` says how far above r_t the rule already was by what one unsafe case weighs (conformal risk control,
arXiv 2208.02814), which a plug-in rule does not see; below 1 it had room. The other three are what moved
between the years. METHOD: three ways in which the posterior moves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from experiments.production.records import CALIBRATED_ON, IN_USE, LIKELIHOODS
from experiments.support.errors import ResultsError
from experiments.support.results import collect
from experiments.support.results.curves import stretch
from experiments.support.results.publish import Claimant, Target, write_tables
from experiments.support.results.saved import Saved

COMMAND = "make decomposition"
FACTORS = ("cases", "U", "L", "prior")
CLAIMED = {"cases": "few_cases", "U": "unsafe_accepted", "L": "safe_accepted", "prior": "prior"}
"""What claims call the factors."""
COUNTS = ("safe", "unsafe", "accepted_safe", "accepted_unsafe")
SHOWN = (1e-3, 1e-2, 1e-1)
DRAWS = 2000


def load(
    source: str, preset: str, where: Mapping[str, Any] | None = None, root: collect.Root = collect.RUNS
) -> dict[tuple[int, ...], list[Saved]]:
    """Finished runs that kept the counts, by the order of the years, one for each seed; empty without any."""
    wanted = {"data.source": source, "preset": preset, **(where or {})}
    found: dict[tuple[int, ...], list[Saved]] = {}
    for run in collect.finished("production", wanted, root):
        if run.has(LIKELIHOODS):
            found.setdefault(tuple(run.setting("data.order")), []).append(run)
    chosen = {}
    for order, runs in sorted(found.items()):
        alike, _ = collect.comparable(runs, ("seed", "data.path", "service.methods"))
        chosen[order] = sorted(collect.one_a_seed(alike), key=lambda run: run.seed)
    return chosen


class Counted:
    """The counts of several runs on one order of the years.

    Attributes:
        products: names.
        levels: (k,) r_t below 1, ascending.
        periods: rows period, start, role, in order of time.
        counts: of COUNTS, each (runs, years, products, levels, weeks).
        group: (runs,) runs with the same number saw the same hours.
    """

    def __init__(self, runs: Sequence[Saved]) -> None:
        tables = [run.table(LIKELIHOODS) for run in runs]
        if not tables:
            raise ResultsError("no run kept the counts of accepted hours")
        first = tables[0]
        self.products = list(dict.fromkeys(first["product"]))
        self.levels = np.array(sorted(r_t for r_t in first["r_t"].unique() if r_t < 1))
        about = ["period", "start", "role"]
        self.periods = first[about].drop_duplicates().sort_values("period").reset_index(drop=True)
        keys = ["period", "product", "r_t", "week"]
        weeks = range(int(first["week"].max()) + 1)
        every = pd.MultiIndex.from_product(
            [self.periods["period"], self.products, self.levels, weeks], names=keys
        )
        shape = (len(self.periods), len(self.products), len(self.levels), len(weeks))
        self.counts = {
            name: np.stack(
                [
                    table.set_index(keys)[name].reindex(every, fill_value=0).to_numpy(float).reshape(shape)
                    for table in tables
                ]
            )
            for name in COUNTS
        }
        seen = [self.counts["unsafe"][run].tobytes() for run in range(len(tables))]
        self.group = np.array([seen.index(one) for one in seen])

    def years(self, role: int) -> list[int]:
        """Where among `periods` the years with a role are; raises `ResultsError` if there is none."""
        found = np.flatnonzero(self.periods["role"] == role).tolist()
        if not found:
            raise ResultsError(f"no year has the role {role}; roles are {sorted(set(self.periods['role']))}")
        return found

    def totals(self, years: Sequence[int]) -> np.ndarray:
        """(4, products, levels) sums of COUNTS over runs and the weeks of some years."""
        return np.stack([self.counts[name][:, years].sum(axis=(0, 1, -1)) for name in COUNTS])

    def drawn(self, years: Sequence[int], draws: int = DRAWS) -> np.ndarray:
        """(4, draws, products, levels) the same in a bootstrap of runs and weeks, one fewer of each.

        The draws of runs are common to all years. Those of weeks are common to runs that saw the same hours,
        and to years of equal length, so that a season is compared with itself.
        """
        kinds = np.unique(self.group, return_inverse=True)[1]
        runs = len(kinds)
        of_runs = np.random.default_rng(0).multinomial(max(runs - 1, 1), np.full(runs, 1 / runs), size=draws)
        parts = [self.counts[name][:, years].transpose(0, 1, 4, 2, 3) for name in COUNTS]
        weeks = parts[0].shape[1] * parts[0].shape[2]
        of_weeks = np.random.default_rng([1, weeks]).multinomial(
            weeks - 1, np.full(weeks, 1 / weeks), size=(draws, int(kinds.max()) + 1)
        )
        flat = (of_runs[:, :, None] * of_weeks[:, kinds]).reshape(draws, -1).astype(float)
        shape = (draws, len(self.products), len(self.levels))
        return np.stack([(flat @ part.reshape(runs * weeks, -1)).reshape(shape) for part in parts])


def odds(p: np.ndarray | float) -> np.ndarray:
    """p / (1 - p)."""
    p = np.asarray(p, dtype=float)
    with np.errstate(divide="ignore"):
        return p / (1.0 - p)


def factors(
    calibrated: np.ndarray, used: np.ndarray, r_t: np.ndarray | float, runs: int = 1
) -> dict[str, np.ndarray]:
    """The four factors of the module's text.

    Args:
        calibrated: (4, ...) safe, unsafe, accepted safe and accepted unsafe hours of the year calibrated on,
            summed over runs.
        used: (4, ...) those of the year in use.
        r_t: (...) thresholds below 1.
        runs: how many runs were summed: each counts one unsafe case more.

    Returns:
        `excess`, the odds of P(unsafe | accepted) in use over those of r_t, and FACTORS, whose product it is;
        NaN where nothing safe is accepted in either year.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        safe_c, unsafe_c, kept_c, bad_c = calibrated
        safe, unsafe, kept, bad = used
        one_more = np.minimum(bad_c / unsafe_c + 1.0 / (unsafe_c / runs + 1.0), 1.0)
        likelihood_c, likelihood = kept_c / safe_c, kept / safe
        prior_c, prior = unsafe_c / safe_c, unsafe / safe
        found = {
            "excess": bad / kept / odds(r_t),
            "cases": one_more / likelihood_c * prior_c / odds(r_t),
            "U": bad / unsafe / one_more,
            "L": likelihood_c / likelihood,
            "prior": prior / prior_c * np.ones_like(kept),
        }
    nothing = (kept == 0) | (kept_c == 0)
    return {name: np.where(nothing, np.nan, value) for name, value in found.items()}


def table(runs: Sequence[Saved]) -> pd.DataFrame:
    """One row for each year that thresholds do not come from, product and r_t.

    Columns: the four counts in that year and in the one calibrated on (`calibrated_*`), summed over runs;
    `over`, the share of unsafe hours among the accepted over r_t; `excess` and FACTORS with 95 % intervals
    over runs and weeks of the year (`cases` has none: thresholds are what they are); `largest`, the factor
    that is most of an excess.
    """
    counted = Counted(runs)
    calibrated_on = counted.years(CALIBRATED_ON)
    calibrated, calibrated_drawn = counted.totals(calibrated_on), counted.drawn(calibrated_on)
    rows = []
    for at, about in counted.periods.iterrows():
        if at in calibrated_on:
            continue
        used = counted.totals([int(at)])
        found = factors(calibrated, used, counted.levels, len(runs))
        drawn = factors(calibrated_drawn, counted.drawn([int(at)]), counted.levels, len(runs))
        ends = {name: _interval(found[name], drawn[name], len(runs)) for name in ("excess", *FACTORS[1:])}
        for i, product in enumerate(counted.products):
            for k, r_t in enumerate(counted.levels):
                row = {"product": product, "r_t": r_t, **about.to_dict(), "runs": len(runs)}
                row |= {name: int(value[i, k]) for name, value in zip(COUNTS, used, strict=True)}
                row |= {
                    f"calibrated_{name}": int(v[i, k]) for name, v in zip(COUNTS, calibrated, strict=True)
                }
                accepted = row["accepted_safe"] + row["accepted_unsafe"]
                row["over"] = row["accepted_unsafe"] / accepted / r_t if accepted else np.nan
                for name, value in found.items():
                    row[name] = value[i, k]
                    if name in ends:
                        row |= {f"{name}_{end}": ends[name][j][i, k] for j, end in enumerate(("low", "high"))}
                row["largest"] = max(FACTORS, key=lambda name: row[name]) if row["excess"] > 1 else ""
                rows.append(row)
    return pd.DataFrame(rows)


def _interval(value: np.ndarray, drawn: np.ndarray, runs: int) -> tuple[np.ndarray, np.ndarray]:
    """Both ends (products, levels): percentiles of logarithms, widened for few runs; NaN without a value."""
    with np.errstate(divide="ignore", invalid="ignore"):
        low, high = np.nanpercentile(np.where(np.isnan(value), 1.0, drawn), [2.5, 97.5], axis=0)
        centre, widen = np.log(value), stretch(runs, 52)
        ends = [np.exp(centre + widen * (np.log(end) - centre)) for end in (low, high)]
    return np.minimum(ends[0], value), np.maximum(ends[1], value)


def summary(runs: Sequence[Saved]) -> str:
    """Of the year in use, at a few r_t, as text."""
    found = table(runs)
    found = found[found["role"] == IN_USE]
    lines = [
        "plug-in thresholds of the year calibrated on, in use in another year; over r_t: share of unsafe\n"
        "hours among the accepted; its odds over those of r_t are cases (one unsafe hour more than was\n"
        "seen) x U (unsafe hours accepted) x L (safe hours accepted) x prior (odds of an unsafe hour)",
        f"{'product':<14}{'year from':>12}{'r_t':>8}{'over r_t':>10}"
        + "".join(f"{name:>9}" for name in FACTORS),
    ]
    for row in found.to_dict("records"):
        if np.isclose(row["r_t"], SHOWN, rtol=1e-6).any():
            values = (f"{row[name]:.2f}" if np.isfinite(row[name]) else "-" for name in FACTORS)
            over = f"{row['over']:.2f}" if np.isfinite(row["over"]) else "-"
            lines.append(
                f"{row['product']:<14}{row['start']:>12}{row['r_t']:>8.3g}{over:>10}"
                + "".join(f"{v:>9}" for v in values)
            )
    return "\n".join(lines)


def publish(
    found: Mapping[tuple[int, ...], Sequence[Saved]], source: str, preset: str, target: Target
) -> list[Path]:
    """Tables and claims of every order of the years; the paths.

    Claims, of the year in use and r_t below 1: `above`, cells (product x r_t, runs together) with more unsafe
    hours among the accepted than r_t allows, and `mostly.<factor>`, those of them of which it is the largest.
    """
    paths: list[Path] = []
    for order, runs in found.items():
        tag, made = "".join(map(str, order)), table(runs)
        paths += write_tables({f"production_decomposition_{source}_{tag}": made}, target.place)
        claim = Claimant(
            "production", runs, COMMAND, target.ledger, target.dirty,
            seeds=[run.seed for run in runs], preset=preset, data=source,
        )  # fmt: skip
        used = made[(made["role"] == IN_USE) & made["excess"].notna()]
        above = used[used["excess"] > 1]
        claim(f"decomposition.{tag}.above", len(above), np.nan, np.nan, len(used))
        for name in FACTORS:
            mostly = int((above["largest"] == name).sum())
            claim(f"decomposition.{tag}.mostly.{CLAIMED[name]}", mostly, np.nan, np.nan, len(above))
    return paths
