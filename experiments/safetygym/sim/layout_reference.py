"""Layouts exactly as Safety Gym draws them.

In its `engine.py`: `sample_layout`, `build_world_config`, `build_goal`.

Its generator is numpy.random.RandomState, seeded anew, one higher, at each reset. Every draw takes one double
of its stream, also the binomial that chooses the frameskip in each step; so (seed, number of doubles taken)
is its whole state, kept in one uint64 of `State.rng`: seed * 2^32 + taken.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from experiments.safetygym.sim.episode import set_vase
from experiments.safetygym.sim.layout import GOAL_TRIES, keepouts
from experiments.safetygym.sim.state import State
from experiments.safetygym.sim.task import GOAL_KEEPOUT, PLACEMENT_TRIES, ROBOT_KEEPOUT, Level
from safeframe.types import SafeframeError

LAYOUT_TRIES = 10_000
SEED_STRIDE = 100_003
"""Seeds of neighbouring environments are this far apart, so that their episodes do not repeat one
another's."""
_BITS, _MASK = 32, 2**32 - 1


class Stream:
    """The doubles of RandomState(seed), by position."""

    def __init__(self, seed: int):
        self._random = np.random.RandomState(seed)  # the original's generator
        self._values: list[float] = []

    def __getitem__(self, position: int) -> float:
        while position >= len(self._values):
            self._values.extend(self._random.random_sample(1024).tolist())
        return self._values[position]


@lru_cache(maxsize=4096)
def stream(seed: int) -> Stream:
    """The stream of one seed, shared by all who ask."""
    return Stream(seed)


class Cursor:
    """Draws from a stream, as RandomState.uniform does."""

    def __init__(self, packed: int):
        self.seed, self.taken = packed >> _BITS, packed & _MASK
        self._stream = stream(self.seed)

    @property
    def packed(self) -> np.uint64:
        """Its state as one number."""
        return np.uint64((self.seed << _BITS) | self.taken)

    def uniform(self, low: float, high: float) -> float:
        """The next double, on [low, high)."""
        self.taken += 1
        return low + (high - low) * self._stream[self.taken - 1]

    def place(self, keepout: float, extent: float) -> tuple[float, float]:
        """A point that keeps `keepout` m from the edge of [-extent, extent]^2."""
        low, high = -extent + keepout, extent - keepout
        return self.uniform(low, high), self.uniform(low, high)


def first_seeds(seed: int | None, n: int) -> np.ndarray:
    """State.rng (n,) before the first reset; environment 0 is that of the original seeded by `seed`. Raises
    SafeframeError unless 0 <= seed < 2^32."""
    if seed is None:
        seed = int(np.random.SeedSequence().generate_state(1)[0])
    if not 0 <= seed <= _MASK:
        raise SafeframeError(f"seed={seed}: the reference layout needs 0 <= seed < 2^32")
    seeds = (seed + SEED_STRIDE * np.arange(n, dtype=np.uint64)) & np.uint64(_MASK)
    return seeds << np.uint64(_BITS)


def begin(state: State, i: int, level: Level) -> tuple[float, float, float]:
    """Begin an episode in row i with the next seed: all but the robot, whose (x, y, heading) is returned."""
    cursor = Cursor((((int(state.rng[i]) >> _BITS) + 1) & _MASK) << _BITS)
    placed = _layout(cursor, level)
    heading = cursor.uniform(0.0, 2 * math.pi)
    for vase, place in zip(state.vases[i], placed[2 + level.hazards :], strict=True):
        set_vase(vase, *place, cursor.uniform(0.0, 2 * math.pi))
    for _ in range(1 + level.hazards):  # headings of goal and hazards, which nobody sees
        cursor.uniform(0.0, 2 * math.pi)
    state.hazards[i] = placed[2 : 2 + level.hazards]
    state.step[i] = 0
    x, y = placed[0]
    _goal(cursor, state, i, x, y, level)
    state.rng[i] = cursor.packed
    return x, y, heading


def next_goal(state: State, i: int, level: Level) -> bool:
    """A new goal for row i, whose robot stands at robot[i, :2]; False if there is no place for one."""
    cursor = Cursor(int(state.rng[i]))
    found = _goal(cursor, state, i, float(state.robot[i, 0]), float(state.robot[i, 1]), level)
    state.rng[i] = cursor.packed
    return found


def _goal(cursor: Cursor, state: State, i: int, x: float, y: float, level: Level) -> bool:
    objects = [*state.hazards[i], *state.vases[i]]
    others = [(x, y), *[(float(o[0]), float(o[1])) for o in objects]]
    kept = (ROBOT_KEEPOUT, *keepouts(level)[2:])
    for _ in range(GOAL_TRIES):
        xy = cursor.place(GOAL_KEEPOUT, level.extent)
        if _clear(xy, GOAL_KEEPOUT, others, kept):
            state.goal[i] = xy
            return True
    return False


def _layout(cursor: Cursor, level: Level) -> list[tuple[float, float]]:
    kept = keepouts(level)
    for _ in range(LAYOUT_TRIES):
        placed: list[tuple[float, float]] = []
        for keepout in kept:
            for _ in range(PLACEMENT_TRIES):
                xy = cursor.place(keepout, level.extent)
                if _clear(xy, keepout, placed, kept):
                    placed.append(xy)
                    break
            else:
                break
        if len(placed) == len(kept):
            return placed
    raise SafeframeError(f"seed {cursor.seed}: no layout found in {LAYOUT_TRIES:,} tries")


def _clear(xy, keepout, others, keepouts) -> bool:
    """Does xy keep the sum of the keepouts from all of `others`? (Rounded as NumPy does in the original.)"""
    for (x, y), other in zip(others, keepouts, strict=False):
        if math.sqrt((xy[0] - x) ** 2 + (xy[1] - y) ** 2) < other + keepout:
            return False
    return True
