"""From internal test data to thresholds tau for every r_t.

The event that is bounded is "the selected action is unsafe": the policy draws among the accepted candidates,
which is taking the highest log-probability plus Gumbel noise (`safeframe.selected_risk`), so the risk of the
rule itself is known at every tau. The guard changes where the agent goes, so the data come from several
behaviours (rounds), and a tau must keep r_t on the data of every one of them: group-conditional testing over
behaviours. On each of them the rule is `safeframe.threshold_rule`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from experiments.safetygym.agents.agent import Agent
from experiments.safetygym.guard.choices import Calibrated, most_permissive
from experiments.safetygym.guard.classifier import Classifier
from experiments.safetygym.states.internal_data import Shard
from safeframe.informativeness import alternating_runs
from safeframe.risk_curve import RiskCurve
from safeframe.selected_risk import SelectedRiskCurve
from safeframe.threshold_rule import Rule, ThresholdRule
from safeframe.types import SQRT2, SafeframeError

MODES = ("selected", "accepted")
GRID = 4000
STRETCHES = 20
"""Stretches of consecutive states that alternate between the halves a radius is measured between."""
_BLOCK = 50_000


@dataclass(frozen=True)
class _Cases:
    """Margins, labels and scores of one behaviour: (n, k) of states, or flat (n,) of labelled cases."""

    margin: np.ndarray
    unsafe: np.ndarray
    score: np.ndarray

    @staticmethod
    def of(classifier: Classifier, agent: Agent, shard: Shard, mode: str, seed: int) -> _Cases:
        margin, unsafe = classifier.margin(np.asarray(shard.observation)), np.asarray(shard.unsafe)
        if mode == "accepted":
            known = unsafe >= 0
            return _Cases(margin[known], unsafe[known].astype(np.int64), np.empty(0))
        if (unsafe < 0).any():
            raise SafeframeError("calibrate=selected needs every candidate labelled: use backup labels")
        return _Cases(margin, unsafe, gumbel_scores(agent, np.asarray(shard.observation), seed))

    @staticmethod
    def join(parts: list[_Cases]) -> _Cases:
        if len(parts) == 1:
            return parts[0]
        return _Cases(
            *(np.concatenate([getattr(p, n) for p in parts]) for n in ("margin", "unsafe", "score"))
        )


class Calibration:
    """Thresholds by one rule on the data of several behaviours.

    Data without an unsafe case say nothing about risk: every bound is 1, and no r_t can be kept. The same
    holds where a radius is to be measured and a half of the data lacks a class.

    Args:
        classifier: gives the margins.
        agent: gives the scores of the candidates in mode "selected".
        data: one `Shard` per behaviour.
        rule: from margins to thresholds, on every behaviour: `PlugIn(xi)` is the paper's, `Conservative()`
            that of the house.
        mode: "selected": all candidates must be labelled, the agent's probabilities are the scores;
            "accepted": the paper's, over labelled cases alone.
        seed: of the draws.

    Raises:
        SafeframeError: for data without a safe case, an unknown mode, or unlabelled candidates in mode
            "selected".
    """

    def __init__(
        self,
        classifier: Classifier,
        agent: Agent,
        data: Sequence[Shard],
        rule: Rule,
        mode: str = "selected",
        seed: int = 0,
    ):
        if mode not in MODES:
            raise SafeframeError(f"calibrate={mode!r}; known: {', '.join(MODES)}")
        self.rule, self.mode = rule, mode
        joined = _with_both_classes(data)
        self.cases = [_Cases.of(classifier, agent, shard, mode, seed + i) for i, shard in enumerate(joined)]
        self._rules: dict[tuple[int, ...], ThresholdRule] = {}
        self._bounds: dict[tuple[tuple[int, ...], float], np.ndarray] = {}
        self._grids: dict[float, np.ndarray] = {}

    def _rule(self, group: tuple[int, ...]) -> ThresholdRule:
        """The rule on the joined data of some behaviours."""
        if group not in self._rules:
            cases = _Cases.join([self.cases[i] for i in group])
            odd = alternating_runs(len(cases.margin), STRETCHES)
            if self.mode == "accepted":
                found = ThresholdRule(cases.margin, cases.unsafe, self.rule, odd, few=True)
            else:
                found = ThresholdRule(
                    cases.margin, cases.unsafe, self.rule, odd, cases.score, "selected", few=True
                )
            self._rules[group] = found
        return self._rules[group]

    def _at(self, r_t: float) -> float:
        """The r_t that curves depend on: none where the radius is given."""
        return r_t if self.rule.radius == "measured" else 1.0

    def radius(self, r_t: float) -> float:
        """xi for r_t in logits, the largest over behaviours; 0 where there is nothing to measure."""
        if self.rule.radius != "measured":
            return float(self.rule.radius)
        rules = [self._rule(group) for group in self.partition(r_t)]
        return max((rule.radius(r_t) for rule in rules if not rule.refused), default=0.0)

    def grid(self, r_t: float) -> np.ndarray:
        """Thresholds among which that for r_t is found, ascending: quantiles of the unsafe margins, moved by
        the radius either way, and inf."""
        if self._at(r_t) in self._grids:
            return self._grids[self._at(r_t)]
        shift = SQRT2 * self.radius(r_t)
        edges = np.concatenate([cases.margin[cases.unsafe == 1] for cases in self.cases] or [np.empty(0)])
        edges = np.concatenate([edges - shift, edges + shift])
        if len(edges):
            edges = np.unique(np.quantile(edges, np.linspace(0.0, 1.0, GRID)))
        return self._grids.setdefault(self._at(r_t), np.append(edges, np.inf))

    def _curve(self, group: tuple[int, ...], r_t: float) -> SelectedRiskCurve | RiskCurve | None:
        """The curve of a group with what r_t adds to it; None where nothing is promised."""
        rule = self._rule(group)
        return None if rule.refused else rule.curve(self._at(r_t))

    def _bounds_of(self, group: tuple[int, ...], r_t: float, grid: np.ndarray) -> np.ndarray:
        """(grid,) bounds, computed once for each group of behaviours and r_t."""
        key = (group, self._at(r_t))
        if key not in self._bounds:
            curve = self._curve(group, r_t)
            self._bounds[key] = np.ones(len(grid)) if curve is None else curve.bound(grid)
        return self._bounds[key]

    def partition(self, r_t: float) -> tuple[tuple[int, ...], ...]:
        """Behaviours that r_t is judged on: each alone that has at least 1 / r_t cases; the others, in which
        one unsafe case would already exceed r_t, together."""
        large = [i for i, cases in enumerate(self.cases) if len(cases.margin) * r_t >= 1]
        small = tuple(i for i in range(len(self.cases)) if i not in large)
        return (*((i,) for i in large), *((small,) if small else ()))

    def threshold(self, r_t: float) -> Calibrated:
        """The largest tau on a grid of quantiles of the unsafe margins whose bound is at most r_t for every
        behaviour (see `partition`)."""
        radius = self.radius(r_t)
        nothing = Calibrated(r_t, -np.inf, 1.0, 0.0, False, radius)
        if not self.cases:
            return nothing
        grid = self.grid(r_t)
        bounds = np.stack([self._bounds_of(group, r_t, grid) for group in self.partition(r_t)])
        kept = np.flatnonzero((bounds <= r_t).all(axis=0))
        if not len(kept):
            return nothing
        tau = float(grid[kept[-1]])
        rates = []
        for i in range(len(self.cases)):
            rule = self._rule((i,))
            if rule.refused:
                continue
            accepted = self.mode == "accepted"
            rates.append(rule.plain.acceptance(tau) if accepted else rule.plain_selected.selection_rate(tau))
        acceptance = float(np.mean(rates)) if rates else 0.0
        return Calibrated(r_t, tau, float(bounds[:, kept[-1]].max()), acceptance, True, radius)

    def thresholds(self, levels: Sequence[float]) -> dict[float, Calibrated]:
        """One choice for each r_t, ascending: of all thresholds up to it, the most permissive, as
        `ThresholdRule.thresholds`."""
        return most_permissive(self.threshold, levels)

    def bound(self, tau: float, r_t: float = 1.0) -> np.ndarray:
        """(behaviours,) bounds at tau, with what r_t adds to them."""
        curves = [self._curve((i,), r_t) for i in range(len(self.cases))]
        return np.array([1.0 if curve is None else float(curve.bound(tau)) for curve in curves])

    def level(self, margin: np.ndarray, r_t: float = 1.0) -> np.ndarray:
        """The smallest level at which a candidate of each margin would be accepted (1 if none is below 1),
        with what r_t adds to the bounds."""
        if not self.cases:
            return np.ones(np.shape(margin))
        grid = self.grid(r_t)
        bounds = np.stack([self._bounds_of((i,), r_t, grid) for i in range(len(self.cases))])
        least = np.minimum.accumulate(bounds.max(axis=0)[::-1])[::-1]
        first = np.searchsorted(grid, margin, side="right")
        return np.append(least, 1.0)[first]

    def reliability(self) -> pd.DataFrame:
        """Labelled candidates by margin (`reliability`)."""
        return reliability([case.margin for case in self.cases], [case.unsafe for case in self.cases])


def reliability(margins: list[np.ndarray], unsafe: list[np.ndarray], bins: int = 120) -> pd.DataFrame:
    """Labelled candidates by margin: rows low, high (margins), n, unsafe; bins equally wide between the
    smallest unsafe margin less a tenth of its range and the largest unsafe one. Empty without any."""
    if not margins:
        return pd.DataFrame(columns=["low", "high", "n", "unsafe"])
    margin = np.concatenate([part.ravel() for part in margins])
    bad = np.concatenate([part.ravel() for part in unsafe]) == 1
    low, high = margin[bad].min(), margin[bad].max()
    edges = np.linspace(low - 0.1 * (high - low) - 1e-6, high + 1e-6, bins + 1)
    n, some = (np.histogram(part, edges)[0] for part in (margin, margin[bad]))
    return pd.DataFrame({"low": edges[:-1], "high": edges[1:], "n": n, "unsafe": some})


def _with_both_classes(data: Sequence[Shard]) -> list[Shard]:
    """Behaviours, those in which no candidate was unsafe (or none safe) joined to a neighbour: they are too
    small to be judged alone; none if nothing at all is unsafe. Raises SafeframeError if nothing is safe."""
    if not any((np.asarray(shard.unsafe) == 1).any() for shard in data):
        return []
    groups: list[list[Shard]] = []
    for shard in data:
        unsafe = np.asarray(shard.unsafe)
        if groups and not ((unsafe == 1).any() and (unsafe == 0).any()):
            groups[-1].append(shard)
        else:
            groups.append([shard])
    joined = [
        Shard(
            *(
                np.concatenate([np.asarray(getattr(s, name)) for s in group])
                for name in ("observation", "unsafe")
            )
        )
        for group in groups
    ]
    first = joined[0].unsafe
    if len(joined) > 1 and not ((first == 1).any() and (first == 0).any()):
        return _with_both_classes([*joined[1:], joined[0]])
    if not (first == 0).any():
        raise SafeframeError(
            f"all {first.size} internal test cases are unsafe; safe ones are needed too: collect more (n_t)"
        )
    return joined


def gumbel_scores(agent: Agent, observation: np.ndarray, seed: int) -> np.ndarray:
    """log pi + Gumbel noise (n, k): the accepted candidate with the highest score is a draw from the policy
    restricted to the accepted ones."""
    generator = np.random.default_rng([seed, 17])
    parts = []
    for start in range(0, len(observation), _BLOCK):
        probability = agent.candidate_probabilities(observation[start : start + _BLOCK])
        parts.append(np.log(np.maximum(probability, 1e-300)) + generator.gumbel(size=probability.shape))
    return np.concatenate(parts)
