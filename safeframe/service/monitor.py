"""RiskMonitor: an alarm when what was accepted is riskier than promised, valid at any time.

    monitor = RiskMonitor(r_t=1e-3)
    monitor.update(labels)            # as they come: one, or several in the order of arrival
    monitor.alarm, monitor.change, monitor.lower

H0: each label that arrives is unsafe with probability at most r_t, given the labels that arrived before it.
Labels are those of *accepted* decisions. They may come late and in any order, as long as when a label comes
does not depend on what it says (nor on other cases' labels). That is broken where incidents are reported at
once and the rest after a month: wait for the month, or count a case when its time is over.

Three statements, each with its own confidence:

- Alarm: under H0 the wealth of a mixture of bets (:mod:`safeframe.service.monitoring.bets`) ever passes
  1 / alpha with probability at most alpha. So one may look after every label, stop or go on as one likes.
- Lower limit: the risk was above ``lower`` at some label (all the time, if it never changes), at all times
  together with probability 1 - alpha. Its own bets are finer, so that it tends to .99 of a constant risk.
- Detector, where ``arl`` is given (:mod:`safeframe.service.monitoring.detector`): at least ``arl`` labels on
  average until a false ring. It finds a change after long good service; the alarm, an excess from the start.

A label costs O(1): safe ones are counted, and at an unsafe one the wealth is read off the counts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from safeframe.service.monitoring.bets import LOWEST, Bets, open_unit, rung_value
from safeframe.service.monitoring.detector import ChangeDetector
from safeframe.service.monitoring.entries import checked_labels, restoring
from safeframe.service.monitoring.report import MonitorReport
from safeframe.types import IntArray

ALTERNATIVES = (1.5, 2.0, 3.0, 5.0, 10.0, 30.0)
"""Multiples of r_t that the alarm bets on."""
FINE = (1.02, 1.05, 1.1, 1.2, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 100.0)
"""Multiples of a risk that the lower limit bets on."""
_CHUNK = 1 << 14
_FORMAT = 1


class RiskMonitor:
    """Counts the labels of accepted decisions and bets against their risk being at most r_t.

    Args:
        r_t: the risk that was promised, in (0, 1).
        alpha: probability of a false alarm, ever, in (0, 1); of the lower limit too.
        alternatives: multiples of r_t, above 1, that the alarm bets on. A constant risk of less than about
            1.23 r_t is not found with a smallest one of 1.5: to find it takes a smaller one, and longer.
        weights: of the alternatives; None: equal ones.
        lower_alternatives: multiples that the lower limit bets on.
        arl: mean labels until a false ring of the detector; None: no detector.

    Raises:
        SafeframeError: on a setting outside its range.
    """

    def __init__(
        self,
        r_t: float,
        alpha: float = 0.05,
        alternatives: Sequence[float] = ALTERNATIVES,
        weights: Sequence[float] | None = None,
        lower_alternatives: Sequence[float] = FINE,
        arl: float | None = None,
    ) -> None:
        self.r_t, self.alpha = open_unit(r_t, "r_t"), open_unit(alpha, "alpha")
        self._bets, self._fine = Bets(alternatives, weights), Bets(lower_alternatives)
        self._log_bar = -math.log(self.alpha)
        self.detector = None if arl is None else ChangeDetector(self._bets, self.r_t, arl)
        self.restart()

    def restart(self) -> None:
        """Forget all labels: a new test with an alpha of its own, for after a recalibration."""
        self.n = self.unsafe = 0
        self._rung = LOWEST
        self.alarm_at: int | None = None
        self._alarm_change: int | None = None
        self._most = 0.0  # largest log wealth
        width = len(self._bets.alternatives)
        self._least = np.zeros(width)  # least log-likelihood ratio of each alternative, and after which label
        self._least_at = np.zeros(width, dtype=np.int64)
        if self.detector is not None:
            self.detector.restart()

    def update(self, label: Any, accepted: Any = None) -> bool:
        """Count labels; those after an alarm count too.

        Args:
            label: 0 safe or 1 unsafe: one, or (n,) in the order of arrival.
            accepted: (n,) bool, which of them belong to accepted decisions: the others are left out. None:
                all do.

        Returns:
            Whether there has been an alarm.

        Raises:
            SafeframeError: on a label that is missing or neither 0 nor 1, or shapes that differ; nothing is
                counted then.
        """
        if accepted is None and type(label) in (int, bool) and label == 0:
            self.n += 1
            return self.alarm_at is not None
        labels = checked_labels(label, accepted)
        unsafe = np.flatnonzero(labels)
        for start in range(0, len(unsafe), _CHUNK):
            self._advance(self.n + unsafe[start : start + _CHUNK])
        self.n += len(labels)
        return self.alarm_at is not None

    def _advance(self, before: IntArray) -> None:
        """Count unsafe labels, given how many labels came before each. The wealth falls at safe labels, so
        that it can pass the bar at these only.
        """
        k = self.unsafe + np.arange(len(before))
        log_wealth = self._bets.log_wealth(k + 1, before - k, self.r_t)
        self._most = max(self._most, float(log_wealth.max()))
        cut = len(before)
        if self.alarm_at is None and (over := np.flatnonzero(log_wealth >= self._log_bar)).size:
            cut = int(over[0]) + 1
        self._find_least(k[:cut], before[:cut])
        if cut and self.alarm_at is None and log_wealth[cut - 1] >= self._log_bar:
            self.alarm_at = int(before[cut - 1]) + 1
            self._alarm_change = self._change(int(k[cut - 1]) + 1, self.alarm_at)
        self._find_least(k[cut:], before[cut:])
        self._raise_lower(k + 1, before + 1)
        if self.detector is not None:
            self.detector.advance(before)
        self.unsafe += len(before)

    def _find_least(self, k: IntArray, before: IntArray) -> None:
        if not len(k):
            return
        won, lost = self._bets.factors(self.r_t)
        ratio = np.multiply.outer(k, won) + np.multiply.outer(before - k, lost)
        last = len(k) - 1 - ratio[::-1].argmin(axis=0)
        least = ratio[last, np.arange(len(won))]
        fallen = least <= self._least
        self._least[fallen], self._least_at[fallen] = least[fallen], before[last][fallen]

    def _change(self, k: int, n: int) -> int:
        won, lost = self._bets.factors(self.r_t)
        return int(self._least_at[np.argmax(k * won + (n - k) * lost - self._least)])

    def _raise_lower(self, k: IntArray, n: IntArray) -> None:
        """The limit is the largest over all labels so far; few of them can raise it."""
        while len(k) and self._rung > 1:
            log_wealth = self._fine.log_wealth(k, n - k, rung_value(self._rung - 1))
            able = log_wealth >= self._log_bar
            if not able.any():
                return
            best = int(log_wealth.argmax())
            self._rung = self._fine.lower_limit(int(k[best]), int(n[best]), self._log_bar, self._rung)
            k, n = k[able], n[able]

    @property
    def lower(self) -> float:
        """The risk was above it at some label, with confidence 1 - alpha at all times together.

        It is rounded down by up to a thousandth of itself.
        """
        return rung_value(self._rung)

    @property
    def alarm(self) -> bool:
        """Whether the wealth has ever passed 1 / alpha."""
        return self.alarm_at is not None

    @property
    def log_e_value(self) -> float:
        """Logarithm of the wealth now."""
        return float(self._bets.log_wealth(self.unsafe, self.n - self.unsafe, self.r_t))

    @property
    def e_value(self) -> float:
        """The wealth now: evidence against H0, at most 1 on average under it; inf above 1e308."""
        return math.exp(min(self.log_e_value, 709.0)) if self.log_e_value < 709.0 else math.inf

    @property
    def p_value(self) -> float:
        """1 / the largest wealth so far: a p-value that is valid at any time."""
        return math.exp(-self._most)

    @property
    def change(self) -> int | None:
        """Where the alarm points to: the number of labels before the change.

        It is the likeliest one: over alternatives and places, the largest likelihood ratio of a risk that was
        r_t before the place and the alternative after it, with the labels up to the alarm (the argument of a
        CUSUM). An estimate without a confidence of its own; 0 says from the start. None without an alarm.
        """
        return self._alarm_change

    def report(self) -> MonitorReport:
        """What was found so far.

        Returns:
            The report; as text it is a sentence.
        """
        detector = self.detector
        return MonitorReport(
            self.n, self.unsafe, self.r_t, self.alpha, self.e_value, self.p_value, self.alarm_at, self.change,
            self.lower, None if detector is None else detector.arl,
            None if detector is None else detector.rang_at,
        )  # fmt: skip

    def state(self) -> dict[str, Any]:
        """All that has to be kept to go on equally.

        Returns:
            Settings and counts, fit for JSON; its size does not grow with the labels.
        """
        return {
            "kind": "RiskMonitor",
            "format": _FORMAT,
            "r_t": self.r_t,
            "alpha": self.alpha,
            "alternatives": self._bets.alternatives.tolist(),
            "weights": self._bets.weights.tolist(),
            "lower_alternatives": self._fine.alternatives.tolist(),
            "arl": None if self.detector is None else self.detector.arl,
            "n": self.n,
            "unsafe": self.unsafe,
            "rung": self._rung,
            "alarm_at": self.alarm_at,
            "change": self._alarm_change,
            "most": self._most,
            "least": self._least.tolist(),
            "least_at": self._least_at.tolist(),
            "detector": None if self.detector is None else self.detector.state(),
        }

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> RiskMonitor:
        """A monitor that goes on from a state.

        Args:
            state: of :meth:`state`.

        Returns:
            The monitor.

        Raises:
            SafeframeError: on what is no state of a monitor, or of another format.
        """
        names = ("r_t", "alpha", "alternatives", "weights", "lower_alternatives", "arl")
        with restoring(state, "RiskMonitor", _FORMAT, "monitor"):
            monitor = cls(**{name: state[name] for name in names})
            monitor.n, monitor.unsafe = int(state["n"]), int(state["unsafe"])
            monitor._rung, monitor._most = int(state["rung"]), float(state["most"])
            monitor.alarm_at, monitor._alarm_change = state["alarm_at"], state["change"]
            monitor._least = np.array(state["least"], dtype=np.float64)
            monitor._least_at = np.array(state["least_at"], dtype=np.int64)
            if monitor.detector is not None:
                monitor.detector.restore(state["detector"])
        return monitor
