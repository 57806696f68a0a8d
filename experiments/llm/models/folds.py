"""Score models trained in folds: one for each part of the prompts, trained on all the others.

A folder with fold_0, fold_1, ... stands for one model. A prompt is scored by the model of its own fold
(`hub_data.fold_of`), which has not seen it: every label of people serves to train, and every prompt is scored
by a model that knows none of its labels (cross-fitting).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from experiments.llm.models.hub_data import fold_of
from safeframe.types import SafeframeError


def by_fold(place: str, prompts: list[str]) -> list[tuple[str, NDArray[np.int64]]]:
    """(model, prompts that it scores); one entry for a model that is not trained in folds.

    Raises SafeframeError where a fold is missing.
    """
    there = sorted(path.name for path in Path(place).glob("fold_*"))
    if not there:
        return [(place, np.arange(len(prompts)))]
    wanted = [f"fold_{i}" for i in range(len(there))]
    if sorted(wanted) != there or len(there) < 2:
        raise SafeframeError(
            f"{place} holds {', '.join(there)}: folds are fold_0 to fold_<n - 1>, two or more"
        )
    own = np.array([fold_of(prompt, len(wanted)) for prompt in prompts])
    found = [(str(Path(place) / name), np.flatnonzero(own == i)) for i, name in enumerate(wanted)]
    return [(name, index) for name, index in found if len(index)]
