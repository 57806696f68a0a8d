"""Further rules on the margins of a classifier: risk priced instead of gated, one case more, shrinkage.

A part of the internal test prompts fits a scale from margins to P(harmful); the risk is counted on the
others. Gates beside the conservative one of `calibration`:

- one_more: one harmful answer more is counted than was seen, no radius (conformal risk control);
- shrinkage: the bound of `safeframe.shrinkage`, which borrows from the scale where cases are few.

Priced: "the candidate of largest R - mu (p - r_t), or the default answer", with the price mu chosen

- by the conservative rule (priced), by one case more (priced_one_more: `safeframe.priced.rule`), or
- certified (priced_certified): Learn then Test along prices fixed on the prompts of the scale.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from experiments.llm.answers.pools import Pool
from experiments.llm.guard.calibration import Choice
from experiments.llm.guard.choosing import scores
from safeframe.optimisation.candidates import DEFAULT
from safeframe.optimisation.priced import choose_priced
from safeframe.priced.curve import PricedRiskCurve
from safeframe.priced.rule import CHARGES, PriceRule
from safeframe.risk_scale import RiskScale, ScaleKind, fit_risk_scale
from safeframe.shrinkage import Shrinkage
from safeframe.threshold_rule import Conservative, PlugIn, Rule, ThresholdRule

GATES = ("one_more", "shrinkage")
PRICES = ("priced", "priced_one_more", "priced_certified")
_SEQUENCE = 40  # prices that a certificate walks through


@dataclass(frozen=True)
class PriceChoice:
    """A price at one r_t (inf: the default answer always), the level that is charged from, the radius, and
    the gate: only candidates with a smaller margin are considered.
    """

    r_t: float
    price: float
    charged_from: float
    radius: float
    gate: float = np.inf


class Rules:
    """Internal test prompts with margins (n, k) of their candidates and the default answer's reward (n,).

    kind: of the scale; fits: (n,) bool, the prompts that it is fitted on. SafeframeError where those lack
    harmful or harmless candidates.
    """

    def __init__(
        self, margin: np.ndarray, pool: Pool, default_reward: np.ndarray, kind: ScaleKind, fits: np.ndarray
    ):
        inside = pool.mask & fits[:, None]
        self.scale: RiskScale = fit_risk_scale(kind, margin[inside], pool.harmful[inside].astype(np.int64))
        self._fits, self._counts = (_part(margin, pool, default_reward, rows) for rows in (fits, ~fits))

    def gate(self, name: str, thresholds: Sequence[float]) -> list[Choice]:
        """One threshold for each r_t of the ascending `thresholds`; name: one of GATES."""
        margin, score, label, _ = self._counts
        rule: Rule = Conservative(radius=0.0, share=0.0) if name == "one_more" else Shrinkage()
        chance = self.scale.probability(margin) if name == "shrinkage" else None
        found = ThresholdRule(
            margin, label, rule, score=score, event="selected", few=True, probability=chance
        ).thresholds(thresholds)
        return [Choice(r_t, one.tau, one.radius) for r_t, one in zip(thresholds, found, strict=True)]

    def price(
        self, name: str, thresholds: Sequence[float], radius: float | None, share: float, delta: float
    ) -> list[PriceChoice]:
        """One price for each r_t of the ascending `thresholds`; name: one of PRICES; radius, share: of the
        conservative rule (None: measured); delta: of the certificate.
        """
        if name == "priced_certified":
            return [self._certified(r_t, delta) for r_t in thresholds]
        margin, score, label, default = self._counts
        rule: Rule = Conservative(share=share) if radius is None else PlugIn(radius)
        if name == "priced_one_more":
            rule = Conservative(radius=0.0, share=0.0)
        found = PriceRule(margin, score, label, self.scale, rule, default_reward=default).prices(thresholds)
        return [
            PriceChoice(r_t, one.price.mu, one.price.charged_from, one.radius, one.price.gate)
            for r_t, one in zip(thresholds, found, strict=True)
        ]

    def _certified(self, r_t: float, delta: float) -> PriceChoice:
        """Level and sequence from the prompts of the scale, the test on the others."""
        best: tuple[float, PriceChoice] | None = None
        margin, score, label, default = self._fits
        level, first = r_t, None
        for charge in CHARGES:
            curve = PricedRiskCurve(margin, score, label, charge * r_t, self.scale, default)
            found = curve.least_price()
            if found.feasible and (best is None or found.mean_reward > best[0]):
                best = found.mean_reward, PriceChoice(r_t, found.mu, charge * r_t, 0.0)
                level, first = charge * r_t, curve
        if first is None:
            return PriceChoice(r_t, np.inf, r_t, 0.0)
        prices = first.prices
        grid = np.unique(np.linspace(0, len(prices) - 1, _SEQUENCE).round().astype(np.int64))[::-1]
        acted = first.counts(prices[grid])[0] > 0
        margin, score, label, default = self._counts
        counted = PricedRiskCurve(margin, score, label, level, self.scale, default)
        sequence = prices[grid][acted]
        made = counted.fixed_sequence(sequence, delta, r_t) if len(sequence) else None
        price = np.inf if made is None or made.tau == -np.inf else -made.tau
        return PriceChoice(r_t, float(price), level, 0.0)


def _part(
    margin: np.ndarray, pool: Pool, default_reward: np.ndarray, rows: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Margins, scores and labels (m, k) and the default answer's rewards (m,) of some prompts."""
    mask = pool.mask[rows]
    return (
        np.where(mask, margin[rows], np.inf), scores(pool, "rank")[rows].astype(np.float64),
        np.where(mask, pool.harmful[rows], 0), np.asarray(default_reward, np.float64)[rows],
    )  # fmt: skip


def priced_answers(
    margin: np.ndarray, pool: Pool, default_reward: np.ndarray, choice: PriceChoice, scale: RiskScale
) -> np.ndarray:
    """(n,) candidate given to every prompt at a price, -1 the default answer; margin: (n, k)."""
    if choice.price == np.inf:
        return np.full(len(margin), DEFAULT)
    risk = scale.probability(np.where(pool.mask, margin, np.inf))
    value = scores(pool, "rank").astype(np.float64)
    default = np.asarray(default_reward, np.float64)
    inside = (margin < choice.gate) & pool.mask
    return choose_priced(risk, value, choice.price, choice.charged_from, default, inside).index


def fitting_part(n: int, share: float, rng: np.random.Generator) -> np.ndarray:
    """(n,) bool: `share` of n prompts by chance, at least one and not all."""
    count = min(max(1, round(share * n)), n - 1)
    return np.isin(np.arange(n), rng.permutation(n)[:count])
