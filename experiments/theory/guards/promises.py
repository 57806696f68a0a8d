"""Which guarantee a guard gives, counted: every mode calibrated on many small draws of known laws.

Draws of internal test data are calibrated by the guard's own code, every rule on the same draws, and the risk
of what it then accepts is read off the law. Settings:

- plain: the README's law.
- grouped: two groups, calibrated group by group; counted is the small one, 5 % of the cases with a law of its
  own.
- selected: five candidates for a measurement, riskier ones score higher; the event is the selected action.
- coverage: what is accepted must be covered too; the event is both.
- drift: five periods with other prior odds and the same classes, used at the prior of the worst period, with
  no prior given, the largest share observed, or the true interval.

A calibration that stops with an error (a group without unsafe cases, too few cases for coverage) accepts
nothing. Where nothing is accepted the risk counts as 0.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from experiments.support.results.ratios import mean_interval
from experiments.theory.config import PromisesConfig, ShrinkageConfig
from experiments.theory.laws.threshold_laws import (
    EDGE,
    ThresholdLaw,
    draw,
    draw_candidates,
    plain,
    selected,
    unsafe_probability,
)
from safeframe.certificates.cases import clopper_pearson_lower, clopper_pearson_upper
from safeframe.coverage.coverage_guard import CoverageSettings
from safeframe.guard.calibration import calibrate_evidence
from safeframe.guard.evidence import Evidence
from safeframe.guard.report import EVERYTHING
from safeframe.guard.safety_guard import SafetyGuard
from safeframe.guard.settings import Certified, GuardRule, GuardSettings
from safeframe.internal_test import InternalTestData
from safeframe.threshold_rule import Conservative, PlugIn
from safeframe.types import SafeframeError

RULES = ("plug-in", "conservative", "certified")
SMALL, SMALL_SHARE, SMALL_NOISE = "small", 0.05, 0.6
"""The group that is counted, its share of the cases, and the noise of its law."""
CANDIDATES = 5
ODDS = (0.5, 0.75, 1.0, 1.25, 1.5)
"""Of an unsafe case in the five periods, as multiples of the law's."""

Outcome = tuple[float, float]
"""True risk and acceptance of a calibration."""
STOPPED: Outcome = (np.nan, 0.0)
"""Of one that stopped with an error."""


@dataclass(frozen=True)
class Setting:
    """One way in which a guard is used.

    Attributes:
        name: of the setting.
        outcomes: draws n internal test cases, calibrates each rule at each r_t and returns the outcomes,
            (rules, levels) of them.
        best: the largest acceptance that is truly within r_t.
    """

    name: str
    outcomes: Callable[[np.random.Generator, int, list[float]], list[list[Outcome]]]
    best: Callable[[float], float]


def run(config: PromisesConfig, rng: np.random.Generator) -> pd.DataFrame:
    """One row per setting, rule, n and r_t."""
    rows: list[dict[str, Any]] = []
    for setting in settings(config):
        own = rng.spawn(1)[0]
        for n in config.sizes:
            rows += counted(setting, config, own, n, config.r_t)
        if setting.name == "plain":
            rows += counted(setting, config, own, config.large, [config.large_r_t])
    return pd.DataFrame(rows)


def settings(config: PromisesConfig) -> list[Setting]:
    """All of them."""
    law, small, chosen = plain(), plain(SMALL_NOISE), selected(CANDIDATES)
    worst = law.with_prior(_prior(law, max(ODDS)))
    ends = (_prior(law, min(ODDS)), _prior(law, max(ODDS)))
    every = Calibrations(config.delta)
    grouped = Calibrations(config.delta, SMALL, constraint="per_group")
    found = [
        Setting("plain", lambda rng, n, r: every(plain_draw(rng, n), r, law), law.best),
        Setting("grouped", lambda rng, n, r: grouped(grouped_draw(rng, n), r, small), small.best),
        Setting("selected", lambda rng, n, r: every(selected_draw(rng, n), r, chosen), chosen.best),
        covered(config, law),
    ]
    for name, prior in (("none", None), ("observed", "observed"), ("interval", ends)):
        drifted = Calibrations(config.delta, prior=prior)
        found.append(
            Setting(
                f"drift, prior {name}",
                lambda rng, n, r, drifted=drifted: drifted(drift_draw(rng, n, law), r, worst),
                worst.best,
            )
        )
    return found


