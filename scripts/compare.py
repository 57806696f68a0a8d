"""Our figures (results/claims.csv) beside the paper's:  python scripts/compare.py [prefix]"""

from __future__ import annotations

import fnmatch
import sys
from pathlib import Path

import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from experiments.support.errors import ResultsError
from experiments.support.results import claims

PAPER = {
    # claim (a pattern): what the paper (arXiv 2504.20924) states, and what differs here
    "production.times_safer.*": (
        "up to 28",
        "other demand series; against each baseline at its strictest useful point",
    ),
    "production.violation_over_threshold_max": (
        "at most 1 (figure 2B)",
        "all seeds and thresholds, plus r_t = 1e-4",
    ),
    "safetygym.*.guarded_entries_per_1e7": (
        "3 (collisions in 10^7 actions)",
        "simulator rebuilt after Safety Gym; entries into a hazard at r_t = 1e-4, per 10^7 guarded steps",
    ),
    "safetygym.*.ppo_lag_entries_per_1e7": (
        "1,000 to 3,000",
        "simulator rebuilt after Safety Gym; entries, at the strictest useful cost limit",
    ),
    "safetygym.*.times_safer.*": (
        "140 (an earlier version: 412)",
        "simulator rebuilt; our own trained agents; steps in a hazard, at the baseline's return",
    ),
    "safetygym.*.times_fewer_entries.*": (
        "140 (an earlier version: 412)",
        "as times_safer, entries into a hazard in place of steps inside",
    ),
    "safetygym.point.ppo_return": ("25.18 (Safety Gym)", "simulator rebuilt; 10^7 steps of our own PPO"),
    "safetygym.point.ppo_cost": ("53.1 (Safety Gym)", "simulator rebuilt; 10^7 steps of our own PPO"),
    "safetygym.point.ppo_gaussian_return": (
        "25.18 (Safety Gym)",
        "as ppo_return, Safety Gym's kind of policy",
    ),
    "safetygym.point.ppo_gaussian_cost": ("53.1 (Safety Gym)", "as ppo_cost, Safety Gym's kind of policy"),
    "safetygym.*.violation_over_threshold_max": (
        "at most 1",
        "truly unsafe among accepted actions over r_t, labels by maximum braking",
    ),
    "safetygym*scaling_slope": ("a line in log n_t", "several seeds, with an interval"),
    "llm.times_safer.*": ("up to 3", "small models, or recorded answers; labels as for the next row"),
    "llm.violation_over_threshold_max*": (
        "at most 1",
        "labels: the learned cost model's (synthetic), human (pku), a judge's (diasafety)",
    ),
    "llm.judge.*": ("not stated", "the judge that labels DiaSafety, against people's labels it never saw"),
    "llm.transfer.*": ("not stated", "calibrated on the set named, applied to the other one"),
    "theory.theorem_1_failures": ("0 (Theorem 1)", "counted by Monte Carlo on a known law"),
    "theory.scaling_exponent.nearest_1d": (
        "at most 1 (Theorem 3)",
        "a ball as safe set, the nearest case decides",
    ),
    "theory.scaling_exponent.nearest_2d": ("at most 2 (Theorem 3)", "same"),
    "theory.scaling_exponent.nearest_3d": ("at most 3 (Theorem 3)", "same"),
    "theory.scaling_exponent.quadratic_*": (
        "at most n_y (Theorem 3)",
        "the rule knows the form of the truth",
    ),
}
NONE = ("not stated", "")


def paper(claim: str) -> tuple[str, str]:
    """The paper's number for a claim, as text, and what differs; the first pattern that matches counts."""
    return next((entry for pattern, entry in PAPER.items() if fnmatch.fnmatch(claim, pattern)), NONE)


def table(ledger: pd.DataFrame) -> pd.DataFrame:
    """The ledger's rows beside the paper's claims; those that nothing here measures yet come last."""
    rows = []
    for row in ledger.to_dict("records"):
        theirs, differs = paper(row["claim"])
        interval = "" if pd.isna(row["low"]) else f"[{row['low']:.4g}, {row['high']:.4g}]"
        rows.append(
            (
                row["claim"],
                f"{row['value']:.4g}",
                interval,
                str(row["n"]),
                row["seeds"],
                row["preset"],
                row["data"],
                theirs,
                differs,
            )
        )
    for pattern, (theirs, differs) in PAPER.items():
        if not any(fnmatch.fnmatch(claim, pattern) for claim in ledger["claim"]):
            rows.append((pattern, "not measured", "", "", "", "", "", theirs, differs))
    columns = ["claim", "ours", "interval", "n", "seeds", "preset", "data", "paper", "what differs"]
    return pd.DataFrame(rows, columns=columns)


def main(arguments: list[str]) -> int:
    try:
        compared = table(claims.read())
    except ResultsError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if arguments:
        compared = compared[compared["claim"].str.startswith(arguments[0])]
    print(markdown(compared))
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
