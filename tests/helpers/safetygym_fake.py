"""Made-up runs of Safety Gym: episodes with known rates, for tests of comparisons and figures."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path

import numpy as np
import pandas as pd
from omegaconf import OmegaConf

from experiments.safetygym import records
from experiments.safetygym.evaluation import entries
from experiments.support.results import frames

THRESHOLDS = (1e-5, 1e-4, 1e-3, 1e-2, 1.0)
TASKS = {"point": "Safexp-PointGoal1-v0", "car": "Safexp-CarGoal1-v0"}
LEVEL = {"goal2_point": "Safexp-PointGoal2-v0"}
NAN = float("nan")
BASELINES = {
    # (method, knob): return per episode, episodes with cost, steps of an episode with cost
    ("ppo", NAN): (26.0, 0.95, 55.0),
    **{
        ("ppo_lag", k): (8 + 5 * np.log10(1 + 10 * k), 0.2 + k / 40, 4 + 2 * k) for k in (0.0, 0.5, 2.0, 25.0)
    },
    ("ppo_barrier", NAN): (15.0, 0.4, 12.0),
    **{("saute", k): (5 + k / 2, 0.1 + k / 50, 6.0) for k in (1.0, 25.0)},
}
GUARDED = {
    # method: return at r_t = 1, times r_t an episode is hit
    "ours": (24.0, 8.0),
    "ours_xi_0": (24.5, 40.0),
    "ours_cross_entropy": (22.0, 12.0),
    "ours_logits": (21.0, 60.0),
    "guarded_ppo": (26.0, 30.0),
    "guarded_ppo_lag": (18.0, 10.0),
    "ours_unguarded_data": (24.0, 90.0),
    "ours_logged": (23.0, 200.0),
    "ours_strict": (24.0, 8.0),
    "ours_routed": (26.0, 8.0),
}


def point(rng, method, r_t, knob, mean, share, length, n) -> pd.DataFrame:
    """Episodes of one point; each with cost has one entry at least."""
    hit = rng.random(n) < share
    cost = np.where(hit, np.clip(rng.poisson(length, n), 1, 1000), 0)
    columns = {"return": rng.normal(mean, 5, n), "cost": cost}
    columns["entries"] = np.where(hit, np.minimum(1 + rng.poisson(length / 20, n), cost), 0)
    columns["judged"] = np.full(n, 100 if np.isfinite(r_t) else 0)
    columns["defaults"] = columns["judged"]
    unsafe = min((r_t if np.isfinite(r_t) else 0) * (0.5 if method == "ours" else 1.5), 1)
    columns["unsafe"] = rng.binomial(columns["judged"], unsafe)
    return records.episodes(pd.DataFrame(columns), method, r_t, knob)


def tables(seed: int = 0, n: int = 200, shift: float = 0.0, robot: str = "point", scale: float = 1.0):
    """A run's points; `shift` is added to what the guarded earn, `scale` to how often they are hit."""
    rng = np.random.default_rng([seed, len(robot)])
    slower, agent = 0.6 if robot == "car" else 1.0, rng.normal(0, 0.5)
    parts = [
        point(rng, method, NAN, knob, slower * mean + agent, min(share, 1), length, n)
        for (method, knob), (mean, share, length) in BASELINES.items()
    ]
    for method, (mean, times) in GUARDED.items():
        for r_t in THRESHOLDS:
            earned = slower * mean * (1 - 0.06 * -np.log10(r_t)) + agent + shift
            share = min(scale * times * r_t**0.9, 0.9)
            parts.append(point(rng, method, r_t, NAN, earned, share, 3 + 30 * share, n))
    return parts


