"""The shrinkage bound counted: does it keep its word where its model is right, wrong, or drifts?

Draws of internal test data of the README's law are calibrated by the guard's own code, every rule on the same
draws; only the shrinkage rule looks at the model's p̂. States of the model:

- right: p̂ is the law's P(unsafe | case).
- low, high: its odds are three times too low, or too high, everywhere.
- fitted: logistic, on a third of the cases, as the guard does it by default; the rest is counted.
- steep: right at p̂ = .05, and too low the more the smaller it is (log odds 1.3 times as far from there).
- floor: every case is unsafe with probability .002 that the model does not know of.

The last two break what the bound assumes of the tail. With the right model also:

- drift: used where the prior odds are 1.4 times those of the data, with no prior given or the true upper end.
- weeks: noise is shared by the cases of a week, so that they depend on one another.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import expit, logit

from experiments.theory.config import ShrinkageConfig
from experiments.theory.guards.promises import RULES as OTHERS
from experiments.theory.guards.promises import Calibrations, Setting, counted, plain_draw
from experiments.theory.laws.threshold_laws import (
    EDGE,
    NOISE,
    ThresholdLaw,
    of_risk,
    plain,
    unsafe_probability,
)
from safeframe.guard.evidence import Evidence
from safeframe.shrinkage import Shrinkage

RULES = (*OTHERS, "shrinkage")
FLOOR = 2e-3
"""Risk of every case that the model does not know of, in the state "floor"."""
FACTOR = 3.0
"""By which the odds of a wrong model are too low or too high."""
STEEP = 1.3
"""Of the log odds' distance from those of ANCHOR, in the state "steep"."""
ANCHOR = 0.05
DRIFT = 1.4
"""Factor on the prior odds of an unsafe case in use."""
WEEK, CORRELATION = 25, 0.5
"""Cases of a week, and the correlation of the noise of two of them."""


def run(config: ShrinkageConfig, rng: np.random.Generator) -> pd.DataFrame:
    """One row per state, rule, n and r_t: see :func:`experiments.theory.guards.promises.counted`."""
    rows: list[dict[str, Any]] = []
    for setting in settings(config):
        own = rng.spawn(1)[0]
        for n in config.sizes:
            rows += counted(setting, config, own, n, config.r_t, RULES)
    return pd.DataFrame(rows)


def settings(config: ShrinkageConfig) -> list[Setting]:
    """All states of the model."""
    law = plain()
    floor = of_risk(_with_floor)
    odds = DRIFT * law.prior / (1.0 - law.prior)
    high = odds / (1.0 + odds)
    drifted = law.with_prior(high)
    shift = float(np.log(FACTOR))

    def state(
        name: str,
        law: ThresholdLaw,
        scale: Any,
        draw: Callable[..., Evidence] = plain_draw,
        prior: Any = None,
    ) -> Setting:
        every = Calibrations(config.delta, more=[Shrinkage()], scale=scale, prior=prior)
        return Setting(name, lambda rng, n, r: every(draw(rng, n), r, law), law.best)

    return [
        state("right", law, right),
        state("low", law, lambda m: expit(_log_odds(m) - shift)),
        state("high", law, lambda m: expit(_log_odds(m) + shift)),
        state("fitted", law, "logistic"),
        state("steep", law, lambda m: expit(logit(ANCHOR) + STEEP * (_log_odds(m) - logit(ANCHOR)))),
        state("floor", floor, right, floor_draw),
        state("drift, prior none", drifted, right),
        state("drift, prior upper end", drifted, right, prior=(law.prior, high)),
        state("weeks", law, right, weeks_draw),
    ]


def right(margin: np.ndarray) -> np.ndarray:
    """P(unsafe | margin) of the README's law."""
    return unsafe_probability(margin + EDGE)


def _log_odds(margin: np.ndarray) -> np.ndarray:
    return logit(np.clip(right(margin), 1e-200, 1.0 - 1e-16))


def _with_floor(y: np.ndarray) -> np.ndarray:
    return FLOOR + (1.0 - FLOOR) * unsafe_probability(y)


def floor_draw(rng: np.random.Generator, n: int) -> Evidence:
    """Cases of which each may be unsafe for a reason that no margin shows."""
    found = plain_draw(rng, n)
    return Evidence(found.margin, found.label | (rng.random(n) < FLOOR), None, None, np.zeros(n, bool))


def weeks_draw(rng: np.random.Generator, n: int) -> Evidence:
    """Cases of the README's law, whose noise is correlated within a week."""
    block = np.arange(n) // WEEK
    shared = rng.normal(size=block[-1] + 1)[block]
    noise = np.sqrt(1.0 - CORRELATION) * rng.normal(size=n) + np.sqrt(CORRELATION) * shared
    y = rng.normal(size=n)
    label = (y + NOISE * noise > EDGE).astype(np.int64)
    return Evidence(y - EDGE, label, None, None, np.zeros(n, bool), block)
