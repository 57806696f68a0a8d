"""Settings of tailored training beyond the paper's loss, shared by the experiments; all are off by default.

They came after results were published, so while all of them are off they are no part of a run's identity
(`experiments.support.settings.section`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from experiments.support.settings import setting

if TYPE_CHECKING:  # heavy: only where needed
    from safeframe.training.loop import TrainingSettings
    from safeframe.training.schedules import Schedule
    from safeframe.training.tailored import TailoredReport, TailoredSettings


@dataclass
class TailoringSettings:
    """Parts of tailored training that the paper's loss does not have; as they stand, none is on."""

    form: str = setting(
        "gated",
        "Inner problem of the approximate loss: gated is the paper's, priced charges for risk instead.",
        choices=("gated", "priced"),
    )
    price: float | None = setting(
        None, "Price mu of risk with form=priced; null takes the one that acts up to the threshold.", low=0
    )
    open_width: float | None = setting(
        None,
        "Temperatures from the threshold within which a case may move the classifier; null: all cases may.",
        above=0,
    )
    relative: bool = setting(
        False, "Temperatures count in standard deviations of the margins instead of margin units."
    )
    schedule: str = setting(
        "geometric", "How the four settings below are reached.", choices=("geometric", "linear")
    )
    penalty_end: float | None = setting(None, "Penalty beta at the last update; null: it stays.", above=0)
    perturbation_end: float | None = setting(
        None, "Weight lambda at the last update; null: it stays.", above=0
    )
    temperature_end: float | None = setting(
        None, "Width of the test cases' indicators at the last update; null: it stays.", above=0
    )
    temperature_output_end: float | None = setting(
        None, "Width of the decided case's indicator at the last update; null: it stays.", above=0
    )
    selection_share: float = setting(
        0.0,
        "Share of the training cases, whole blocks of them, that no training sees, to choose among "
        "checkpoints and the start; 0 takes the last weights.",
        low=0,
        high=0.5,
    )
    checkpoints: int = setting(4, "Checkpoints that are compared with the start.", low=1)
    noise_every: int = setting(
        0,
        "Updates between measurements of the gradient's noise over minibatches, which the run's manifest "
        "reports; 0 measures none.",
        low=0,
    )
    alpha: float = setting(
        0.05, "Probability with which a checkpoint that is no better may be taken.", above=0, below=1
    )

    def of(
        self,
        r_t: float,
        training: TrainingSettings,
        penalty: float,
        perturbation: float,
        temperature: float,
        temperature_output: float,
        anchor: float,
    ) -> TailoredSettings:
        """Settings of a training from an experiment's own and these."""
        from safeframe.training.never_harm import NeverHarm
        from safeframe.training.tailored import TailoredSettings
        from safeframe.training.tailored_loss import TailoredLoss

        loss = TailoredLoss(
            r_t,
            self._moving(penalty, self.penalty_end),
            self._moving(perturbation, self.perturbation_end),
            self._moving(temperature, self.temperature_end),
            self._moving(temperature_output, self.temperature_output_end),
            anchor,
            "priced" if self.form == "priced" else "gated",
            self.price,
            self.open_width,
            self.relative,
        )
        checkpoints = min(self.checkpoints, training.steps)
        return TailoredSettings(loss, training, checkpoints, NeverHarm(self.alpha), self.noise_every)

    def _moving(self, start: float, end: float | None) -> Schedule:
        from safeframe.training.schedules import Schedule, constant

        if end is None:
            return constant(start)
        return Schedule(start, end, "linear" if self.schedule == "linear" else "geometric")

    def held_out(self, block: np.ndarray) -> np.ndarray:
        """(n,) bool, which cases no training sees: every k-th block, k = 1 / share; nothing if share is 0.

        Args:
            block: (n,) ids of what depends on one another (weeks, prompts).
        """
        if self.selection_share == 0.0:
            return np.zeros(len(block), bool)
        number = np.unique(block, return_inverse=True)[1].reshape(-1)
        every = max(2, math.floor(1 / self.selection_share + 0.5))
        return number % every == every - 1


@dataclass
class AnchoredTailoringSettings(TailoringSettings):
    """Parts of tailored training that the paper's loss does not have; as they stand, none is on."""

    anchor: float = setting(
        0.0, "Weight of the cross-entropy of the same cases, which is added to the loss.", low=0
    )


def measurements(report: TailoredReport, name: str = "") -> dict[str, float]:
    """What a run's manifest says of a training: the checkpoint taken, with the p-value of the best one and
    the gain by cross-fitting, and signal over noise of the gradients of the approximate loss and of the
    likelihood.
    """
    start = f"tailoring.{name}." if name else "tailoring."
    found: dict[str, float] = {}
    if report.selected is not None:
        found = {
            "step": report.step, "p_value": report.selected.p_value, "gain": report.selected.gain
        }  # fmt: skip
    for kind, rows in (
        ("signal_to_noise", report.noise),
        ("likelihood_signal_to_noise", report.anchor_noise),
    ):
        found |= {f"{kind}.{row.step}": row.ratio for row in rows}
    return {start + key: float(value) for key, value in found.items()}
