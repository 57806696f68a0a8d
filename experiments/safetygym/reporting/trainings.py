"""Agents of several trainings: each one's return and entries, and intervals over agents.

A run's seed is of data, classifier and episodes around an agent; runs around one agent share its training. So
here the agent is the unit: its runs are summed, every agent counts alike, whatever its number of steps, and
the interval is t over agents. That of a rare count is at least as wide as the exact one of all agents'
episodes together (`rates.exact`), which alone is left where nothing was counted.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping

import numpy as np
import pandas as pd
from scipy import stats

from experiments.safetygym.records import OURS, PER
from experiments.safetygym.references import ROUTED
from experiments.safetygym.reporting.comparison import PPO
from experiments.safetygym.reporting.measured import Measured, same_point
from experiments.safetygym.reporting.rates import RATES, curves, exact
from experiments.support.results.publish import Claimant

ALL = "all"
SHOWN = ("return", "cost", "entries", "unsafe", "default_share")
COUNTS = ("steps", "episodes", "entries_total")
NAMES = {OURS: "guarded", OURS + ROUTED: f"guarded{ROUTED}", PPO: "ppo"}
"""What is claimed, by method."""
_SWEEP = "python run.py -m +sweep=figure-3-agents"
COMMANDS: dict[str, dict[str, tuple[str, ...]]] = {
    "point": {_SWEEP: (OURS, PPO), f"{_SWEEP}-routed": (OURS + ROUTED,)},
    "car": {f"{_SWEEP}-car": (OURS + ROUTED, PPO)},
}
"""By robot, the commands that make the runs around agents of other trainings, and the methods in them."""


def of_training(measured: Measured, seed: int) -> Measured:
    """The runs around one agent, at the points that they have."""
    here = np.flatnonzero((measured.runs["training"] == seed).to_numpy())
    there = np.flatnonzero(measured.sums["episodes"][here].sum(axis=(0, 2)) > 0)
    return dataclasses.replace(
        measured,
        points=measured.points.iloc[there].reset_index(drop=True),
        runs=measured.runs.iloc[here].reset_index(drop=True),
        sums={name: values[np.ix_(here, there)] for name, values in measured.sums.items()},
        frame=None,
    )


def over_agents(measured: Measured, at: int) -> dict[str, float]:
    """A point's rates over all agents that have it: SHOWN with low, high and limit, and COUNTS.

    ValueError if fewer than two have it.
    """
    seeds = measured.runs["training"].to_numpy()
    has = measured.sums["episodes"][:, at].sum(axis=1) > 0
    agents = sorted(set(seeds[has]))
    if len(agents) < 2:
        raise ValueError(f"{len(agents)} agent at point {at}; an interval over agents needs two")
    row: dict[str, float] = {}
    for name in SHOWN:
        rate = RATES[name]
        top, bottom = (
            np.array([measured.sums[key][has & (seeds == agent), at].sum() for agent in agents])
            for key in (rate.top, rate.bottom)
        )
        limit = {} if rate.hit is None else {f"{name}_limit": np.nan}
        if (bottom == 0).any():
            row |= dict.fromkeys((name, f"{name}_low", f"{name}_high"), np.nan) | limit
            continue
        each = rate.scale * top / bottom
        value, n = each.mean(), len(agents)
        half = stats.t.ppf(0.975, n - 1) * each.std(ddof=1) / np.sqrt(n)
        low, high = value - half, value + half
        if rate.hit is not None:
            ends = exact(measured, name, at)
            low, high = max(min(low, ends[0]), 0.0), max(high, ends[1])
            if value == 0:
                limit = {f"{name}_limit": exact(measured, name, at, 0.05)[1]}
        if rate.is_share:
            low, high = np.clip([low, high], 0.0, 1.0)
        row |= {name: value, f"{name}_low": low, f"{name}_high": high} | limit
    row |= {"steps": round(measured.total("steps", at)), "episodes": round(measured.total("episodes", at))}
    return row | {"entries_total": round(measured.total("entries", at))}


def agent_table(by_robot: Mapping[str, Measured]) -> pd.DataFrame:
    """Rows per robot and point: one for each agent (interval over its runs, or the episodes of a single one),
    and one of all where there are two or more. Column `agent`: the training, or "all"; `agents`: how many.
    """
    rows = []
    for robot, measured in by_robot.items():
        seeds = sorted({int(seed) for seed in measured.runs["training"]})
        tables = {seed: curves(of_training(measured, seed)) for seed in seeds}
        for at, point in measured.points.iterrows():
            key = {"robot": robot} | point.to_dict()
            alone = [
                key | {"agent": str(seed), "agents": 1} | found.iloc[0].to_dict()
                for seed, table in tables.items()
                if len(found := table[same_point(table, point)])
            ]
            rows += alone
            if len(alone) > 1:
                shared = {"agent": ALL, "agents": len(alone), "runs": len(measured.having(int(at)))}
                rows.append(key | shared | over_agents(measured, int(at)))
    ends = [f"{name}{end}" for name in SHOWN for end in ("", "_low", "_high", "_limit")]
    columns = ["robot", "method", "r_t", "knob", "agent", "agents", "runs", *ends, *COUNTS]
    table = pd.DataFrame(rows)
    return table[[name for name in columns if name in table]]


def claim_agents(
    robot: str, table: pd.DataFrame, methods: Collection[str], claim: Claimant, r_t: float
) -> None:
    """Claim what holds over agents of some methods (keys of NAMES), guarded ones at r_t; n counts agents."""
    rows = table[(table["robot"] == robot) & (table["agent"] == ALL)] if len(table) else table
    for method in methods:
        found = rows[(rows["method"] == method)] if len(rows) else rows
        if method != PPO and len(found):
            found = found[np.isclose(found["r_t"], r_t, rtol=1e-6)]
        name = NAMES[method]
        if found.empty:
            claim.lacks(f"{robot}.agents.{name}_return", f"{name} was run around fewer than two agents")
            continue
        row = found.iloc[0]
        for rate, shown, scale in (("return", "return", 1.0), ("entries", "entries_per_1e7", 1e7 / PER)):
            ends = (scale * row[f"{rate}{end}"] for end in ("", "_low", "_high"))
            claim(f"{robot}.agents.{name}_{shown}", *ends, row["agents"])