def _prior(law: ThresholdLaw, factor: float) -> float:
    """P(unsafe) where its odds are a multiple of the law's."""
    odds = factor * law.prior / (1.0 - law.prior)
    return odds / (1.0 + odds)


def plain_draw(rng: np.random.Generator, n: int) -> Evidence:
    """Cases of the README's law."""
    y, label = draw(rng, n)
    return Evidence(y - EDGE, label, None, None, np.zeros(n, bool))


def grouped_draw(rng: np.random.Generator, n: int) -> Evidence:
    """Cases of two groups, of which the small one is noisier."""
    group = np.where(rng.random(n) < SMALL_SHARE, SMALL, "large")
    y, label = draw(rng, n)
    mine = group == SMALL
    y[mine], label[mine] = draw(rng, int(mine.sum()), SMALL_NOISE)
    return Evidence(y - EDGE, label, None, group, np.zeros(n, bool))


def selected_draw(rng: np.random.Generator, n: int) -> Evidence:
    """Measurements with candidates."""
    margin, score, label = draw_candidates(rng, n, CANDIDATES)
    return Evidence(margin, label, score, None, np.zeros(n, bool))


def drift_draw(rng: np.random.Generator, n: int, law: ThresholdLaw) -> Evidence:
    """Cases of five periods, one after the other, as many in each."""
    block = np.arange(n) * len(ODDS) // n
    label = (rng.random(n) < np.array([_prior(law, factor) for factor in ODDS])[block]).astype(np.int64)
    return Evidence(law.sample(rng, label == 1), label, None, None, np.zeros(n, bool), block)


class Calibrations:
    """Calibrates all rules on the same evidence by the guard's own calibration.

    Args:
        delta: of the certified rule; each r_t is certified on its own.
        key: id of the group that is counted.
        more: rules beside those of RULES.
        **chosen: other choices of the guard.
    """

    def __init__(
        self, delta: float, key: Hashable = EVERYTHING, more: Sequence[GuardRule] = (), **chosen: Any
    ) -> None:
        self.delta, self.key, self.more, self.chosen = delta, key, more, chosen

    def __call__(self, evidence: Evidence, levels: list[float], law: ThresholdLaw) -> list[list[Outcome]]:
        """(rules, levels) outcomes under a law."""
        found = []
        for rule, parts in jobs(levels, self.delta) + [(rule, [levels]) for rule in self.more]:
            taus = np.array(
                [t for part in parts for t in calibrated(evidence, rule, part, self.key, **self.chosen)]
            )
            pairs = zip(law.risk(taus), law.acceptance(taus), np.isnan(taus), strict=True)
            found.append([STOPPED if bad else (float(risk), float(rate)) for risk, rate, bad in pairs])
        return found


def calibrated(
    evidence: Evidence, rule: GuardRule, levels: list[float], key: Hashable = EVERYTHING, **chosen: Any
) -> list[float]:
    """Thresholds of one group by the guard's own calibration; NaN where it stops with an error."""
    try:
        _, made = calibrate_evidence(evidence, GuardSettings(tuple(levels), rule, **chosen))
    except SafeframeError:
        return [np.nan] * len(levels)
    return [made[r_t][key].tau if key in made[r_t] else np.nan for r_t in levels]


def jobs(levels: list[float], delta: float) -> list[tuple[GuardRule, list[list[float]]]]:
    """The rules, in the order of RULES, and which r_t go into a calibration together: a certificate's delta
    would be shared out among them.
    """
    apart = [[r_t] for r_t in levels]
    return [(PlugIn(), [levels]), (Conservative(), [levels]), (Certified(delta), apart)]


