"""Made-up weekly tables of production runs, with known shares, for tests of figures and comparisons."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
from omegaconf import OmegaConf

from experiments.support.results import frames

THRESHOLDS = (1e-4, *np.geomspace(1e-3, 1, 10))
KNOBS = tuple(np.round(np.linspace(6.0, 0.0, 21), 3))
"""Strict to loose; mean_variance and two_stage_margin use all, end_to_end every fifth."""
PRODUCTS = 4
OVER_R_T = {
    "ours": (0.5, 1.0),
    "ours_pooled_weekly": (0.8, 1.0),
    "binary": (0.6, 0.85),
    "binary_xi_0": (0.9, 1.05),
    "binary_cross_entropy": (0.6, 0.8),
    "binary_cross_entropy_xi_0": (1.1, 0.9),
    "binary_certified": (0.7, 0.8),
    "mean_variance_chosen": (1.5, 0.9),
}
"""Factor on r_t, and on revenue."""
OVER_KNOB = {"mean_variance": 0.12, "two_stage_margin": 0.05, "end_to_end": 0.08}
GUARDED = [method for method in OVER_R_T if not method.endswith("_chosen")]


def weekly(seed: int = 0, weeks: int = 52, hours: int = 168, year: int | None = None) -> pd.DataFrame:
    """A run's weekly table: violation share near factor * r_t, revenue that grows with r_t.

    `year` fixes the demand.
    """
    rng, demand = np.random.default_rng(seed), np.random.default_rng(1000 + (seed if year is None else year))
    best = demand.uniform(90, 110, weeks) * hours
    rows = []

    def add(method: str, r_t: float, knob: float, share: float, violation: float) -> None:
        produced = rng.binomial(hours * PRODUCTS, np.clip(share, 0, 1), weeks)
        unsafe = rng.binomial(produced, np.clip(violation, 0, 1))
        revenue = best * share * rng.normal(1, 0.01, weeks)
        for week in range(weeks):
            rows.append((method, r_t, knob, week, hours, produced[week], unsafe[week], revenue[week]))

    for method, (factor, reach) in OVER_R_T.items():
        for r_t in THRESHOLDS:
            share = (
                reach * 0.95 * np.clip((np.log10(r_t) + 4.3) / 4.3, 0, 1) ** 0.6
                if r_t > 2e-4 or "0" in method
                else 0
            )
            add(method, float(r_t), np.nan, share, factor * r_t * 0.4 if r_t > 0.1 else factor * r_t)
    for method, scale in OVER_KNOB.items():
        for place, knob in enumerate(KNOBS):
            if method != "end_to_end" or place % 5 == 0:
                loose = place / 20
                add(method, np.nan, knob, 0.1 + 0.85 * loose**0.7, scale * (1e-4 + loose**3))
    for week in range(weeks):
        rows.append(("oracle", np.nan, np.nan, week, hours, hours * 3, 0, best[week]))
    columns = ["method", "r_t", "knob", "week", "hours", "produced", "violations", "revenue"]
    return pd.DataFrame(rows, columns=columns)


def by_product(table: pd.DataFrame) -> pd.DataFrame:
    """The weekly table of guarded methods, cut into products as evenly as can be."""
    rows = table[table["method"].isin(GUARDED)]
    parts = []
    for i in range(PRODUCTS):
        cut = rows[["method", "r_t", "week"]].assign(product=f"product_{i + 1}")
        for name, column in (("accepted", "produced"), ("violations", "violations")):
            cut[name] = (rows[column] + i) // PRODUCTS
        parts.append(cut)
    return pd.concat(parts, ignore_index=True)


def tidy(table: pd.DataFrame, seed: int, n_t: int = 8760) -> pd.DataFrame:
    """The tidy rows that go with a weekly table."""
    rows = []
    for (method, r_t, knob), group in table.groupby(["method", "r_t", "knob"], dropna=False, sort=False):
        k, n, hours = int(group["violations"].sum()), int(group["produced"].sum()), int(group["hours"].sum())
        key = {"method": method, "r_t": r_t, "knob": knob, "n_t": n_t}
        share = n / (hours * PRODUCTS)
        if method in GUARDED:
            own = by_product(group).groupby("product")[["accepted", "violations"]].sum()
            for name, (made, bad) in zip(own.index, own.to_numpy(), strict=True):
                found = {"metric": f"violation.{name}", "value": bad / made if made else np.nan}
                rows.append(key | found | {"n": made})
        rows += [
            key | {"metric": "violation", "value": k / n if n else np.nan, "n": n},
            key | {"metric": "revenue", "value": group["revenue"].sum() / hours, "n": hours},
            key | {"metric": "acceptance", "value": share, "n": hours * PRODUCTS},
            key | {"metric": "calibration_acceptance", "value": share * 0.98, "n": n_t * PRODUCTS},
        ]
    return frames.tidy(rows, experiment="production", seed=seed)


def write_run(
    root: Path, seed: int, source: str = "synthetic", n_t: int | None = None, mended: bool = False, **changes
) -> Path:
    """A finished run's directory under root/production."""
    name = f"{source}{seed}{n_t or ''}{'mended' * mended}{''.join(map(str, changes.values()))}"
    directory = root / "production" / name.replace(".", "")
    directory.mkdir(parents=True)
    year = None if source == "synthetic" else 0
    table = weekly(seed, year=year)
    if n_t:
        shrink = 1 - 0.1 * np.log10(8760 / n_t)
        rest = table["method"] != "oracle"
        table.loc[rest, "revenue"] *= shrink
    config = {
        "experiment": "production",
        "preset": "laptop",
        "r_t": 1e-3,
        "seed": seed,
        "output": "somewhere",
        "data": {"source": source, "path": None, "hours_per_quarter": 8760, "order": [0, 1, 2, 3]},
        "evaluation": {"n_t": n_t, "parts": ["guard"] if n_t else ["guard", "binary", "baselines"]},
        "training": {"steps": 400, **changes},
    }
    if mended:
        config["tailoring"] = {"relative": True}
    OmegaConf.save(OmegaConf.create(config), directory / "config.yaml")
    table.to_parquet(directory / "weekly.parquet")
    by_product(table).to_parquet(directory / "products.parquet")
    sums = frames.write(tidy(table, seed, n_t or 8760), directory)
    manifest = {"run": directory.name, "seed": seed, "commit": "c" * 40, "finished": f"2020-01-0{seed + 1}"}
    (directory / "manifest.json").write_text(json.dumps(manifest))
    (directory / "DONE").write_text(json.dumps({"sha256": sums, "code": {}}))
    return directory
