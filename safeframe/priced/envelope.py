"""The choice of the best priced candidate as the price grows: one walk along an upper envelope of lines.

At price mu candidate u of a measurement is worth R(u) - mu (p(u) - r_t), a line in mu; the default action is
worth R(default), the line of a candidate with p = r_t. The best line as mu grows walks their upper envelope:
it begins at the largest reward, and every break leads to a line of smaller p, at the least ratio (difference
of rewards) / (difference of risks) over the lines of smaller p than the present one. So the walk takes at
most as many steps as there are candidates, each vectorised over all measurements.

Ties: among lines of equal worth the lowest index wins, and a candidate wins over the default action. At a
break mu itself the lines that meet there are equal, so the lowest index of them is the choice at mu; from the
next larger float on it is the one of least p. Acting and counting walk alike, in the same arithmetic, so what
a curve counts at a price is what the rule does there, to the last bit.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from safeframe.types import BoolArray, FloatArray, IntArray

_ROWS = 2048  # rows walked at once: the working set stays in the cache


class Changes(NamedTuple):
    """Changes of choice, one entry each; those of one measurement come in the order of their prices.

    Attributes:
        row: (e,) measurements.
        price: (e,) from this price on (it included) ``after`` is the choice; 0 only in the first entry of a
            measurement, whose ``before`` is the default action.
        before: (e,) the choice that ends; c for the default action.
        after: (e,) the choice that begins; c for the default action.
    """

    row: IntArray
    price: FloatArray
    before: IntArray
    after: IntArray


def walk(
    risk: FloatArray,
    reward: FloatArray,
    r_t: FloatArray | float,
    default_reward: FloatArray | float,
    until: FloatArray | float = np.inf,
) -> Iterator[Changes]:
    """All changes of choice up to a price, in parts; nothing is checked.

    Args:
        risk: (n, c) p of the candidates; what absent ones hold does not matter.
        reward: (n, c) R, the higher the better; -inf marks an absent candidate.
        r_t: threshold on the probability, one or (n,).
        default_reward: R of the default action, finite, one or (n,).
        until: the price, one or (n,), may be infinite.

    Returns:
        The changes at prices up to ``until``, part by part.
    """
    n = len(risk)
    level, default, end = (
        np.broadcast_to(np.asarray(value, np.float64), (n,)) for value in (r_t, default_reward, until)
    )
    for start in range(0, n, _ROWS):
        part = slice(start, min(start + _ROWS, n))
        yield from _walk(start, risk[part], reward[part], level[part], default[part], end[part])


def chosen(
    risk: FloatArray,
    reward: FloatArray,
    price: FloatArray | float,
    r_t: FloatArray | float,
    default_reward: FloatArray | float,
) -> IntArray:
    """The choice at a price; nothing is checked.

    Args:
        risk: (n, c) p of the candidates.
        reward: (n, c) R; -inf marks an absent candidate.
        price: mu >= 0, one or (n,), may be infinite.
        r_t: threshold on the probability, one or (n,).
        default_reward: R of the default action, finite, one or (n,).

    Returns:
        (n,) the chosen candidate, c where it is the default action.
    """
    choice = np.full(len(risk), risk.shape[1])
    for changes in walk(risk, reward, r_t, default_reward, price):
        choice[changes.row] = changes.after  # a row occurs once in each part, its last change last
    return choice


def _walk(
    start: int,
    risk: FloatArray,
    reward: FloatArray,
    level: FloatArray,
    default: FloatArray,
    end: FloatArray,
) -> Iterator[Changes]:
    """The walk of rows that are taken together; every part that it yields holds a row at most once."""
    # Candidates lie along the first axis: then minima over them run over whole vectors of rows.
    n, c = risk.shape
    value = np.empty((c + 1, n))
    value[:c], value[c] = reward.T, default
    p = np.empty((c + 1, n))
    p[:c], p[c] = risk.T, level
    p[value == -np.inf] = np.inf
    place = np.arange(c + 1, dtype=np.int16 if c < 2**15 else np.int64)[:, None]
    row, column = start + np.arange(n), np.arange(n)
    # At price 0 the largest reward: the lowest index of it, and then the one of least risk.
    tied = value == value.max(axis=0)
    now = _first(tied, place)
    yield Changes(row, np.zeros(n), np.full(n, c), now)
    price, before, now = np.zeros(n), now, _safest(tied, p, place)
    while True:
        # Beyond the price where lines meet: the one of least risk.
        price = np.nextafter(price, np.inf)
        going = price <= end
        changed = np.flatnonzero((now != before) & going)
        if len(changed):
            yield Changes(row[changed], price[changed], before[changed], now[changed])
        gap = p[now, column] - p
        ahead = gap > 0.0
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            ratio = np.where(ahead, (value[now, column] - value) / gap, np.inf)
        least = np.maximum(ratio.min(axis=0), price)  # it never falls, rounding aside
        going &= (least <= end) & (least < np.inf)
        left = np.flatnonzero(going)
        if not len(left):
            return
        if len(left) < n:
            n = len(left)
            p, value, ratio = p[:, left], value[:, left], ratio[:, left]
            row, now, end, least, column = row[left], now[left], end[left], least[left], column[:n]
        price, tied = least, ratio <= least
        then = _safest(tied, p, place)
        tied[now, column] = True
        before = _first(tied, place)
        changed = np.flatnonzero(before != now)
        if len(changed):
            yield Changes(row[changed], price[changed], now[changed], before[changed])
        now = then


def _first(chosen: BoolArray, place: IntArray) -> IntArray:
    """(n,) the lowest index that is chosen, of (c + 1, n)."""
    return np.where(chosen, place, place[-1]).min(axis=0).astype(np.int64)


def _safest(chosen: BoolArray, p: FloatArray, place: IntArray) -> IntArray:
    """(n,) the index of least p that is chosen, the lowest among equals."""
    risk = np.where(chosen, p, np.inf)
    return _first(risk == risk.min(axis=0), place)
