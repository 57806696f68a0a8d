"""What is printed, kept and claimed of a theory run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from experiments.support.results import collect
from experiments.support.results.publish import RESULTS, Claimant, write_tables
from experiments.support.results.ratios import mean_interval
from experiments.support.results.saved import Saved
from experiments.theory.records import TABLES
from experiments.theory.reporting import (
    claims_groups,
    claims_monitor,
    claims_priced,
    claims_promises,
    claims_tailoring,
)
from experiments.theory.reporting.claims_promises import largest_failure_rate
from safeframe.certificates.cases import clopper_pearson_lower, clopper_pearson_upper


def read(run: Saved) -> dict[str, pd.DataFrame]:
    """The tables of a run. Raises `ResultsError` where one is missing."""
    return {name: run.table(name) for name in TABLES}


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
    yield from claims_promises.claimed(tables["promises"])
    yield from claims_monitor.claimed(tables["monitor"], tables["monitor_time"])
    yield from claims_groups.shrinkage(tables["shrinkage"])
    yield from claims_groups.group_constraints(tables["group_constraints"])
    yield from claims_priced.claimed(tables["priced"])
    yield from claims_tailoring.claimed(tables["tailoring"], tables["tailoring_why"])


def failure_rate_max(table: pd.DataFrame) -> tuple[float, float, float, int]:
    """(largest failure rate / delta of the guaranteed rows, its exact 95 % interval, draws)."""
    kept = table[table["guaranteed"].astype(bool)]
    share = kept["failures"] / kept["repeats"] / kept["delta"]
    worst = kept.loc[share.idxmax()]
    k, n, delta = int(worst["failures"]), int(worst["repeats"]), float(worst["delta"])
    low = stats.beta.ppf(0.025, k, n - k + 1) if k else 0.0
    high = stats.beta.ppf(0.975, k + 1, n - k) if k < n else 1.0
    return k / n / delta, float(low) / delta, float(high) / delta, n


def _epsilon(tables: dict[str, pd.DataFrame]) -> float:
    """Of the coverage guard, kept with its table."""
    return float(tables["firing"]["epsilon"].iloc[0])


def _only(row: dict[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in ("value", "low", "high")}


def _mean(values: np.ndarray) -> dict[str, float]:
    """Mean with its 95 % t interval."""
    value, low, high = mean_interval(values)
    return {"value": value, **({"low": low, "high": high} if np.isfinite(low) else {})}


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


def load(preset: str, where: Mapping[str, Any] | None = None, root: collect.Root = collect.RUNS) -> Saved:
    """The finished run of a preset (of several, the one with the largest seed, the latest).

    Raises `NoRuns` if there is none.
    """
    found = collect.required("theory", {"preset": preset, **(where or {})}, root)
    return max(found, key=lambda run: (run.seed, run.finished))


def write(run: Saved, place: Path = RESULTS) -> list[Path]:
    """A run's tables as tables/theory_<name>.csv; the paths."""
    return write_tables({f"theory_{name}": table for name, table in read(run).items()}, place)


def record(run: Saved, preset: str, ledger: Path | None = None, dirty: bool = False) -> None:
    """Write the claims of a run to the ledger: its headlines, but for the interval of the largest failure
    rate, which here is one of the maximum. `dirty`: from a run of a dirty tree too.
    """
    claimants = {}
    tables = read(run)
    largest = dict(zip(("low", "high"), largest_failure_rate(tables["validity"]), strict=True))
    for row in claimed(tables):
        if row["claim"] == "certificates.failure_rate_max":
            row |= largest
        prefix, _, name = row["claim"].partition(".")
        if prefix not in claimants:
            claimants[prefix] = Claimant(
                prefix, [run], "make theory", ledger, dirty,
                experiment="theory", seeds=[run.seed], preset=preset, data="laws with known truth",
            )  # fmt: skip
        claimants[prefix](
            name, float(row["value"]), row.get("low", np.nan), row.get("high", np.nan), row["n"]
        )
