"""Is this prompt, or this answer to it, like the internal test data? For recorded answers.

Two feature spaces, from what is cached anyway:

- "prompt": sentence embeddings of prompts (MiniLM), of unit length. A prompt that is not covered is given the
  default answer.
- "pair": what the classifier reads of a prompt with an answer, the mean over tokens of the states below its
  last layer, scaled to unit length. A candidate that is not covered is not given.

Half of the internal test prompts are the reference (with all their candidates), the other half calibrates
the radius. The unit is the prompt: candidates of one prompt depend on one another, so each prompt held out
speaks with its first candidate only, and refused shares are counted so too.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from experiments.llm.answers.pools import Pool
from experiments.llm.answers.recorded_source import RecordedSource
from experiments.llm.records import KINDS
from experiments.support.results.ratios import exact
from safeframe.certificates.cases import cases_needed
from safeframe.coverage.coverage_guard import CoverageGuard, CoverageSettings, split_reference
from safeframe.types import SafeframeError

HELD_OUT = 0.5


def features_of(source: RecordedSource, pool: Pool) -> dict[str, np.ndarray]:
    """ "prompt": (n, d), "pair": (n, k, d), NaN where there is no candidate."""
    rows = np.array([source.index[text] for text in pool.prompt])
    hidden = source.hidden
    pair = np.full((*pool.shape, hidden.state.shape[1]), np.nan, dtype=np.float32)
    for i, j in np.argwhere(pool.mask):
        at = source.place[rows[i], j]
        mean = hidden.state[hidden.start[at] : hidden.start[at + 1]].mean(axis=0, dtype=np.float32)
        pair[i, j] = mean / np.linalg.norm(mean)
    return {"prompt": source.prompt_embedding[rows], "pair": pair}


def fit(features: dict[str, np.ndarray], epsilon: float, seed: int) -> dict[str, CoverageGuard]:
    """A guard of each kind around internal test prompts. SafeframeError where they are too few for epsilon
    (`require_enough`).
    """
    settings = CoverageSettings(epsilon, held_out=HELD_OUT, scale=False)
    prompt, pair = (features[kind] for kind in KINDS)
    reference, held_out = split_reference(len(prompt), settings, np.ones(len(prompt), bool), seed)
    pairs = pair[reference].reshape(-1, pair.shape[-1])
    return {
        "prompt": CoverageGuard(prompt[reference], prompt[held_out], settings),
        "pair": CoverageGuard(pairs[np.isfinite(pairs[:, 0])], pair[held_out, 0], settings),
    }


def require_enough(prompts: int, epsilon: float) -> None:
    """SafeframeError if half of so many internal test prompts cannot certify epsilon; before any training."""
    held_out, needed = round(HELD_OUT * prompts), cases_needed(epsilon, CoverageSettings(epsilon).delta)
    if held_out < needed:
        raise SafeframeError(
            f"transfer.epsilon={epsilon:g} takes {needed:,} internal test prompts held out, half of {prompts}"
            f" are {held_out}: give more (pools.internal_test, data.prompts) or a larger epsilon"
        )


def covered(guards: dict[str, CoverageGuard], features: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """ "prompt": (n,) bool, "pair": (n, k) bool, False where there is no candidate."""
    pair = features["pair"]
    flat = guards["pair"].covers(pair.reshape(-1, pair.shape[-1]))
    return {"prompt": guards["prompt"].covers(features["prompt"]), "pair": flat.reshape(pair.shape[:2])}


def refused_rows(method: str, inside: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    """Tidy rows `refused.<kind>`: the share of prompts (by their first candidate: pair) that is refused."""
    rows = []
    for kind in KINDS:
        first = inside[kind] if inside[kind].ndim == 1 else inside[kind][:, 0]
        value, n, low, high, name = exact(int((~first).sum()), len(first))
        rows.append({"method": method, "metric": f"refused.{kind}", "value": value, "n": n, "low": low,
                     "high": high, "interval": name})  # fmt: skip
    return rows
