"""The radius over blocks (weeks, months, episodes) of one sample: each against all the others."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from safeframe.types import SAFE, SQRT2, UNSAFE, FloatArray, LabelArray, SafeframeError

if TYPE_CHECKING:
    pass
from safeframe.informativeness.measured import SIDES, measured_radius


@dataclass(frozen=True)
class BlockRadius:
    """Measured shifts of every block against the other blocks.

    Attributes:
        radius: the largest shift / sqrt(2), in logit units.
        margin_shift: (blocks, 2) shifts of classes 0 and 1, in margin units; NaN where a block, or all the
            others, have no case of the class.
        blocks: ids, in the order of the rows.
        delta: trimmed mass, in [0, 1).
    """

    radius: float
    margin_shift: FloatArray
    blocks: list[Any]
    delta: float

    def quantile(self, q: float) -> float:
        """A quantile over blocks of the larger class shift, as a radius.

        Args:
            q: in [0, 1]; 1.0 gives ``radius``.

        Returns:
            xi, in logit units.
        """
        return float(np.quantile(np.nanmax(self.margin_shift, axis=1), q)) / SQRT2


def block_measured_radius(
    margin: FloatArray,
    label: LabelArray,
    block: np.ndarray,
    delta: float = 0.0,
    window: tuple[float, float] = (-math.inf, math.inf),
) -> BlockRadius:
    """Radius from blocks (weeks, months, episodes) of one sample: each against all the others, per class.

    Takes for each class the side that matters: unsafe cases of a block not lower, safe ones not higher than
    the rest by more than s. A block is far smaller than the rest, so the noise of its own extremes is in the
    figure: an upper reading.

    Args:
        margin: (n,) finite margins.
        label: (n,) 0 safe, 1 unsafe.
        block: (n,) ids; at least two.
        delta: mass in [0, 1) on which the coupling may fail.
        window: only thresholds tau between its two ends count.

    Returns:
        The shifts and the radius that covers them all.

    Raises:
        SafeframeError: on shapes that differ, with fewer than two blocks, or if no block can be compared for
            one of the classes.
    """
    values, state, ids = np.asarray(margin, dtype=np.float64), np.asarray(label), np.asarray(block)
    if values.ndim != 1 or state.shape != values.shape or ids.shape != values.shape:
        raise SafeframeError(
            f"margin {values.shape}, label {state.shape}, block {ids.shape}: expected one shape (n,)"
        )
    keys = np.unique(ids)
    if len(keys) < 2:
        raise SafeframeError("a radius measured over blocks needs at least two blocks")
    shift = np.full((len(keys), 2), np.nan)
    for row, key in enumerate(keys):
        for state_id, side in SIDES:
            mine = values[(ids == key) & (state == state_id)]
            rest = values[(ids != key) & (state == state_id)]
            if len(mine) and len(rest):
                shift[row, state_id] = measured_radius(
                    rest, mine, delta, side=side, window=window
                ).margin_shift
    for state_id in (SAFE, UNSAFE):
        if np.isnan(shift[:, state_id]).all():
            raise SafeframeError(
                f"class {state_id} is in fewer than two blocks; its radius cannot be measured"
            )
    return BlockRadius(float(np.nanmax(shift)) / SQRT2, shift, keys.tolist(), delta)
