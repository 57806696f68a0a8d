"""Thresholds for every candidate action by itself: group-conditional testing over candidates.

The promise then holds for each action, also for one that is rarely taken, and not only on average over
actions; each candidate has its own tau. The event is "an accepted candidate k is unsafe", for every k."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from experiments.safetygym.agents.agent import Agent
from experiments.safetygym.guard.calibration import Calibration, reliability
from experiments.safetygym.guard.choices import Calibrated, most_permissive
from experiments.safetygym.guard.classifier import Classifier
from experiments.safetygym.states.internal_data import Shard
from safeframe.threshold_rule import Rule


class _Known:
    """A classifier whose observations are its margins."""

    @staticmethod
    def margin(observation: np.ndarray) -> np.ndarray:
        return observation


class CandidateCalibration:
    """A `Calibration` per accepted candidate for each of the k candidates alone; arguments as there."""

    def __init__(
        self,
        classifier: Classifier,
        agent: Agent,
        data: Sequence[Shard],
        rule: Rule,
    ):
        margins = [classifier.margin(np.asarray(shard.observation)) for shard in data]
        labels = [np.asarray(shard.unsafe) for shard in data]
        self.parts = [
            Calibration(
                _Known(),  # type: ignore[arg-type]
                agent,
                [Shard(m[:, [k]], u[:, [k]]) for m, u in zip(margins, labels, strict=True)],
                rule,
                "accepted",
            )
            for k in range(margins[0].shape[1])
        ]

    def threshold(self, r_t: float) -> Calibrated:
        """One tau per candidate (k,), -inf for those whose r_t cannot be kept; the largest bound; the mean
        acceptance; feasible if any candidate is."""
        found = [part.threshold(r_t) for part in self.parts]
        kept = [one.bound for one in found if one.feasible]
        return Calibrated(
            r_t, np.array([one.tau for one in found]), max(kept, default=1.0),
            float(np.mean([one.acceptance for one in found])), bool(kept), max(one.radius for one in found),
        )  # fmt: skip

    def thresholds(self, levels: Sequence[float]) -> dict[float, Calibrated]:
        """As `Calibration.thresholds`, for every candidate by itself."""
        return most_permissive(self.threshold, levels)

    def bound(self, tau: float | np.ndarray, r_t: float = 1.0) -> np.ndarray:
        """(1,) bound at tau (k,), the largest over behaviours and the candidates that tau accepts; empty if
        it accepts none."""
        each = [
            part.bound(float(one), r_t)
            for part, one in zip(self.parts, np.broadcast_to(tau, len(self.parts)), strict=True)
            if one > -np.inf and part.cases
        ]
        return np.array([max(bounds.max() for bounds in each)]) if each else np.empty(0)

    def level(self, margin: np.ndarray, r_t: float = 1.0) -> np.ndarray:
        """The smallest level at which each candidate of margins (..., k) would be accepted."""
        return np.stack([part.level(margin[..., k], r_t) for k, part in enumerate(self.parts)], axis=-1)

    def reliability(self) -> pd.DataFrame:
        """As `Calibration.reliability`, all candidates together."""
        cases = [case for part in self.parts for case in part.cases]
        return reliability([case.margin for case in cases], [case.unsafe for case in cases])
