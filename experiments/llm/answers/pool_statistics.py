"""What a pool of real answers is like, in numbers and without a text.

Every row is a mean over prompts with its 95 % t interval over prompts (candidates of one prompt belong
together), or a share of prompts or of human-labelled answers with its Clopper-Pearson interval.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from experiments.llm.answers.pools import Pool
from experiments.llm.models.hub_data import label_errors
from experiments.support.results.ratios import exact, mean_interval

COLUMNS = ["part", "metric", "value", "low", "high", "n"]


def pool_statistics(pool: Pool, default_reward: NDArray[np.floating] | None = None) -> pd.DataFrame:
    """Statistics of every kind of prompt (`Pool.group`) and of all together.

    Args:
        pool: its candidates are all labelled.
        default_reward: (n,) reward of the default answer; None: unknown.

    Returns:
        COLUMNS: n counts prompts. harmful: mean share of candidates with that label; harmful_finished,
        harmful_cut: of those that have ended or not. mixed, all_harmful: share of prompts with candidates of
        both labels, or harmful ones only. reward_best, reward_mean, reward_least_harmful, reward_harmless:
        of the best-rewarded candidate, a random one, that of the lowest cost, and the best of those labelled
        harmless, where there is one; harmful_best: share of prompts whose best-rewarded candidate is labelled
        harmful. correlation_finished, correlation_cut: of reward and cost of candidates. default_wins: share
        whose default answer has at least the reward of every candidate; default_beats_harmless: of every
        candidate labelled harmless.
    """
    kinds = np.array(pool.group)
    parts = {kind: np.flatnonzero(kinds == kind) for kind in sorted(set(pool.group))}
    if len(parts) > 1:
        parts["all"] = np.arange(len(kinds))
    rows = [
        {"part": part, "metric": metric, **dict(zip(("value", "low", "high", "n"), found, strict=True))}
        for part, index in parts.items()
        for metric, found in _part(
            pool.subset(index), None if default_reward is None else np.asarray(default_reward)[index]
        )
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def _part(pool: Pool, default: NDArray | None) -> Iterator[tuple[str, tuple[float, float, float, int]]]:
    bad, reward, rows = pool.harmful == 1, pool.reward.astype(float), np.arange(len(pool.prompt))
    best = reward.argmax(axis=1)
    harmless = np.where(bad, -np.inf, reward).max(axis=1)
    yield "candidates", (float(pool.harmful.shape[1]), np.nan, np.nan, len(rows))
    yield "harmful", _mean(bad.mean(axis=1))
    if pool.finished is not None:
        yield "cut", _mean((~pool.finished).mean(axis=1))
        for name, some in (("harmful_finished", pool.finished), ("harmful_cut", ~pool.finished)):
            has = some.any(axis=1)
            yield name, _mean((bad & some)[has].sum(axis=1) / some[has].sum(axis=1))
    yield "mixed", _share(bad.any(axis=1) & ~bad.all(axis=1))
    yield "all_harmful", _share(bad.all(axis=1))
    yield "harmful_best", _share(bad[rows, best])
    yield "reward_best", _mean(reward[rows, best])
    yield "reward_mean", _mean(reward.mean(axis=1))
    if pool.cost is not None:
        yield "reward_least_harmful", _mean(reward[rows, pool.cost.argmin(axis=1)])
        for name, some in (
            ("finished", pool.finished),
            ("cut", None if pool.finished is None else ~pool.finished),
        ):
            if some is not None and some.sum() > 2:
                of = np.corrcoef(reward[some], pool.cost[some])[0, 1]
                yield f"correlation_{name}", (float(of), np.nan, np.nan, int(some.any(axis=1).sum()))
    yield "reward_harmless", _mean(harmless[np.isfinite(harmless)])
    if default is not None:
        yield "default_reward", _mean(default)
        yield "default_wins", _share(default >= reward[rows, best])
        yield "default_beats_harmless", _share(default >= harmless)


def held_out_statistics(kind: str, held_out: pd.DataFrame) -> pd.DataFrame:
    """What a reward or cost model got right on people's labels that it was not trained on.

    Args:
        kind: "cost" or "reward".
        held_out: rows of all folds that `fine_tune` wrote (held_out.parquet).

    Returns:
        COLUMNS: n counts labels. cost: harmful (people's share), missed and condemned as of
        `fine_tune_steps.Steps.held_out`, hidden: of answers that the model calls harmless, the share that
        people call harmful; auc_fold_<i> where folds are named. reward: accuracy, ties half. half_*: the same
        where the model was shown the first half of each answer.
    """
    found: dict[str, Any] = {}
    for half in ("", "half_"):
        if kind == "cost" and (score := f"score_{half}".strip("_")) in held_out:
            bad, called = held_out["harmful"].to_numpy() == 1, held_out[score].to_numpy() > 0
            found |= {
                f"{half}harmful": _share(bad), f"{half}missed": _share(~called[bad]),
                f"{half}condemned": _share(called[~bad]), f"{half}hidden": _share(bad[~called]),
            }  # fmt: skip
            for fold, rows in held_out.groupby("fold") if "fold" in held_out else ():
                errors = label_errors(rows[score].to_numpy(), rows["harmful"].to_numpy())
                found[f"{half}auc_fold_{fold}"] = (errors["auc"], np.nan, np.nan, len(rows))
        elif kind == "reward" and f"score_{half}0" in held_out:
            gain = (held_out[f"score_{half}0"] - held_out[f"score_{half}1"]).to_numpy()
            right = np.where(held_out["preferred"].to_numpy() == 0, gain, -gain)
            found[f"{half}accuracy"] = _mean((right > 0) + 0.5 * (right == 0))
    found.pop("half_harmful", None)
    part = f"{kind} model, people's labels"
    return pd.DataFrame([(part, name, *row) for name, row in found.items()], columns=COLUMNS)


def _share(which: NDArray[np.bool_]) -> tuple[float, float, float, int]:
    value, n, low, high, _ = exact(int(which.sum()), len(which))
    return value, low, high, n


def _mean(values: NDArray) -> tuple[float, float, float, int]:
    if len(values) == 0:
        return np.nan, np.nan, np.nan, 0
    return *mean_interval(values), len(values)
