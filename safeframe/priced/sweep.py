"""Counts of the priced rule at every price: one sweep over the breaks of all measurements."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from safeframe.priced.envelope import walk
from safeframe.risk_scale import RiskScale
from safeframe.types import BoolArray, FloatArray, IntArray, SafeframeError


@dataclass(frozen=True)
class Price:
    """A price of risk for one r_t.

    Attributes:
        mu: the price, in units of reward for a probability of 1; inf where none qualifies.
        bound: on P(unsafe | acted) at ``mu``; 1 where none qualifies.
        feasible: whether some price qualifies; where none does, the default action is always taken.
        n: measurements counted.
        n_acted: those among them that are acted on (no radius).
        n_unsafe_acted: those among them whose action is unsafe.
        mean_reward: of all measurements, the default action's included.
        cases_needed: measurements acted on, none of them unsafely, that would certify r_t at 95 % confidence.
        r_t: what the bound is at most, in (0, 1].
        charged_from: risk above which a candidate pays, and below which it is paid.
        gate: only candidates with margin < gate are considered.
    """

    mu: float
    bound: float
    feasible: bool
    n: int
    n_acted: int
    n_unsafe_acted: int
    mean_reward: float
    cases_needed: int
    r_t: float
    charged_from: float
    gate: float = np.inf

    @property
    def action_rate(self) -> float:
        """Share of the measurements that are acted on."""
        return self.n_acted / self.n


@dataclass(frozen=True)
class Sweep:
    """Counts at every price.

    Attributes:
        price: (e,) ascending prices, 0 first, from each of which on (it included) the counts hold.
        acted: (e,) measurements acted on.
        unsafe: (e,) unsafe actions among them.
        reward: (e,) sum of the rewards of all measurements, the default action's included.
    """

    price: FloatArray
    acted: IntArray
    unsafe: IntArray
    reward: FloatArray

    def at(self, price: FloatArray) -> tuple[IntArray, IntArray]:
        """Counts at prices.

        Args:
            price: of any shape, >= 0.

        Returns:
            Two integer arrays shaped like ``price``, acted and unsafe.
        """
        index = np.searchsorted(self.price, price, side="right") - 1
        return self.acted[index], self.unsafe[index]


def sweep(
    risk: FloatArray,
    reward: FloatArray,
    unsafe: BoolArray,
    r_t: float,
    default_reward: FloatArray | float,
) -> Sweep:
    """Counts at every price, from one walk of every measurement; nothing is checked.

    Args:
        risk: (g, c) p of the candidates.
        reward: (g, c) R; -inf marks an absent candidate.
        unsafe: (g, c) bool.
        r_t: threshold on the probability.
        default_reward: of the default action, one or (g,).

    Returns:
        The counts.
    """
    default = np.broadcast_to(np.asarray(default_reward, np.float64), (len(risk),))
    kept: list[tuple[FloatArray, IntArray, IntArray, FloatArray]] = []
    for row, price, before, after in walk(risk, reward, r_t, default):
        acted = [choice < risk.shape[1] for choice in (after, before)]
        column = [np.where(on, choice, 0) for on, choice in zip(acted, (after, before), strict=True)]
        bad = [(unsafe[row, col] & on).astype(np.int8) for col, on in zip(column, acted, strict=True)]
        earned = [np.where(on, reward[row, col], default[row]) for col, on in zip(column, acted, strict=True)]
        first = acted[0].astype(np.int8) - acted[1].astype(np.int8)
        kept.append((price, first, bad[0] - bad[1], earned[0] - earned[1]))
    price, acted, bad, earned = (np.concatenate(column) for column in zip(*kept, strict=True))
    order = np.argsort(price, kind="stable")
    price = price[order]
    last = np.append(price[1:] != price[:-1], True)
    return Sweep(
        price=price[last],
        acted=np.cumsum(acted[order], dtype=np.int64)[last],
        unsafe=np.cumsum(bad[order], dtype=np.int64)[last],
        reward=np.cumsum(earned[order])[last] + default.sum(),
    )


def present_risk(
    margin: FloatArray, reward: FloatArray, scale: RiskScale | None, gate: float
) -> tuple[FloatArray, FloatArray]:
    """Risks and rewards as the rule sees them: candidates at or above the gate are absent.

    Args:
        margin: (g, c), finite where present.
        reward: (g, c); -inf marks an absent candidate.
        scale: from margins to probabilities; None: the margins are probabilities.
        gate: only candidates with margin < gate are there.

    Returns:
        Two (g, c) arrays: the risks, 1 where absent; and the rewards, -inf where absent.

    Raises:
        SafeframeError: where the scale does not give a probability.
    """
    there = (reward > -np.inf) & (margin < gate)
    risk = np.ones(margin.shape)
    found = margin[there] if scale is None else scale.probability(margin[there])
    if not ((found >= 0.0) & (found <= 1.0)).all():
        raise SafeframeError(
            "risks must lie in [0, 1]: "
            + ("give a scale for margins" if scale is None else "not the scale's")
        )
    risk[there] = found
    return risk, np.where(there, reward, -np.inf)
