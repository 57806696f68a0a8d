"""What the heavy stages of the committed runs took, and what that gives for larger ones.

    python scripts/scale.py

Reads the stage times in results/raw/*/*/runs.json, the committed episodes, and
results/tables/bench_llm_gpu.csv and bench_engine.csv; runs nothing. A stage time counts where the stage was
not taken from the cache. Writes results/tables/scale.csv: a row for each stage and size, with units a second
of one thread (threads=1), and one for each extrapolation, which multiplies the rate of the largest size that
was measured; extrapolations on an engine share this work equally among its workers and add what bench_engine
found that workers and tasks cost.
"""

from __future__ import annotations

import json
import math
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from experiments.support.files import REPOSITORY, atomic_path

RAW, TABLES = REPOSITORY / "results" / "raw", REPOSITORY / "results" / "tables"
COLUMNS = ["name", "experiment", "stage", "unit", "units", "seconds", "low", "high", "per_second", "runs",
           "extrapolated", "hours", "on", "source"]  # fmt: skip
INTERNAL_TEST = ("safetygym_internal_test_", "safetygym_agreement_")
CANDIDATES, PROMPTS = 16, 10**6
CASES_OF_TASK, STEPS_OF_TASK, PROMPTS_OF_TASK = 10**6, 250_000, 4096
"""How stages are cut: SHARD_CASES and BLOCK_STEPS of Safety Gym, models.shard of language."""


def runs_of(preset: str, experiment: str) -> list[dict[str, Any]]:
    """The committed runs of an experiment that were made with one thread."""
    content = json.loads((RAW / preset / experiment / "runs.json").read_text())["runs"]
    return [run for run in content if run["config"]["threads"] == 1]


def row(
    name: str, experiment: str, stage: str, unit: str, units: float, seconds: list[float], source: str
) -> dict:
    """A measured row: median, extremes and number of runs."""
    value = float(np.median(seconds))
    return {"name": name, "experiment": experiment, "stage": stage, "unit": unit, "units": units,
            "seconds": value, "low": min(seconds), "high": max(seconds),
            "per_second": units / value, "runs": len(seconds),
            "extrapolated": False, "on": "one thread", "source": source}  # fmt: skip


def short(number: float) -> str:
    """1000000 as 1e6."""
    return f"{number:.0e}".replace("+0", "").replace("+", "")


def collection(preset: str) -> list[dict]:
    """Internal test data of the Point, by n_t: all stages of runs that collected them themselves."""
    found = defaultdict(list)
    for run in runs_of(preset, "safetygym"):
        config, stages = run["config"], run["manifest"].get("stages", {})
        own = [stage for name, stage in stages.items() if name.startswith(INTERNAL_TEST)]
        usual = config["internal_test"]["label"] == "backup" and config["name"] == "ours"
        if usual and "Point" in config["task"] and own and not any(stage["reused"] for stage in own):
            found[config["internal_test"]["n_t"]].append(sum(stage["seconds"] for stage in own))
    source, rows = f"results/raw/{preset}/safetygym/runs.json", sorted(found.items())
    return [
        row(
            f"collect_{preset}_{short(n_t)}", "safetygym", "internal test data", "cases", n_t, seconds, source
        )
        for n_t, seconds in rows
    ]


def episodes(preset: str) -> list[dict]:
    """Evaluation of the Point: steps of all committed episodes of a run over the stage's seconds."""
    counts = pd.read_parquet(RAW / preset / "safetygym" / "episodes.parquet")
    counts = counts.groupby("run")["episodes"].sum()
    found = defaultdict(list)
    for run in runs_of(preset, "safetygym"):
        stage = run["manifest"].get("stages", {}).get("safetygym_episodes", {"reused": True})
        if not stage["reused"] and "Point" in run["config"]["task"] and run["run"] in counts:
            found[1000 * int(counts[run["run"]])].append(stage["seconds"])
    largest = sorted(found)[-1:]
    source = f"results/raw/{preset}/safetygym/runs.json"
    return [
        row(f"episodes_{preset}", "safetygym", "episodes", "steps", units, found[units], source)
        for units in largest
    ]


def pools() -> list[dict]:
    """Candidates of the small models that come with the repository, generated and scored."""
    found = defaultdict(list)
    for run in runs_of("laptop", "llm"):
        for name in ("internal_test", "validation"):
            stage = run["manifest"].get("stages", {}).get(f"pool_ai_{name}")
            if stage is not None and not stage["reused"] and run["config"]["source"] == "synthetic":
                found[run["config"]["pools"][name]].append(stage["seconds"])
    source = "results/raw/laptop/llm/runs.json"
    return [
        row(f"pools_{n}", "llm", f"pools, {CANDIDATES} candidates a prompt", "prompts", n, s, source)
        for n, s in sorted(found.items())
    ]


