"""A later change, found as fast as an early one: the Shiryaev-Roberts e-detector.

The wealth of a monitor that has long seen low risk has shrunk, and a change must first win that back. A
detector starts a bet at every label and adds them up (Shin, Ramdas & Rinaldo, E-detectors: a nonparametric
framework for sequential change detection, arXiv 2203.03532):

    S_n = sum over s <= n of W(labels s..n),   S_n = sum_j w_j S_n^j,   S_n^j = (1 + S_(n-1)^j) f_j(label n).

Its promise is another one than that of a test: under H0 the labels until it rings are at least ``arl`` on
average (S_n - n does not grow on average, so E[S_N] <= E[N]). It rings sooner or later even if the risk never
exceeds r_t. The maximum over s in the place of the sum (CUSUM) is never larger, so it rings later for the
same promise, and is not offered.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from safeframe.service.monitoring.bets import Bets, log_sum
from safeframe.types import IntArray, SafeframeError


class ChangeDetector:
    """Rings when the risk seems to have risen above r_t at any label, with a stated mean time to false rings.

    It is looked at after unsafe labels only, which can only put a ring off.

    Args:
        bets: the alternatives.
        r_t: the risk of the hypothesis, in (0, 1).
        arl: at least so many labels pass on average until it rings where the risk is at most r_t; above 1.

    Raises:
        SafeframeError: on an arl that is not a finite number above 1.
    """

    def __init__(self, bets: Bets, r_t: float, arl: float) -> None:
        if not (math.isfinite(arl) and arl > 1.0):
            raise SafeframeError(f"arl is {arl}; the mean labels until a false ring must be above 1")
        self.arl = float(arl)
        self._won, self._lost = bets.factors(r_t)
        self._log_mass = bets.log_weights
        self._at = 0
        self._log = np.zeros(len(self._won))  # log(1 + S^j) after label _at
        self.rang_at: int | None = None

    @property
    def rang(self) -> bool:
        """Whether it has rung."""
        return self.rang_at is not None

    def advance(self, before: IntArray) -> None:
        """Count the labels up to each of some unsafe ones.

        Args:
            before: (m,) ascending, how many labels came before each unsafe one.
        """
        for position in before.tolist():
            self._log = np.logaddexp(0.0, self._after_safe(position - self._at) + self._won)
            self._at = position + 1
            if self.rang_at is None and self.log_value(self._at) >= math.log(self.arl):
                self.rang_at = self._at

    def _after_safe(self, m: int) -> np.ndarray:
        """log(1 + S^j) after m safe labels more: f^m S + f + ... + f^m, and the 1."""
        if m == 0:
            return self._log
        # 1 + S' = f^m (1 + S) + (1 - f^m) / (1 - f): the last term is 1 + f + ... + f^(m - 1)
        fading = m * self._lost
        runs = np.log(np.expm1(fading) / np.expm1(self._lost))
        return np.logaddexp(fading + self._log, runs)

    def log_value(self, n: int) -> float:
        """The logarithm of S.

        Args:
            n: labels so far, those after the last unsafe one included.

        Returns:
            log S_n; -inf before the first label.
        """
        if n == 0:
            return -math.inf
        held = self._after_safe(n - self._at)
        return float(log_sum(self._log_mass + held + np.log(-np.expm1(-held))))

    def restart(self) -> None:
        """Forget all labels."""
        self._at, self._log, self.rang_at = 0, np.zeros(len(self._won)), None

    def state(self) -> dict[str, Any]:
        """What has to be kept to go on equally.

        Returns:
            Plain numbers, fit for JSON.
        """
        return {"at": self._at, "log": self._log.tolist(), "rang_at": self.rang_at}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a state.

        Args:
            state: of a detector with the same settings.
        """
        self._at, self.rang_at = int(state["at"]), state["rang_at"]
        self._log = np.array(state["log"], dtype=np.float64)
