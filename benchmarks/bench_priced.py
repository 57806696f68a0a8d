"""Measure the risk curve over all prices of 10^6 measurements with 16 candidates, beside brute force.

    python benchmarks/bench_priced.py

times, several times each, with the peak of resident memory beyond the input:

- PricedRiskCurve of 10^6 measurements with 16 candidates, and the least price for r_t;
- the choice at that price for the same measurements at once, and for one measurement;
- brute force: the best candidate of every measurement anew for each price at which a choice changes, which is
  what the exact curve needs without the walk along the envelopes. It is measured on a part of the prices and
  of the measurements, beside the curve of the same measurements, and scaled by the share of the prices.

Before anything is timed the curve is compared with brute force. Writes results/tables/bench_priced.csv and
the claims core.priced_curve_1e6x16_*.
"""

from __future__ import annotations

import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.bench_core import Claims, Table
from benchmarks.bench_core import measured as measured_by
from experiments.support.bench import Bench, spread, timed
from safeframe.optimisation.priced import choose_priced
from safeframe.priced.curve import PricedRiskCurve
from safeframe.risk_scale import LogisticRisk

MEASUREMENTS, CANDIDATES, R_T = 10**6, 16, 0.01
PART, PRICES = 20_000, 200
"""Measurements, and prices among those at which a choice changes, that brute force is timed on."""

measured = partial(measured_by, clock=time.process_time)
"""One thread works, so the clock of the process is that of one core, whatever else the machine does."""

Cases = tuple[np.ndarray, np.ndarray, np.ndarray]


def cases(n: int) -> Cases:
    """Margins, rewards that rise with them, and labels of n measurements."""
    rng = np.random.default_rng(0)
    margin = rng.normal(size=(n, CANDIDATES))
    label = (rng.random(margin.shape) < 1 / (1 + np.exp(4.0 - 3.0 * margin))).astype(np.int8)
    return margin, margin + 0.5 * rng.normal(size=margin.shape), label


def scale_of(n: int = 2000) -> LogisticRisk:
    """A risk scale, of other cases."""
    margin, _, label = cases(2 * n)
    return LogisticRisk.fit(margin[n:].ravel(), label[n:].ravel())


def curve(found: Cases, scale: LogisticRisk) -> PricedRiskCurve:
    return PricedRiskCurve(*found, R_T, scale)


def least_price(found: Cases, scale: LogisticRisk) -> float:
    return curve(found, scale).least_price().mu


def counts_by_force(found: Cases, risk: np.ndarray, prices: np.ndarray) -> np.ndarray:
    """(2, t) acted and unsafe at each price: the best candidate of every measurement anew."""
    _, reward, label = found
    row, out = np.arange(len(risk)), []
    for mu in prices:
        worth = reward - mu * (risk - R_T)
        best = worth.argmax(axis=1)
        acted = worth[row, best] >= 0.0
        out.append((acted.sum(), (label[row, best] == 1)[acted].sum()))
    return np.array(out).T


def check(n: int) -> None:
    """The curve gives what brute force gives, between the prices at which a choice changes."""
    found, scale = cases(n), scale_of()
    made = curve(found, scale)
    prices = (made.prices[1:] + made.prices[:-1])[:: max(len(made.prices) // 300, 1)] / 2
    wanted = counts_by_force(found, scale.probability(found[0]), prices)
    np.testing.assert_array_equal(np.array(made.counts(prices)), wanted)


def bench(table: Table, n: int, repeats: int) -> Claims:
    """Rows of the table, and the claims."""
    found, scale = cases(n), scale_of()
    job = f"curve over all prices and the least price, {CANDIDATES} candidates"
    fast, held = measured(partial(least_price, found, scale), repeats)
    made = curve(found, scale)
    changes = len(made.prices)
    table.add(job, n, fast, held, f"the claim; {changes:,} prices at which a choice changes")
    mu, risk = made.least_price().mu, scale.probability(found[0])
    del made
    act, peak = measured(partial(choose_priced, risk, found[1], mu, R_T), repeats)
    table.add("choice at one price", n, act, peak, "")
    one = (risk[:1], found[1][:1], mu, R_T)
    calls = 1000

    def repeatedly() -> None:
        for _ in range(calls):
            choose_priced(*one)

    single = [timed(repeatedly)[0] / calls for _ in range(repeats)]
    table.add("choice at one price, one measurement", 1, single, None, f"mean of {calls} calls")

    few = min(n, PART)
    part = (found[0][:few], found[1][:few], found[2][:few])
    quick, _ = measured(partial(least_price, part, scale), repeats)
    table.add(job, few, quick, None, "")
    every = curve(part, scale).prices
    prices = every[:: max(len(every) // PRICES, 1)]
    slow, _ = measured(partial(counts_by_force, part, risk[:few], prices), 1)
    note = f"{len(prices)} of {len(every):,} prices timed, scaled to all"
    ratio = table.add_naive(
        "brute force over all prices", few, slow[0] * len(every) / len(prices), quick, note
    )
    return {
        "core.priced_curve_1e6x16_seconds": spread(fast),
        "core.priced_curve_1e6x16_peak_mb": held,
        "core.priced_curve_2e4x16_speedup_over_brute_force": ratio,
    }


def main() -> None:
    run = Bench("bench_priced", __doc__, experiment="core", data="random normal margins and rewards")
    run.parser.add_argument("--measurements", type=int, default=MEASUREMENTS)
    run.parser.add_argument("--repeats", type=int, default=5)
    options = run.parse()
    if not options.no_claims and options.measurements != MEASUREMENTS:
        run.parser.error("the claims are about 10^6 measurements: add --no-claims with other sizes")
    run.require_commit()
    check(2000)
    table = Table()
    found = bench(table, options.measurements, options.repeats)
    frame = pd.DataFrame(table.rows)
    run.write(frame)
    run.show(frame.drop(columns=["seconds_low", "seconds_high"]))
    for name, value in found.items():
        run.claim(name, value, PART if "2e4" in name else options.measurements)


if __name__ == "__main__":
    main()
