"""The coverage guard on production planning.

    python scripts/production_coverage.py --data eia --path demand.csv.gz

Trains and calibrates as production does (first two years, third year), and counts on the fourth year, as it
is, with another region in the place of a product, and with a sensor at half; see
experiments/production/guard/coverage.py. Writes results/tables/production_coverage_<data>.csv (finished
seeds are kept: an interrupted run goes on) and the claims production.coverage.*.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from experiments.production.config import SOURCES, ProductionConfig
from experiments.production.demand import eia, synthetic
from experiments.production.demand.series import DemandData
from experiments.production.guard import coverage
from experiments.support.bench import Bench
from experiments.support.seeding import limit_threads
from safeframe.types import SafeframeError


def loader(options: argparse.Namespace, seed: int):
    def load(columns: list[str] | None) -> DemandData:
        if options.data == "synthetic":
            return synthetic.synthetic(seed, order=tuple(coverage.ORDER))
        return eia.load_eia(options.path, columns=columns, order=tuple(coverage.ORDER))

    return load


def left_out(path: str, products: tuple[str, ...]) -> str | None:
    """A column of the file that is no product: the other region."""
    header = pd.read_csv(path, nrows=0).columns
    return next((name for name in header if name not in (*products, eia.TIME_COLUMN)), None)


def main(arguments: list[str]) -> int:
    bench = Bench("production_coverage", __doc__, experiment="production", preset="laptop", folder="scripts")
    parser = bench.parser
    parser.add_argument("--data", choices=SOURCES, default="synthetic")
    parser.add_argument("--path", help="the demand file, for --data eia (docs/experiments/production.md)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[5, 6, 7])
    parser.add_argument("--epochs", type=int, help="of the classifier; the production default if not given")
    options = bench.parse(arguments)
    if options.data == "eia" and not options.path:
        parser.error("--data eia needs --path /path/to/demand.csv.gz")
    bench.require_commit()
    limit_threads(1)
    config = ProductionConfig(experiment="production")
    config.data.order = list(coverage.ORDER)
    config.training.epochs = options.epochs or config.training.epochs
    bench.name = f"production_coverage_{options.data}"
    table = pd.read_csv(bench.table) if bench.table.is_file() else pd.DataFrame({"seed": []})
    try:
        for seed in options.seeds:
            if (table["seed"] == seed).any():
                print(f"seed {seed}: in {bench.table.name} already, kept")
                continue
            load = loader(options, seed)
            region = None if options.data == "synthetic" else left_out(options.path, load(None).names)
            table = pd.concat([table, coverage.measure(config, load, region, seed)], ignore_index=True)
            table = table.astype({"seed": int})
            bench.write(table, "%.8g")
            print(f"seed {seed}: done")
    except SafeframeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    found = coverage.pooled(table[table["seed"].isin(options.seeds)])
    print(found.to_string(index=False, float_format=lambda value: f"{value:.4g}"))
    record(bench, found, options)
    return 0


def record(bench: Bench, found: pd.DataFrame, options: argparse.Namespace) -> None:
    """Claims: firing per change, and violations at r_t = 0.01 with and without the guard.

    Without intervals: hours of one year depend on one another, and seeds share the year.
    """
    seeds = " ".join(map(str, options.seeds))
    where = " --path demand.csv.gz" if options.data == "eia" else ""
    common = {
        "seeds": options.seeds,
        "data": options.data,
        "command": f"{bench.command} --data {options.data}{where} --seeds {seeds}",
    }
    for row in found[np.isclose(found["r_t"], 1e-2)].to_dict("records"):
        name = row["change"].replace(" ", "_")
        bench.claim(f"production.coverage.firing.{name}", row["firing"], row["hours"], **common)
        for suffix, kept in (("", "accepted"), ("_guarded", "accepted_guarded")):
            if row[kept]:
                violation = row[f"violation{suffix}"]
                bench.claim(f"production.coverage.violation{suffix}.{name}", violation, row[kept], **common)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
