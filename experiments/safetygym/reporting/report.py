"""What is printed and kept of Safety Gym runs: a summary, tables and claims."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from experiments.safetygym.records import OURS, PER
from experiments.safetygym.references import TASK_OF
from experiments.safetygym.reporting import figures, trainings
from experiments.safetygym.reporting.ablations import ablation_table
from experiments.safetygym.reporting.classification import entry_table
from experiments.safetygym.reporting.comparison import BASELINES, times_safer, useful, worst
from experiments.safetygym.reporting.figures import figure_3a
from experiments.safetygym.reporting.measured import Loaded, Measured, gather, read
from experiments.safetygym.reporting.rates import curves
from experiments.safetygym.reporting.scaling import TRAINED_AT, scaling_fit, scaling_rows
from experiments.support.results.publish import RESULTS, Claimant, write_tables
from experiments.support.results.saved import of_directory

PAPER_COMMAND = "python run.py experiment=safetygym preset=paper r_t=1e-4 seed=5"
TASKS = {robot: TASK_OF[robot] for robot in ("point", "car")}
ACTIONS = 1e7
"""What the paper counts entries over."""


def summary(source: Path | Measured, robot: str = "point") -> str:
    """A run (its directory) or pooled runs as a compact table: what every method earns and costs.

    `robot` (and level) says what costs.
    """
    measured = (
        source if isinstance(source, Measured) else gather([read(of_directory(source, finished=False))])
    )
    head = ("method", "setting", "return", "cost", "entries", "total", "steps", "default", "unsafe")
    table = curves(measured)
    whole = table["method"].isin([OURS, *BASELINES]) | np.isclose(table["r_t"], TRAINED_AT, rtol=1e-6)
    several = table.loc[table["r_t"].notna(), "method"].nunique() > 1
    rows = [_line(row) for _, row in table[whole | (not several)].iterrows()]
    widths = [max(len(line[i]) for line in (head, *rows)) for i in range(len(head))]
    text = [
        "  ".join(
            [line[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(line[1:], widths[1:], strict=True))]
        )
        for line in (head, *rows)
    ]
    text.insert(1, "-" * max(map(len, text)))
    text.append(
        f"return, cost ({figures.cost_name(robot)}) and entries {figures.entry_name(robot)} per 1,000 steps, "
        "with 95 % intervals over "
        f"{'runs' if table['runs'].max() > 1 else 'episodes'};\ntotal: entries in all steps; default: share "
        "of "
        "default actions; unsafe: share of truly unsafe among accepted actions;\n< : none seen, one-sided 95 "
        "% "
        "upper limit"
    )
    return "\n".join(text)


def _line(row: pd.Series) -> tuple[str, ...]:
    setting = f"r_t {row['r_t']:.2g}" if np.isfinite(row["r_t"]) else ""
    setting = f"{row['knob']:g}" if np.isfinite(row["knob"]) else setting
    return (
        str(row["method"]),
        setting,
        f"{row['return']:.1f}{_ends(row, 'return', '.1f')}",
        _rate(row, "cost"),
        _rate(row, "entries"),
        f"{row['entries_total']:,}",
        f"{row['steps']:,}",
        f"{row['default_share']:.1%}" if row["judged"] or np.isfinite(row["r_t"]) else "",
        _rate(row, "unsafe"),
    )


def _rate(row: pd.Series, name: str) -> str:
    if np.isnan(row[name]):
        return ""
    if np.isfinite(row[f"{name}_limit"]):
        return f"0 < {row[f'{name}_limit']:.2g}"
    return f"{row[name]:.3g}{_ends(row, name, '.2g')}"


def _ends(row: pd.Series, name: str, style: str) -> str:
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    return "" if np.isnan(low) else f" [{low:{style}}, {high:{style}}]"


def report_text(directory: Path, pictures: Mapping[str, Path] | None = None, robot: str = "point") -> str:
    """What a run prints at its end: the summary, the path of its own figure 3A and of `pictures` (say
    {"guarded episode": path}).
    """
    directory = Path(directory)
    measured = gather([read(of_directory(directory, finished=False))])
    paths = figure_3a({robot: measured}, "this run", directory)
    shown = {"figure": paths[0], **(pictures or {})}
    return "\n".join([summary(measured, robot), "", *(f"{name}: {path}" for name, path in shown.items())])


def write(by_robot: Mapping[str, Loaded], place: Path = RESULTS) -> list[Path]:
    """tables/safetygym_{curves,times_safer,scaling,variants,ablations,entries,gap,agents}.csv, with a column
    robot; the paths.
    """
    full = {robot: loaded.full for robot, loaded in by_robot.items()}
    tables = {
        "curves": _stacked({robot: curves(measured) for robot, measured in full.items()}),
        "times_safer": pd.concat([times_safer(full[robot]).assign(robot=robot) for robot in full]),
        "scaling": _stacked({robot: scaling_rows(loaded.by_n_t) for robot, loaded in by_robot.items()}),
        "variants": _stacked({robot: variant_rows(loaded) for robot, loaded in by_robot.items()}),
        "ablations": ablation_table(full),
        "entries": entry_table(full),
        "gap": _stacked({robot: gap_rows(loaded) for robot, loaded in by_robot.items()}),
        "agents": trainings.agent_table(trained_again(by_robot)),
    }
    return write_tables({f"safetygym_{name}": table for name, table in tables.items()}, place)


def variant_rows(loaded: Loaded) -> pd.DataFrame:
    """`scaling_rows` of every variant that was run at several n_t, with a column method."""
    rows = [scaling_rows(by_n_t, method=name).assign(method=name) for name, by_n_t in loaded.variants.items()]
    rows = rows or [scaling_rows({}).assign(method="")]
    table = pd.concat(rows, ignore_index=True)
    return table[["method", *table.columns.drop("method")]]


def trained_again(by_robot: Mapping[str, Loaded]) -> dict[str, Measured]:
    """Pools of several trainings, of the robots that have any."""
    return {robot: loaded.trainings for robot, loaded in by_robot.items() if loaded.trainings is not None}


def _stacked(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    return pd.concat(
        [table.assign(robot=robot)[["robot", *table.columns]] for robot, table in tables.items()]
    )


def gap_rows(loaded: Loaded) -> pd.DataFrame:
    """Per run: the bound on fresh data under the guard, the calibrated one, and the difference (`gap`)."""
    columns = ["method", "seed", "n_t", "r_t", "knob", "metric", "value", "n"]
    pools = (loaded.full, *loaded.by_n_t.values())
    rows = [pool.rows(metric)[columns] for pool in pools for metric in ("gap", "fresh_bound")]
    return pd.concat(rows).drop_duplicates().sort_values(columns[:6]).rename(columns={"knob": "round"})


def record(
    robot: str,
    loaded: Loaded,
    preset: str,
    data: str,
    ledger: Path | None = None,
    r_t: float = TRAINED_AT,
    dirty: bool = False,
    command: str | None = None,
) -> list[str]:
    """Write a robot's claims to the ledger.

    Args:
        robot: its name, the second part of every claim.
        loaded: runs of its task.
        preset: of the runs.
        data: the task.
        ledger: file of the claims; None: the repository's.
        r_t: threshold that the claims are of.
        dirty: whether runs of a dirty tree count too.
        command: that made the runs; None: that of figure 3.

    Returns:
        What could not be claimed, and why, as texts.
    """
    measured = loaded.full
    table = curves(measured)
    command = command or ("make figure-3" if preset == "laptop" else PAPER_COMMAND)
    claim = Claimant(
        "safetygym", loaded.saved, command, ledger, dirty, seeds=measured.seeds, preset=preset, data=data
    )

    def of_point(name: str, at: int | None, rate: str, scale: float = 1.0, why: str = "was not run") -> None:
        if at is None or np.isnan(table.at[at, rate]):
            claim.lacks(f"{robot}.{name}", why)
        else:
            value, low, high = (scale * table.at[at, key] for key in (rate, f"{rate}_low", f"{rate}_high"))
            claim(f"{robot}.{name}", value, low, high, table.at[at, "steps"])

    guarded = measured.at(OURS, r_t)
    for method in ("ppo", "ppo_gaussian"):
        where = measured.where(method)
        for name in ("return", "cost"):
            of_point(
                f"{method}_{name}", int(where[0]) if len(where) else None, name, why=f"{method} was not run"
            )
    unguarded = f"ours was not run at r_t = {r_t:g} or below"
    of_point("guarded_entries_per_1e7", guarded, "entries", ACTIONS / PER, unguarded)
    for name, rate in (("return", "return"), ("cost", "cost"), ("episodes_with_cost", "violation")):
        of_point(f"guarded_{name}", guarded, rate, why=unguarded)
    lag = useful(measured, "ppo_lag") if len(measured.where("ppo_lag")) else None
    of_point("ppo_lag_entries_per_1e7", lag, "entries", ACTIONS / PER, "ppo_lag was not run")
    _times_safer(robot, times_safer(measured), claim)
    _over_threshold(robot, measured, claim)
    if loaded.trainings is not None:
        pool = loaded.trainings
        seeds = f"agents of training {', '.join(map(str, sorted(set(pool.runs['training']))))}"
        over_agents = trainings.agent_table({robot: pool})
        for command, methods in trainings.COMMANDS.get(robot, {}).items():
            over = Claimant(
                "safetygym", pool.saved, command, ledger, dirty, seeds=seeds, preset=preset, data=data
            )
            trainings.claim_agents(robot, over_agents, methods, over, r_t)
            claim.missing += over.missing
    rows = scaling_rows(loaded.by_n_t, r_t)
    fit = scaling_fit(rows) if len(rows) else None
    name = "scaling_slope" if robot == "point" else f"{robot}.scaling_slope"
    if fit is None:
        claim.lacks(name, "ours was run at fewer than two n_t")
    else:
        claim(name, fit.slope, fit.low, fit.high, len(rows))
    return claim.missing


def _times_safer(robot: str, safer: pd.DataFrame, claim: Claimant) -> None:
    """Claim how many times safer ours is; without a count, at least so many: ours at its upper limit."""
    names = {"cost": "times_safer", "entries": "times_fewer_entries"}
    for method in BASELINES:
        rows = safer[(safer["method"] == method) & safer["claimed"].eq(True)]
        if rows.empty:
            claim.lacks(f"{robot}.times_safer.{method}", f"{method} was not run or earns too little")
        for row in rows.to_dict("records"):
            name = f"{robot}.{names[row['by']]}.{method}"
            if np.isnan(row["ratio"]):
                claim.lacks(name, row["note"])
                continue
            value = row["ratio"] if np.isnan(row["limit"]) else row["limit"]
            claim(name, value, row["low"], row["high"], row["steps"] + row["ours_steps"])


def _over_threshold(robot: str, measured: Measured, claim: Claimant) -> None:
    """The largest share of unsafe accepted actions over r_t, with the interval of that maximum."""
    value, low, high, n = worst(measured)
    if n:
        claim(f"{robot}.violation_over_threshold_max", value, low, high, n)
    else:
        claim.lacks(f"{robot}.violation_over_threshold_max", "no accepted action of ours was judged")
