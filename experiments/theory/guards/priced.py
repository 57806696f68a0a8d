"""Risk priced instead of gated, on a law whose risks are known: what it earns at equal risk, and its promise.

A measurement has c candidates. The log odds z that a candidate is unsafe are N(CENTRE, SPREAD^2), and its
reward rises with z: correlation RISE, so that the best-rewarded candidates are the risky ones. The default
action earns 0. Classifiers (their margins are what guard and price see):

- good: margin z, of which a logistic map is the true probability;
- noisy: margin z + noise, so that risks of single candidates are hardly known;
- bent: margin a bent monotone map of z, of which a logistic map understates the risk in the safe tail and
  overstates it in the other: order right, probabilities wrong.

In hindsight: every rule has the knob (threshold, or price and level charged from) that earns most with a true
risk of at most r_t, on one large sample with P(unsafe | candidate) in the place of labels; the oracle prices
the true probability. Calibrated: draws of internal test data are calibrated by the guard's own code, and
reward and risk of what it then does are read off the large sample. Gated means the best-rewarded candidate
below the threshold; one that earns less than the default action is not offered.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from experiments.support.results.ratios import mean_interval
from experiments.theory.config import PricedConfig
from safeframe.certificates.cases import clopper_pearson_lower, clopper_pearson_upper
from safeframe.guard.calibration import calibrate_evidence
from safeframe.guard.evidence import Evidence
from safeframe.guard.report import EVERYTHING, GuardCalibration
from safeframe.guard.settings import Certified, GuardChoice, GuardRule, GuardSettings, Priced
from safeframe.priced.envelope import chosen, walk
from safeframe.priced.rule import CHARGES
from safeframe.priced.sweep import present_risk
from safeframe.risk_scale import LogisticRisk
from safeframe.threshold_rule import Conservative, PlugIn
from safeframe.types import SafeframeError

CENTRE, SPREAD, RISE, NOISE = -5.0, 2.0, 0.7, 2.0
CLASSIFIERS = ("good", "noisy", "bent")
CHOICES: dict[str, GuardChoice] = {"gated": "gated", "priced": Priced()}
GATES = 400
"""Thresholds that are tried in hindsight."""


class Draw(NamedTuple):
    """Measurements with candidates.

    Attributes:
        margin: (n, c) what the classifier says.
        reward: (n, c), -inf where below that of the default action.
        truth: (n, c) P(unsafe | candidate).
    """

    margin: np.ndarray
    reward: np.ndarray
    truth: np.ndarray


class Outcome(NamedTuple):
    """What a rule does on the large sample."""

    reward: float
    risk: float
    acted: float


def draw(rng: np.random.Generator, n: int, c: int, classifier: str) -> Draw:
    """n measurements with c candidates."""
    normal = rng.normal(size=(n, c))
    reward = RISE * normal + np.sqrt(1.0 - RISE**2) * rng.normal(size=(n, c))
    z = CENTRE + SPREAD * normal
    margin = {
        "good": z,
        "noisy": z + NOISE * rng.normal(size=(n, c)),
        "bent": np.where(normal < 0.0, 4.0 * normal, normal),
    }[classifier]
    return Draw(margin, np.where(reward < 0.0, -np.inf, reward), 1.0 / (1.0 + np.exp(-z)))


def run(config: PricedConfig, rng: np.random.Generator) -> pd.DataFrame:
    """One row per classifier, number of candidates, r_t, choice (gated, priced, oracle) and rule."""
    rows: list[dict[str, Any]] = []
    for classifier in CLASSIFIERS:
        for c in config.candidates:
            own = rng.spawn(1)[0]
            sample = draw(own, config.sample, c, classifier)
            fit = draw(own, config.sample, c, classifier)
            where = {"classifier": classifier, "candidates": c, "n": config.cases}
            for r_t in config.r_t:
                for choice, outcome in hindsight(sample, fit, own, r_t):
                    rows.append(row(where, r_t, choice, "hindsight", [outcome], np.nan))
            for (choice, rule, r_t), outcomes in calibrated(config, own, sample, classifier, c).items():
                nominal = config.delta if rule == "certified" else np.nan
                rows.append(row(where, r_t, choice, rule, outcomes, nominal))
    return pd.DataFrame(rows)


def row(
    where: dict[str, Any], r_t: float, choice: str, rule: str, outcomes: list[Outcome], nominal: float
) -> dict[str, Any]:
    """Mean reward with its interval over the draws, mean risk over r_t, and broken promises."""
    reward, risk, acted = (np.array(column) for column in zip(*outcomes, strict=True))
    ratio, repeats = risk / r_t, len(outcomes)
    mean, low, high = mean_interval(reward) if repeats > 1 else (float(reward[0]), np.nan, np.nan)
    over, over_low, over_high = mean_interval(ratio) if repeats > 1 else (float(ratio[0]), np.nan, np.nan)
    broken = int((ratio > 1.0 + 1e-9).sum())
    return {
        **where,
        "r_t": r_t,
        "choice": choice,
        "rule": rule,
        "repeats": repeats,
        "reward": mean,
        "reward_low": low,
        "reward_high": high,
        "mean_ratio": over,
        "ratio_low": over_low,
        "ratio_high": over_high,
        "acted": float(acted.mean()),
        "broken": broken,
        "broken_low": clopper_pearson_lower(broken, repeats, 0.025),
        "broken_high": clopper_pearson_upper(broken, repeats, 0.025),
        "nominal": nominal,
        "refused": int((acted == 0.0).sum()),
    }


def seen(sample: Draw, index: np.ndarray) -> Outcome:
    """Reward and true risk where candidate ``index`` is taken, c for the default action."""
    acted = np.flatnonzero(index < sample.margin.shape[1])
    reward = sample.reward[acted, index[acted]].sum() / len(index)
    risk = sample.truth[acted, index[acted]].mean() if len(acted) else 0.0
    return Outcome(float(reward), float(risk), len(acted) / len(index))


def hindsight(sample: Draw, fit: Draw, rng: np.random.Generator, r_t: float) -> Iterator[tuple[str, Outcome]]:
    """The best knob of every choice with a true risk of at most r_t; p is fitted on other measurements."""
    c = sample.margin.shape[1]
    outcomes = []
    for tau in np.quantile(sample.margin, np.linspace(0.0, 1.0, GATES)):
        reward = np.where(sample.margin < tau, sample.reward, -np.inf)
        best = np.where(reward.max(axis=1) > -np.inf, reward.argmax(axis=1), c)
        outcomes.append(seen(sample, best))
    yield "gated", best_within(outcomes, r_t)
    label = rng.random(fit.truth.shape) < fit.truth
    risk = LogisticRisk.fit(fit.margin.ravel(), label.ravel()).probability(sample.margin)
    yield "priced", best_price(sample, risk, r_t, CHARGES)
    yield "oracle", best_price(sample, sample.truth, r_t, (1.0,))


def best_within(outcomes: list[Outcome], r_t: float) -> Outcome:
    """The outcome of most reward among those within r_t; doing nothing is always one."""
    return max([Outcome(0.0, 0.0, 0.0), *(one for one in outcomes if one.risk <= r_t)])


def best_price(sample: Draw, risk: np.ndarray, r_t: float, charges: tuple[float, ...]) -> Outcome:
    """The best of all prices and levels: true risk at every price from one walk."""
    found, c = [], sample.margin.shape[1]
    pad = np.zeros((len(risk), 1))
    truth, reward = np.hstack([sample.truth, pad]), np.hstack([sample.reward, pad])
    for share in charges:
        parts = [
            np.array(
                [
                    changes.price,
                    *(
                        table[changes.row, changes.after] - table[changes.row, changes.before]
                        for table in (truth, reward)
                    ),
                    (changes.after < c).astype(float) - (changes.before < c),
                ]
            )
            for changes in walk(risk, sample.reward, share * r_t, 0.0)
        ]
        price, bad, earned, acted = np.concatenate(parts, axis=1)
        order = np.argsort(price, kind="stable")
        last = np.append(np.diff(price[order]) > 0.0, True)
        bad, earned, acted = (np.cumsum(step[order])[last] for step in (bad, earned, acted))
        within = np.flatnonzero((bad <= r_t * acted) & (acted > 0.5))
        if len(within):
            at = within[int(np.argmax(earned[within]))]
            n = len(risk)
            found.append(Outcome(float(earned[at] / n), float(bad[at] / acted[at]), float(acted[at] / n)))
    return best_within(found, r_t)


def calibrated(
    config: PricedConfig, rng: np.random.Generator, sample: Draw, classifier: str, c: int
) -> dict[tuple[str, str, float], list[Outcome]]:
    """Outcomes of every draw by choice, rule and r_t; every rule is calibrated on the same draws."""
    found: dict[tuple[str, str, float], list[Outcome]] = {}
    for _ in range(config.repeats):
        cases = draw(rng, config.cases, c, classifier)
        label = (rng.random(cases.truth.shape) < cases.truth).astype(np.int64)
        evidence = Evidence(cases.margin, label, cases.reward, None, np.zeros(len(label), bool))
        for choice, setting in CHOICES.items():
            for rule, parts in jobs(config):
                for levels in parts:
                    made = calibrations(evidence, rule, levels, setting)
                    for r_t, one in zip(levels, made, strict=True):
                        name = {PlugIn: "plug-in", Conservative: "conservative"}.get(type(rule), "certified")
                        found.setdefault((choice, name, r_t), []).append(act(sample, one))
    return found


def jobs(config: PricedConfig) -> list[tuple[GuardRule, list[list[float]]]]:
    """The rules, and which r_t go into a calibration together: delta would be shared out among them."""
    levels = list(config.r_t)
    return [
        (PlugIn(), [levels]),
        (Conservative(), [levels]),
        (Certified(config.delta), [[r] for r in levels]),
    ]


def calibrations(
    evidence: Evidence, rule: GuardRule, levels: list[float], choice: GuardChoice
) -> list[GuardCalibration | None]:
    """By the guard's own calibration; None where it stops with an error."""
    try:
        _, made = calibrate_evidence(evidence, GuardSettings(tuple(levels), rule, choice=choice))
    except SafeframeError:
        return [None] * len(levels)
    return [made[r_t][EVERYTHING] for r_t in levels]


def act(sample: Draw, found: GuardCalibration | None) -> Outcome:
    """What a calibrated guard does on the large sample."""
    if found is None or not found.feasible:
        return Outcome(0.0, 0.0, 0.0)
    terms, c = found.priced, sample.margin.shape[1]
    if terms is None:
        reward = np.where(sample.margin < found.tau, sample.reward, -np.inf)
        return seen(sample, np.where(reward.max(axis=1) > -np.inf, reward.argmax(axis=1), c))
    assert terms.scale is not None
    risk, reward = present_risk(sample.margin, sample.reward, terms.scale, terms.gate)
    return seen(sample, chosen(risk, reward, terms.price, terms.charged_from, terms.default_reward))
