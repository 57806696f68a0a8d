"""From internal test data to thresholds tau for every r_t.

The event that is bounded is "the selected action is unsafe": the policy draws among the accepted candidates,
which is taking the highest log-probability plus Gumbel noise (`safeframe.selected_risk`), so the risk of the
rule itself is known at every tau. The guard changes where the agent goes, so the data come from several
behaviours (rounds), and a tau must keep r_t on the data of every one of them: group-conditional testing over
behaviours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from experiments.safetygym.agents.agent import Agent
from experiments.safetygym.guard.classifier import Classifier
from experiments.safetygym.states.internal_data import Shard
from safeframe.informativeness import HalvesRadius
from safeframe.risk_curve import RiskCurve
from safeframe.selected_risk import SelectedRiskCurve
from safeframe.threshold_rule import one_more
from safeframe.types import SAFE, SQRT2, UNSAFE, SafeframeError

MODES = ("selected", "accepted")
GRID = 4000
_BLOCK = 50_000


@dataclass(frozen=True)
class Calibrated:
    """tau for r_t (or one for every candidate, (k,)), the bound there (the largest over behaviours), the
    share of states in which something is accepted, and whether r_t can be kept at all (otherwise tau is -inf:
    the default action always)."""

    r_t: float
    tau: float | np.ndarray
    bound: float
    acceptance: float
    feasible: bool


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
    """Risk curves of the data of several behaviours.

    Data without an unsafe case say nothing about risk: every bound is 1, and no r_t can be kept.

    Args:
        classifier: gives the margins.
        agent: gives the scores of the candidates in mode "selected".
        data: one `Shard` per behaviour.
        radius: xi in logits.
        mass: what a measured radius leaves out; it is added to every bound, and one unsafe case more than was
            seen is counted (`safeframe.threshold_rule`). None: the radius and nothing else.
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
        radius: float,
        mode: str = "selected",
        seed: int = 0,
        mass: float | None = None,
    ):
        if mode not in MODES:
            raise SafeframeError(f"calibrate={mode!r}; known: {', '.join(MODES)}")
        self.radius, self.mode, self.mass = radius, mode, mass
        joined = _with_both_classes(data)
        self.cases = [_Cases.of(classifier, agent, shard, mode, seed + i) for i, shard in enumerate(joined)]
        edges = np.concatenate([cases.margin[cases.unsafe == 1] for cases in self.cases] or [np.empty(0)])
        edges = np.concatenate([edges - SQRT2 * radius, edges + SQRT2 * radius])
        if len(edges):
            edges = np.unique(np.quantile(edges, np.linspace(0.0, 1.0, GRID)))
        self.grid = np.append(edges, np.inf)
        self._bounds: dict[tuple[int, ...], np.ndarray] = {}
        self.curves = [self._curve((i,)) for i in range(len(self.cases))]
        self.bounds = self._bounds_of(tuple((i,) for i in range(len(self.cases))))

    def _curve(self, group: tuple[int, ...]) -> SelectedRiskCurve | RiskCurve:
        cases = _Cases.join([self.cases[i] for i in group])
        slack, more = self.mass or 0.0, self.mass is not None
        if self.mode == "accepted":
            slack += one_more(int((cases.unsafe == 1).sum())) if more else 0.0
            return RiskCurve(cases.margin, cases.unsafe, radius=self.radius, slack=slack)
        return SelectedRiskCurve(
            cases.margin, cases.score, cases.unsafe, self.radius, slack=slack, one_more=more
        )

    def _bounds_of(self, partition: tuple[tuple[int, ...], ...]) -> np.ndarray:
        """(groups, grid) bounds, computed once for each group of behaviours; 1 without any."""
        if not partition:
            return np.ones((1, len(self.grid)))
        for group in partition:
            if group not in self._bounds:
                curve = self.curves[group[0]] if len(group) == 1 else self._curve(group)
                self._bounds[group] = curve.bound(self.grid)
        return np.stack([self._bounds[group] for group in partition])

    def partition(self, r_t: float) -> tuple[tuple[int, ...], ...]:
        """Behaviours that r_t is judged on: each alone that has at least 1 / r_t cases; the others, in which
        one unsafe case would already exceed r_t, together."""
        large = [i for i, cases in enumerate(self.cases) if len(cases.margin) * r_t >= 1]
        small = tuple(i for i in range(len(self.cases)) if i not in large)
        return (*((i,) for i in large), *((small,) if small else ()))

    def threshold(self, r_t: float) -> Calibrated:
        """The largest tau on a grid of quantiles of the unsafe margins whose bound is at most r_t for every
        behaviour (see `partition`)."""
        if not self.cases:
            return Calibrated(r_t, -np.inf, 1.0, 0.0, False)
        bounds = self._bounds_of(self.partition(r_t))
        kept = np.flatnonzero((bounds <= r_t).all(axis=0))
        if not len(kept):
            return Calibrated(r_t, -np.inf, 1.0, 0.0, False)
        tau = float(self.grid[kept[-1]])
        rates = [
            curve.selection_rate(tau) if isinstance(curve, SelectedRiskCurve) else curve.acceptance(tau)
            for curve in self.curves
        ]
        return Calibrated(r_t, tau, float(bounds[:, kept[-1]].max()), float(np.mean(rates)), True)

    def bound(self, tau: float) -> np.ndarray:
        """(behaviours,) bounds at tau."""
        return np.array([float(curve.bound(tau)) for curve in self.curves])

    def reliability(self) -> pd.DataFrame:
        """Labelled candidates by margin (`reliability`)."""
        return reliability([case.margin for case in self.cases], [case.unsafe for case in self.cases])

    def level(self, margin: np.ndarray) -> np.ndarray:
        """The smallest r_t at which a candidate of each margin would be accepted (1 if none is below 1)."""
        least = np.minimum.accumulate(self.bounds.max(axis=0)[::-1])[::-1]
        first = np.searchsorted(self.grid, margin, side="right")
        return np.append(least, 1.0)[first]


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


def measured_radius(classifier: Classifier, data: Shard, share: float, seed: int = 0) -> float:
    """xi between two halves of the states, drawn at random, leaving out the mass `share`
    (`safeframe.informativeness.HalvesRadius`).

    Raises SafeframeError if a half lacks a class."""
    margin, unsafe = classifier.margin(np.asarray(data.observation)), np.asarray(data.unsafe)
    half = np.random.default_rng([seed, 23]).random(len(margin)) < 0.5
    odd = np.broadcast_to(half.reshape(-1, *[1] * (margin.ndim - 1)), margin.shape)
    for label in (SAFE, UNSAFE):
        if not ((unsafe == label) & odd).any() or not ((unsafe == label) & ~odd).any():
            raise SafeframeError(
                f"class {label} is missing in half of the data: its radius cannot be measured"
            )
    known = unsafe >= 0
    return HalvesRadius(margin[known], unsafe[known], odd[known]).radius(np.inf, share)
