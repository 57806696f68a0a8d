"""Our figures (results/claims.csv) beside those that the paper states:  python scripts/compare.py [prefix]

--all prints every claim of the ledger, also those that the paper says nothing of.
"""

from __future__ import annotations

import fnmatch
import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from experiments.support.errors import ResultsError
from experiments.support.results import claims
from experiments.support.results.largest import floored, verdict

LARGEST = "violation_over_threshold_max"
STATED = {
    # claim (a pattern): what the paper (arXiv 2504.20924) states, and what differs here
    "production.times_safer.end_to_end": ("up to 28", "other demand series; its strictest useful point"),
    "production.times_safer.mean_variance": ("up to 28", "other demand series; its strictest useful point"),
    "production.times_safer.two_stage": ("up to 28", "other demand series; its strictest useful point"),
    "production.times_safer_best.mean_variance*": (
        "up to 28",
        "the revenue of 50 to 90 % of the oracle's at which it is clearest",
    ),
    "production.times_safer_best.end_to_end": (
        "up to 28",
        "the revenue of 50 to 90 % of the oracle's at which it is clearest",
    ),
    f"production.{LARGEST}": ("at most 1 (figure 2B)", "all seeds and thresholds, plus r_t = 1e-4"),
    "safetygym.*.guarded_entries_per_1e7": (
        "3 (collisions in 10^7 actions)",
        "simulator rebuilt; entries into a hazard at r_t = 1e-4, per 10^7 guarded steps",
    ),
    "safetygym.*.ppo_lag_entries_per_1e7": (
        "1,000 to 3,000",
        "simulator rebuilt; entries, at the strictest useful cost limit",
    ),
    "safetygym.*.times_safer.ppo_lag": (
        "140 (an earlier version: 412)",
        "simulator rebuilt; our own trained agents; steps in a hazard, at the baseline's return",
    ),
    "safetygym.*.times_fewer_entries.ppo_lag": (
        "140 (an earlier version: 412)",
        "as times_safer, entries into a hazard in place of steps inside",
    ),
    f"safetygym.*.{LARGEST}": (
        "at most 1",
        "truly unsafe among accepted actions over r_t, labels by maximum braking",
    ),
    "safetygym*scaling_slope": ("a line in log n_t", "several seeds, with an interval"),
    "llm.times_safer.ppo_lag": ("up to 3", "small models; labels as for the next row"),
    "llm.times_safer.rejection_sampling": (
        "up to 3",
        "small models, or recorded answers; labels as for the next row",
    ),
    f"llm.{LARGEST}": (
        "at most 1",
        "labels: the learned cost model's (synthetic), human (pku), a judge's (diasafety)",
    ),
    "llm.scaling_slope": ("a line in log n_t", "several seeds, with an interval"),
}
"""What is printed by default."""
RELATED = {
    "production.times_safer.*": ("not stated", "not a baseline of the paper"),
    "production.times_safer_best.*": ("not stated", "not a baseline of the paper"),
    "production.times_safer_over.*": ("not stated", "mean over 50 to 90 % of the oracle's revenue"),
    "safetygym.*.times_*": ("not stated", "the paper's ratios are against PPO-Lag"),
    "safetygym.point.ppo_return": ("25.18 (Safety Gym)", "simulator rebuilt; 10^7 steps of our own PPO"),
    "safetygym.point.ppo_cost": ("53.1 (Safety Gym)", "simulator rebuilt; 10^7 steps of our own PPO"),
    "safetygym.point.ppo_gaussian_return": (
        "25.18 (Safety Gym)",
        "as ppo_return, Safety Gym's kind of policy",
    ),
    "safetygym.point.ppo_gaussian_cost": ("53.1 (Safety Gym)", "as ppo_cost, Safety Gym's kind of policy"),
    f"llm.{LARGEST}.*": ("at most 1", "as llm.violation_over_threshold_max, another rule of ours"),
    "llm.times_safer.*": ("not stated", "not a baseline of the paper"),
    "llm.judge.*": ("not stated", "the judge that labels DiaSafety, against people's labels it never saw"),
    "llm.transfer.*": ("not stated", "calibrated on the set named, applied to the other one"),
    "theory.theorem_1_failures": ("0 (Theorem 1)", "counted by Monte Carlo on a known law"),
    "theory.scaling_exponent.nearest_1d": (
        "at most 1 (Theorem 3)",
        "a ball as safe set, the nearest case decides",
    ),
    "theory.scaling_exponent.nearest_2d": ("at most 2 (Theorem 3)", "same"),
    "theory.scaling_exponent.nearest_3d": ("at most 3 (Theorem 3)", "same"),
    "theory.scaling_exponent.quadratic_*": ("at most n_y (Theorem 3)", "the rule knows the truth's form"),
}
"""What is said beside the rest of the ledger."""
NONE = ("not stated", "")


def found(claim: str, among: dict[str, tuple[str, str]]) -> tuple[str, str] | None:
    """What is said of a claim: the first pattern that matches counts."""
    return next((entry for pattern, entry in among.items() if fnmatch.fnmatch(claim, pattern)), None)


def ours(row: dict[str, Any]) -> str:
    """Our value with its interval. Ratios are rounded down, as are their lower ends."""
    down = floored if ".times_" in row["claim"] else float
    text = f"{down(row['value']):.4g}"
    if pd.isna(row["low"]):
        return text
    text += f" [{down(row['low']):.4g}, {row['high']:.4g}]"
    return text + f", {verdict(row['value'], row['low'], row['high'])}" * (LARGEST in row["claim"])


def stated(ledger: pd.DataFrame) -> pd.DataFrame:
    """The claims that the paper states, ours beside its own; those that nothing here measures come last."""
    rows = []
    for row in ledger.to_dict("records"):
        entry = found(row["claim"], STATED)
        if entry:
            rows.append((row["claim"], row["data"], row["preset"], ours(row), *entry))
    for pattern, entry in STATED.items():
        if not any(fnmatch.fnmatch(claim, pattern) for claim in ledger["claim"]):
            rows.append((pattern, "", "", "not measured", *entry))
    columns = ["claim", "data", "preset", "ours [95 %]", "paper", "what differs"]
    return pd.DataFrame(rows, columns=columns)


def everything(ledger: pd.DataFrame) -> pd.DataFrame:
    """Every row of the ledger, with what the paper says of it."""
    rows = []
    for row in ledger.to_dict("records"):
        theirs, differs = found(row["claim"], STATED | RELATED) or NONE
        about = [str(row[name]) for name in ("n", "seeds", "preset", "data", "commit")]
        rows.append((row["claim"], ours(row), *about, theirs, differs))
    columns = ["claim", "ours [95 %]", "n", "seeds", "preset", "data", "commit", "paper", "what differs"]
    return pd.DataFrame(rows, columns=columns)


def main(arguments: list[str]) -> int:
    parser = ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("prefix", nargs="?", default="", help="only claims that begin so")
    parser.add_argument("--all", action="store_true", help="every claim of the ledger")
    options = parser.parse_args(arguments)
    try:
        ledger = claims.read()
    except ResultsError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    compared = everything(ledger) if options.all else stated(ledger)
    print(markdown(compared[compared["claim"].str.startswith(options.prefix)]))
    return 0


def markdown(frame: pd.DataFrame) -> str:
    """A table as aligned Markdown."""
    lines = [list(frame.columns), *frame.astype(str).to_numpy().tolist()]
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    shown = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |"
        for line in lines
    ]
    shown.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(shown)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