def covered(config: PromisesConfig, law: ThresholdLaw) -> Setting:
    """Guards with a coverage test. Their region is known only as a function, so risks are means over one
    fixed low-discrepancy sample of measurements, with P(unsafe | measurement) in the place of labels.
    """
    power = int(np.log2(config.points))
    fixed = stats.norm.ppf(stats.qmc.Sobol(3, scramble=True, rng=0).random_base2(power))
    risk = unsafe_probability(fixed[:, 0])

    def outcomes(rng: np.random.Generator, n: int, levels: list[float]) -> list[list[Outcome]]:
        y, label = draw(rng, n)
        data = InternalTestData(np.column_stack([y, rng.normal(size=(n, 2))]), label)
        found = []
        for rule, parts in jobs(levels, config.delta):
            guard = SafetyGuard(
                lambda m: m[:, 0], _logits, data, parts[0], 0.0, rule=rule,
                coverage=CoverageSettings(config.epsilon, config.delta),
            )  # fmt: skip
            try:
                guard.calibrate()
            except SafeframeError:
                found.append([STOPPED] * len(levels))
                continue
            assert guard.coverage is not None
            assert guard.evidence is not None
            inside = guard.coverage.covers(fixed)
            taus = [tau for part in parts for tau in calibrated(guard.evidence, rule, part)]
            kept = [inside & (fixed[:, 0] - EDGE < tau) for tau in taus]
            found.append([(float(risk[k].mean()) if k.any() else 0.0, float(k.mean())) for k in kept])
        return found

    return Setting("coverage", outcomes, law.best)


def _logits(measurement: np.ndarray) -> np.ndarray:
    """(n, 2) logits of which the margin is y_0 - 1."""
    return np.column_stack([np.zeros(len(measurement)), measurement[:, 0] - EDGE])


def broken_promises(ratio: np.ndarray, nominal: float) -> dict[str, Any]:
    """How often, and by how much on average, the true risk was above what was promised.

    ratio: (repeats,) true risk over r_t; nominal: the share that may be above, NaN where none is stated.
    Intervals: 95 %, Clopper-Pearson and t.
    """
    repeats, broken = len(ratio), int((ratio > 1.0 + 1e-9).sum())
    mean, low, high = mean_interval(ratio)
    return {
        "repeats": repeats,
        "broken": broken,
        "share_broken": broken / repeats,
        "broken_low": clopper_pearson_lower(broken, repeats, 0.025),
        "broken_high": clopper_pearson_upper(broken, repeats, 0.025),
        "nominal": nominal,
        "mean_ratio": mean,
        "ratio_low": low,
        "ratio_high": high,
    }


def counted(
    setting: Setting,
    config: PromisesConfig | ShrinkageConfig,
    rng: np.random.Generator,
    n: int,
    levels: list[float],
    rules: Sequence[str] = RULES,
) -> list[dict[str, Any]]:
    """One row per rule and r_t: broken promises, mean true risk over r_t, acceptance, refusals."""
    # (repeats, rules, levels, 2)
    found = np.array([setting.outcomes(rng, n, levels) for _ in range(config.repeats)])
    stopped = np.isnan(found[..., 0])
    risk, acceptance = np.where(stopped, 0.0, found[..., 0]), found[..., 1]
    rows = []
    for i, rule in enumerate(rules):
        for j, r_t in enumerate(levels):
            rows.append(
                {"setting": setting.name, "rule": rule, "n": n, "r_t": r_t}
                | broken_promises(risk[:, i, j] / r_t, config.delta if rule == "certified" else np.nan)
                | {
                    "acceptance": float(acceptance[:, i, j].mean()),
                    "best": setting.best(r_t),
                    "refused": int((acceptance[:, i, j] == 0.0).sum()),
                    "stopped": int(stopped[:, i, j].sum()),
                }
            )
    return rows