def networks() -> list[dict]:
    """Production's networks, one a stage."""
    seconds = [
        stage["seconds"]
        for run in runs_of("laptop", "production")
        for name, stage in run["manifest"].get("stages", {}).items()
        if not stage["reused"] and name.startswith(("demand", "gaussian", "cross_entropy", "end_to_end"))
    ]
    return [
        row(
            "network",
            "production",
            "a network",
            "networks",
            1,
            seconds,
            "results/raw/laptop/production/runs.json",
        )
    ]


def larger(name: str, measured: dict, units: float) -> dict:
    """The rate of a measured row for more units."""
    seconds = units / measured["per_second"]
    unknown = {"low": np.nan, "high": np.nan, "extrapolated": True, "name": name}
    return {**measured, **unknown, "units": units, "seconds": seconds, "hours": seconds / 3600}


def on_engine(alone: dict, engine: str, workers: int, units_of_task: float, what: str) -> dict:
    """An extrapolation on an engine: equal shares of the work, the tasks' own cost, the start."""
    costs = pd.read_csv(TABLES / "bench_engine.csv").set_index(["engine", "workers"])
    tasks = math.ceil(alone["units"] / units_of_task)
    each = float(costs.loc[(engine, 1), "task_ms"]) / 1000
    waves = math.ceil(tasks / workers) / tasks  # the last ones leave some workers without work
    start = float(costs.loc[(engine, 2), "start_seconds"])
    seconds = (alone["seconds"] + tasks * each) * waves + start
    name = f"{alone['name']}_{engine}_{workers}"
    about = {"name": name, "seconds": seconds, "hours": seconds / 3600, "on": f"{engine}, {workers} {what}"}
    return {**alone, **about, "per_second": alone["units"] / seconds, "extrapolated": True}


def opt() -> list[dict]:
    """10^6 prompts with OPT-1.3B and its reward and cost models, from candidates a second on one GPU."""
    rates = pd.read_csv(TABLES / "bench_llm_gpu.csv").set_index("what")
    found = []
    for what, models in (("generation", 1), ("scoring", 2), ("classification", 1)):
        rate, device = float(rates.loc[what, "candidates_per_s"]), str(rates.loc[what, "device"])
        seconds = PROMPTS * CANDIDATES * models / rate
        stage = f"OPT-1.3B: {what}" + (" by two models" if models == 2 else "")
        found.append(
            {"name": f"opt_{what}", "experiment": "llm", "stage": stage, "unit": "prompts", "units": PROMPTS,
             "seconds": seconds, "per_second": PROMPTS / seconds, "extrapolated": True,
             "hours": seconds / 3600, "on": device, "source": "results/tables/bench_llm_gpu.csv"}
        )  # fmt: skip
    seconds = sum(part["seconds"] for part in found)
    total = {"name": "opt_total", "stage": "OPT-1.3B: all three", "seconds": seconds, "hours": seconds / 3600}
    return [*found, {**found[0], **total, "per_second": PROMPTS / seconds}]


def main() -> None:
    cases = [*collection("laptop"), *collection("paper")]
    steps = [*episodes("laptop"), *episodes("paper")]
    prompts = pools()
    more = [larger(f"collect_{short(units)}", cases[-1], units) for units in (1e8, 1e9, 1e10)]
    longer, wider, gpu = (
        larger("episodes_1e9", steps[-1], 1e9),
        larger("pools_1e6", prompts[-1], PROMPTS),
        opt(),
    )
    rows = [*cases, *more, *steps, longer, *prompts, wider, *networks(), *gpu]
    for engine, workers in (("joblib", 16), ("ray", 128)):
        rows += [on_engine(one, engine, workers, CASES_OF_TASK, "workers") for one in more]
        rows.append(on_engine(longer, engine, workers, STEPS_OF_TASK, "workers"))
        rows.append(on_engine(wider, engine, workers, PROMPTS_OF_TASK, "workers"))
    rows += [on_engine(gpu[-1], "ray", workers, PROMPTS_OF_TASK, "GPUs") for workers in (8, 64)]
    table = pd.DataFrame(rows, columns=COLUMNS)
    with atomic_path(TABLES / "scale.csv") as path:
        table.to_csv(path, index=False, lineterminator="\n", float_format="%.4g")
    print(table.drop(columns=["source"]).to_string(index=False, float_format=lambda value: f"{value:,.4g}"))
    print("written to results/tables/scale.csv")


if __name__ == "__main__":
    main()
