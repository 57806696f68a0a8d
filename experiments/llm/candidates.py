"""What a run on real models leaves of every candidate: labels, rewards, scores and margins, no text.

With it every threshold and rule can be computed again without the models (`records.CANDIDATES_TABLE`).
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from experiments.llm.answers.pools import Pool

log = logging.getLogger(__name__)


def candidates_table(
    pools: Mapping[str, Pool],
    margins: Mapping[str, Mapping[str, np.ndarray]],
    default_reward: Mapping[str, np.ndarray],
) -> pd.DataFrame:
    """A row for each candidate.

    Args:
        pools: prompts with candidates, by split.
        margins: (n, k) by split and classifier; a classifier that did not judge a split has NaN there.
        default_reward: (n,) by split, of the default answer.

    Returns:
        Columns split, prompt (the beginning of a hash of its text), candidate, group, harmful, reward,
        default_reward, cost and finished where they are known, and margin.<classifier>.
    """
    names = sorted({name for found in margins.values() for name in found})
    frames = []
    for split, pool in pools.items():
        n, k = pool.shape
        keys = [hashlib.sha256(text.encode("utf-8")).hexdigest()[:16] for text in pool.prompt]
        columns: dict[str, Any] = {
            "split": split, "prompt": np.repeat(keys, k), "candidate": np.tile(np.arange(k), n),
            "group": np.repeat(pool.group, k), "harmful": pool.harmful.ravel(), "reward": pool.reward.ravel(),

            "default_reward": np.repeat(default_reward[split].astype(np.float32), k),
        }  # fmt: skip
        for name in ("cost", "finished"):
            if (array := getattr(pool, name)) is not None:
                columns[name] = array.ravel()
        for name in names:
            found = margins.get(split, {}).get(name)
            columns[f"margin.{name}"] = (np.full(n * k, np.nan) if found is None else found.ravel()).astype(
                np.float32
            )
        frames.append(pd.DataFrame(columns))
    return pd.concat(frames, ignore_index=True)


def real_rows(pool: Pool, default_reward: np.ndarray, cut_prompts: int | None) -> list[dict[str, Any]]:
    """Rows of results that say what the texts are like: prompts and answers that were cut, and how often the
    default answer has a higher reward than every candidate; where that is most of the time the log says so,
    because then a guard that always refuses earns the most.
    """
    best = np.where(pool.mask, pool.reward, -np.inf).max(axis=1)
    share, n = float(np.mean(default_reward >= best)), len(best)
    if share > 0.5:
        log.warning(
            "the default answer has a higher reward than every candidate for %.0f%% of the prompts (mean"
            " %.2f, best candidates %.2f), so refusing always would win: set models.default_reward, or"
            " give another reward model", 100 * share, float(default_reward.mean()), float(best.mean()),
        )  # fmt: skip
    rows = [{"method": "default", "metric": "beats_every_candidate", "value": share, "n": n}]
    if cut_prompts is not None:
        rows.append({"method": "prompts", "metric": "cut", "value": cut_prompts / n, "n": n})
    if pool.finished is not None:
        cut = float(np.mean(~pool.finished[pool.mask]))
        rows.append({"method": "answers", "metric": "cut", "value": cut, "n": int(pool.mask.sum())})
    return rows