def tidy(parts: list[pd.DataFrame], seed: int, n_t: int) -> pd.DataFrame:
    """The tidy rows that go with the points."""
    rows = []
    for part in parts:
        method, r_t, knob = part[records.POINT].iloc[0]
        key = {"method": method, "r_t": r_t, "knob": knob, "n_t": n_t}
        if np.isfinite(r_t):
            rows += [key | {"metric": "bound", "value": r_t * 0.97, "n": n_t}]
            rows += [key | {"metric": "tau", "value": -1 + np.log10(r_t) / 4, "n": n_t}]
            rows += [key | {"metric": "acceptance", "value": 0.9 + 0.1 * r_t, "n": n_t}]
        rows.append(key | {"metric": "return", "value": float(part["return"].mean()), "n": len(part)})
    rows += [
        {"method": "ours", "r_t": 1e-4, "knob": NAN, "n_t": n_t, "metric": "gap", "value": 1e-5, "n": n_t}
    ]
    return frames.tidy(rows, experiment="safetygym", seed=seed)


def traced(seed: int) -> pd.DataFrame:
    """Entries: six accepted (three of them inevitable), two by default and one that labels do not explain, at
    each of two thresholds."""
    rng = np.random.default_rng(seed)
    rows = []
    for r_t in (1e-3, 1e-2):
        for i in range(9):
            candidate, clearance = (-1 if i in (6, 7) else i, 0.01 if i == 8 else -0.01 * (i + 1))
            margin = NAN if candidate < 0 else -1.0 - i
            possible = -0.001 if i < 3 else 0.05
            rows.append(
                (i, 100, 3, candidate, margin, clearance, possible, rng.uniform(0, 1), 0.1, r_t, -0.5)
            )
    return pd.DataFrame(rows, columns=[*entries.COLUMNS, "r_t", "tau"])


def reliability() -> pd.DataFrame:
    """A thousand candidates in each centimetre; the share of unsafe ones falls tenfold per centimetre."""
    low = np.arange(-3.0, 3.0)
    unsafe = np.minimum(1000, 10 ** (3 + np.minimum(low, 0.0))).astype(int)
    return pd.DataFrame({"low": low, "high": low + 1, "n": 1000, "unsafe": unsafe})


def write_run(
    root: Path,
    seed: int = 0,
    robot: str = "point",
    n_t: int = 1_000_000,
    n: int = 200,
    name: str = "ours",
    training: int = 0,
    shift: float = 0.0,
    baselines: Collection[str] = tuple(dict.fromkeys(method for method, _ in BASELINES)),
    plain: bool = False,
    **changes,
) -> Path:
    """A finished run of one method, ours with the baselines, around agents of a training, under
    root/safetygym; `shift` is added to what the guarded earn; `plain`: baselines of a routed run have none.
    """
    key = "".join(c for c in f"{robot}{seed}{n_t}{name}{training}{changes}" if c.isalnum())
    directory = root / "safetygym" / key
    directory.mkdir(parents=True)
    lost = 7 - np.log10(n_t)
    routed = "_routed" if name == "ours_routed" else ""
    mine = {name, *baselines} if name == "ours" or routed else {name, "ppo"}
    parts = [p for p in tables(seed, n, shift - 1.5 * lost, robot, 3**lost) if p["method"].iloc[0] in mine]
    shown = "" if plain else routed
    parts = [p.assign(method=p["method"].where(p["method"] == name, p["method"] + shown)) for p in parts]
    config = {
        "experiment": "safetygym",
        "preset": "laptop",
        "task": (TASKS | LEVEL)[robot],
        "name": name,
        "r_t": 1e-4,
        "seed": seed,
        "output": "somewhere",
        "internal_test": {"n_t": n_t},
        "evaluation": {"xi": "paper", "thresholds": list(THRESHOLDS), **changes},
    }
    if training:
        config |= {"agents": {"training_seed": training}}
    OmegaConf.save(OmegaConf.create(config), directory / "config.yaml")
    records.write(parts, directory)
    if name == "ours":
        entries.write(traced(seed), directory)
        entries.write(reliability(), directory, records.RELIABILITY)
    sums = frames.write(tidy(parts, seed, n_t), directory)
    manifest = {"run": directory.name, "seed": seed, "commit": "c" * 40, "finished": f"2020-01-0{seed + 1}"}
    (directory / "manifest.json").write_text(json.dumps(manifest))
    (directory / "DONE").write_text(json.dumps({"sha256": sums, "code": {}}))
    return directory
