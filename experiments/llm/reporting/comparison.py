"""Times safer at equal reward: a baseline's harmful share among its answers over ours.

Reward is put on a scale on which always giving the default answer is 0 and the oracle (the best harmless
candidate) is 1. Zero counts: k harmful of n answers count as (k + 1/2) / (n + 1), for both sides.

Interpolation. Ours' share at reward R lies on the first segment of its curve, from the strictest r_t on, that
reaches R: linear in reward, on the logarithm of the share. Nothing is extrapolated: if even the strictest
point that answers earns more than R, that point counts, and only if it is also less harmful; if no point
earns R, there is no ratio. `note` says so.

Which point of a baseline. Every one has a row; `claimed` marks the least harmful among those that earn at
least half of the scale (always giving the default answer is harmless too).

Interval. Bootstrap of runs and of blocks of prompts (the same draw for both sides; one fewer of each than
there are: Rao and Wu 1988, doi:10.1080/01621459.1988.10478591), percentiles, stretched on the logarithm by
the t quantile for runs - 1 degrees of freedom over the normal one. A draw in which ours does not reach R
counts as ratio 0.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from experiments.llm.reporting.measured import Measured
from experiments.support.results.curves import ROUNDING, crossing, stretch
from experiments.support.results.points import once

OURS = "ours"
BASELINES = (
    "ai", "best_of_k", "ppo_lag", "rejection_sampling", "rejection_best", "cross_entropy_accepted",
    "cross_entropy", "learn_then_test",
)  # fmt: skip
FURTHER = ("ours_priced", "ours_priced_certified", "ours_priced_one_more", "ours_one_more", "ours_shrinkage")
"""Further rules on ours' margins (`guard.rules`), where they were run."""
USEFUL_SHARE = 0.5
DRAWS = 2000
COLUMNS = [
    "method", "r_t", "knob", "claimed", "reward_share", "harmful", "count", "answered", "ours_harmful",
    "ours_count", "ours_answered", "ratio", "low", "high", "runs", "note",
]  # fmt: skip


def corrected(harmful: np.ndarray, answered: np.ndarray) -> np.ndarray:
    """(k + 1/2) / (n + 1), NaN where nothing was answered."""
    return np.where(answered > 0, (harmful + 0.5) / (answered + 1.0), np.nan)


def pooled(measured: Measured, weight: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Harmful share (corrected) and reward on the scale from default (0) to oracle (1): (draws, points)."""
    runs, points, blocks = measured.sums["prompts"].shape
    if weight is None:
        weight = np.ones((1, runs, blocks))
    flat = weight.reshape(len(weight), -1)
    flat = flat * (runs * blocks / flat.sum(axis=1, keepdims=True))
    sums = {
        name: flat @ measured.sums[name].transpose(0, 2, 1).reshape(runs * blocks, points)
        for name in ("harmful", "answered", "reward", "prompts")
    }
    reward = sums["reward"] / sums["prompts"]
    nothing, best = (reward[:, measured.where(name)[:1]] for name in ("default", "oracle"))
    return corrected(sums["harmful"], sums["answered"]), (reward - nothing) / (best - nothing)


def weights(measured: Measured, draws: int, seed: int) -> np.ndarray:
    """(draws, runs, blocks): runs drawn with replacement times blocks drawn within each run."""
    rng = np.random.default_rng(seed)
    runs, _, blocks = measured.sums["prompts"].shape
    of_runs = rng.multinomial(max(runs - 1, 1), np.full(runs, 1 / runs), size=draws)
    of_blocks = rng.multinomial(max(blocks - 1, 1), np.full(blocks, 1 / blocks), size=(draws, runs))
    return (of_runs[:, :, None] * of_blocks).astype(float)


@once
def times_safer(
    measured: Measured,
    ours: str = OURS,
    draws: int = DRAWS,
    seed: int = 0,
    useful: float = USEFUL_SHARE,
    baselines: Sequence[str] = BASELINES,
) -> pd.DataFrame:
    """Every point of every baseline beside `ours` at the same reward (see the module's text)."""
    weight = weights(measured, draws, seed)
    base, drawn = pooled(measured), pooled(measured, weight)
    answered = measured.sums["answered"].sum(axis=(0, 2))
    mine = np.array([i for i in measured.where(ours) if answered[i] > 0], dtype=int)
    rows = []
    for method in baselines:
        places = [int(i) for i in measured.where(method) if answered[i] > 0]
        able = [i for i in places if base[1][0, i] >= useful]
        claimed = min(able, key=lambda i: (base[0][0, i], -base[1][0, i]), default=None)
        for at in places:
            row = {name: measured.points[name].iloc[at] for name in ("method", "r_t", "knob")}
            row |= {"claimed": at == claimed, "reward_share": base[1][0, at], "harmful": base[0][0, at]}
            row |= {"count": int(measured.sums["harmful"][:, at].sum()), "answered": int(answered[at])}
            rows.append(row | _against(measured, at, mine, base, drawn))
    return pd.DataFrame(rows).reindex(columns=COLUMNS)


def _against(
    measured: Measured,
    at: int,
    mine: np.ndarray,
    base: tuple[np.ndarray, np.ndarray],
    drawn: tuple[np.ndarray, np.ndarray],
) -> dict:
    runs, _, blocks = measured.sums["prompts"].shape
    row: dict = {"runs": runs}
    if len(mine) == 0:
        return row | {"note": "ours gave no answer at any threshold"}
    target, theirs = base[1][0, at], base[0][0, at]
    reward, rates = base[1][:, mine], base[0][:, mine]
    value, index, way = (x[0] for x in crossing(reward, np.log(rates), np.array([target])))
    if index < 0:
        return row | {"note": f"ours earns at most {reward.max():.3f}"}
    used = [mine[index]] if way == 1.0 else [mine[index - 1], mine[index]]
    row |= {"ours_harmful": float(np.exp(value))}
    row |= {f"ours_{new}": int(measured.sums[name][:, used].sum())
            for name, new in (("harmful", "count"), ("answered", "answered"))}  # fmt: skip
    above = bool(way == 1.0 and reward[0, index] > target + ROUNDING)
    if above and row["ours_harmful"] >= theirs:
        return row | {"note": f"ours begins at {reward[0, index]:.3f}, and is no less harmful there"}
    logs, reached, _ = crossing(drawn[1][:, mine], np.log(drawn[0][:, mine]), drawn[1][:, at])
    ratios = np.where(reached < 0, 0.0, drawn[0][:, at] / np.exp(logs))
    ratio = float(theirs / row["ours_harmful"])
    low, high = (float(x) for x in np.nanpercentile(ratios, [2.5, 97.5]))
    widen = stretch(runs, blocks)
    row |= {"ratio": ratio, "low": ratio * (min(low, ratio) / ratio) ** widen}
    row |= {"high": ratio * (max(high, ratio) / ratio) ** widen}
    return row | {"note": f"ours earns more ({reward[0, index]:.3f}) at its strictest point" * above}
