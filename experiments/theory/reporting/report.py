"""What is printed, kept and claimed of a theory run."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from omegaconf import OmegaConf

from experiments.support.errors import ResultsError
from experiments.support.files import REPOSITORY, atomic_path, write_json
from experiments.support.results import claims, collect, frames
from experiments.theory.validity import failure_rate_max
from safeframe.certificates.cases import clopper_pearson_lower, clopper_pearson_upper

RESULTS = REPOSITORY / "results"
COMMITTED = ("theorem_1", "measured_xi", "leak", "theorem_2", "gradients", "slopes", "tightness", "chosen",
             "validity", "libraries", "coverage", "firing", "sensitivities", "constraints", "episodes",
             "quality", "path", "cases_needed")  # fmt: skip
"""Tables that are committed, as results/tables/theory_<name>.csv. (theorem_3.csv, every error at every size,
is large and stays with the run.)"""


def read(directory: Path) -> dict[str, pd.DataFrame]:
    """The tables of a run. Raises `ResultsError` where one is missing."""
    found = {}
    for name in COMMITTED:
        path = directory / f"{name}.csv"
        if not path.is_file():
            raise ResultsError(f"{path} is missing: was the run interrupted? run it again with force=true")
        found[name] = pd.read_csv(path)
    return found


def share(k: int, n: int) -> dict[str, Any]:
    """A share with its exact two-sided 95 % interval, as columns of a tidy row."""
    low, high = clopper_pearson_lower(k, n, 0.025), clopper_pearson_upper(k, n, 0.025)
    return {"value": k / n, "low": low, "high": high, "n": n, "interval": "Clopper-Pearson 95%"}


def claimed(tables: dict[str, pd.DataFrame]) -> Iterator[dict[str, Any]]:
    """Every claim: name, value, n, low and high where there are any."""
    one = tables["theorem_1"]
    at = one[(one["factor"] == 1.0)]
    yield {
        "claim": "theory.theorem_1_failures",
        "value": int(at["failures"].sum()),
        "n": int(at["trials"].sum()),
    }
    worst = one[(one["kind"] == "worst") & (one["d"] == 1) & (one["statement"] == "likelihood")]
    below = worst[worst["factor"] == 0.95].iloc[0]
    yield {"claim": "theory.theorem_1_failure_rate_at_0_95_k_zeta", "n": int(below["trials"]),
           **_only(share(int(below["failures"]), int(below["trials"])))}  # fmt: skip
    leak = tables["leak"]
    optimism = leak["truth"] - leak["plug_in"]
    for ridge, part in leak.groupby("ridge"):
        if ridge == leak["ridge"].min():
            small = part[part["n"] == part["n"].min()]
            gap = (small["truth"] - small["plug_in"]).to_numpy()
            yield {"claim": "theory.leak_plug_in_optimism", "n": len(gap), **_mean(gap)}
    yield {
        "claim": "theory.leak_plug_in_optimistic_share",
        "n": len(leak),
        **_only(share(int((optimism > 0).sum()), len(leak))),
    }
    failed = int((leak["conservative"] < leak["truth"] - 1e-3).sum())
    yield {"claim": "theory.leak_conservative_failures", "value": failed, "n": len(leak)}
    xi = tables["measured_xi"]
    ratio = (xi["xi"] / xi["k_zeta"]).to_numpy()
    yield {"claim": "theory.measured_xi_over_k_zeta", "n": len(ratio), **_mean(ratio)}
    two = tables["theorem_2"]
    last = two[(two["beta"] == two["beta"].max()) & (two["lambda"] == two["lambda"].min())]
    for row in last.to_dict("records"):
        yield {"claim": f"theory.theorem_2_gap_{row['problem']}", "value": row["mean"], "n": int(row["n"])}
    gradient = tables["gradients"]
    yield {
        "claim": "theory.gradient_error_max",
        "value": gradient["largest_error"].max(),
        "n": int(gradient["smooth"].sum()),
    }
    errors = []
    for row in tables["slopes"].to_dict("records"):
        given = np.isfinite(row["low"])
        ends = {"low": row["low"], "high": row["high"]} if given else {}
        yield {"claim": f"theory.scaling_exponent.{row['rule']}_{row['d']}d", "value": row["slope"],
               "n": int(row["streams"]), **ends}  # fmt: skip
        if row["rule"] == "nearest":
            errors.append((abs(row["slope"] - row["bound"]), row))
    if errors:
        value, row = max(errors, key=lambda pair: pair[0])
        yield {"claim": "theory.scaling_exponent_error", "value": value, "n": int(row["streams"])}
    value, low, high, n = failure_rate_max(tables["validity"])
    yield {"claim": "certificates.failure_rate_max", "value": value, "low": low, "high": high, "n": n}
    for row in tables["libraries"].to_dict("records"):
        name = f"{row['library'].lower()}_{row['search'].replace('-', '_')}"
        yield {
            "claim": f"certificates.agreement.{name}",
            "n": int(row["repeats"]),
            **_only(share(int(row["same"]), int(row["repeats"]))),
        }
        yield {"claim": f"certificates.time_ratio.{name}", "value": row["ratio"], "n": int(row["repeats"])}
    firing = tables["firing"]
    rate = firing["fires"] / firing["n"]
    over = int((rate > _epsilon(tables)).sum())
    yield {"claim": "coverage.certificate_failure_rate", "n": len(firing), **_only(share(over, len(firing)))}
    cover = tables["coverage"]
    home = cover[(cover["kind"] == "in distribution") & (cover["features"] == "measurement")].iloc[0]
    yield {
        "claim": "coverage.firing_in_distribution",
        "n": int(home["n"]),
        **_only(share(int(home["refused"]), int(home["n"]))),
    }
    for kind in ("shifted", "rotated", "corrupted", "stuck", "adversarial"):
        part = cover[(cover["kind"] == kind) & (cover["features"] == "measurement")]
        row = part.loc[part["strength"].idxmax()]
        for name, bad, kept in (
            ("unguarded", "unsafe", "accepted"),
            ("guarded", "unsafe_guarded", "accepted_guarded"),
        ):
            if row[kept]:
                yield {"claim": f"coverage.violations_{name}.{kind}", "n": int(row[kept]),
                       **_only(share(int(row[bad]), int(row[kept])))}  # fmt: skip
    quality = tables["quality"].groupby("kind")[["zeta", "conservative"]].mean()
    worst_kind = [kind for kind in quality.index if kind.startswith("repeated")]
    least = min(worst_kind, key=lambda kind: int(kind.split()[1]))
    n = int((tables["quality"]["kind"] == least).sum())
    yield {"claim": "theory.quality_zeta_repeated_over_diverse", "n": n,
           "value": float(quality.loc[least, "zeta"] / quality.loc["stratified", "zeta"])}  # fmt: skip


def _epsilon(tables: dict[str, pd.DataFrame]) -> float:
    """Of the coverage guard, kept with its table."""
    return float(tables["firing"]["epsilon"].iloc[0])


def _only(row: dict[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in ("value", "low", "high")}


def _mean(values: np.ndarray) -> dict[str, float]:
    """Mean with its 95 % t interval."""
    from scipy import stats

    half = (
        stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
        if len(values) > 1
        else np.nan
    )
    ends = (
        {"low": float(values.mean() - half), "high": float(values.mean() + half)} if np.isfinite(half) else {}
    )
    return {"value": float(values.mean()), **ends}


def headline(tables: dict[str, pd.DataFrame], r_t: float) -> pd.DataFrame:
    """The claims as tidy rows."""
    rows = []
    for claim in claimed(tables):
        row = {
            "method": claim["claim"].split(".")[0],
            "metric": claim["claim"],
            "r_t": r_t,
            "value": claim["value"],
            "n": claim["n"],
        }
        if claim.get("low") is not None:
            row |= {"low": claim["low"], "high": claim["high"], "interval": "95%"}
        rows.append(row)
    return pd.DataFrame(rows)


def summary(frame: pd.DataFrame) -> str:
    """The tidy rows as a compact list."""
    lines = []
    for row in frame.to_dict("records"):
        interval = f"  [{row['low']:.4g}, {row['high']:.4g}]" if pd.notna(row["low"]) else ""
        lines.append(f"{row['metric']:52s} {row['value']:.4g}{interval}  (n = {row['n']:,})")
    return "\n".join(lines)


def load(preset: str, where: Mapping[str, Any] | None = None, root: Path = collect.RUNS) -> Path:
    """The directory of the finished run of a preset (of several, the one with the largest seed, the latest).

    Raises `ResultsError` if there is none.
    """
    found = collect.finished("theory", {"preset": preset, **(where or {})}, root)
    if not found:
        raise ResultsError(f"no finished run of theory with preset={preset} under {root}")

    def rank(directory: Path) -> tuple:
        manifest = json.loads((directory / "manifest.json").read_text())
        return OmegaConf.load(directory / "config.yaml").seed, str(manifest.get("finished", ""))

    return max(found, key=rank)


def publish(directory: Path, place: Path = RESULTS) -> list[Path]:
    """Copy a run's tables to results/tables/theory_<name>.csv and its manifest to results/manifests."""
    frames.verify(directory)
    read(directory)
    paths = []
    for name in COMMITTED:
        paths.append(place / "tables" / f"theory_{name}.csv")
        with atomic_path(paths[-1]) as temporary:
            shutil.copyfile(directory / f"{name}.csv", temporary)
    paths.append(place / "manifests" / "theory.json")
    write_json(paths[-1], [json.loads((directory / "manifest.json").read_text())])
    return paths


def record(directory: Path, preset: str, ledger: Path | None = None) -> None:
    """Write the claims of a run to the ledger."""
    config = OmegaConf.load(directory / "config.yaml")
    for claim in claimed(read(directory)):
        claims.record(
            claim["claim"],
            float(claim["value"]),
            experiment="theory",
            n=claim["n"],
            seeds=[int(config.seed)],
            preset=preset,
            data="laws with known truth",
            low=claim.get("low"),
            high=claim.get("high"),
            command="make theory",
            path=ledger,
        )
