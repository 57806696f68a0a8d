"""A guard calibrated on one set of recorded answers, applied to another: what breaks.

The classifier, the thresholds and the radius are those of the run; nothing is fitted on the other set. Its
labels are human or its own judge's. `covered` is the place of a coverage guard: prompts unlike the internal
test data would be given the default answer (`choosing.decide`).
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from torch import nn

from experiments.llm.backends import MiniLMBackend, spread
from experiments.llm.calibration import Choice
from experiments.llm.classifier import margins
from experiments.llm.config import LLMConfig
from experiments.llm.evaluation import Evaluation
from experiments.llm.pools import Pool
from experiments.llm.recorded_source import RecordedSource

if TYPE_CHECKING:
    from experiments.llm.experiment import Experiment


def other_configuration(config: LLMConfig) -> LLMConfig:
    """The run's configuration with the data of `transfer`."""
    data = dataclasses.replace(config.data, path=config.transfer.path, format=config.transfer.format)
    return dataclasses.replace(config, data=data)


def transfer(
    this: Experiment, ours: nn.Module, chosen: dict[str, list[Choice]], counting: Evaluation
) -> None:
    """Add the rows and blocks of methods transfer.* : ours' thresholds on all prompts of the other set's
    validation split.
    """
    config = other_configuration(this.config)
    source = RecordedSource(config, this.context)
    pool: Pool = source.pool("validation", min(config.pools.validation, len(source.rows["validation"])))
    table, _ = MiniLMBackend(source, config.classifier).table(pool)
    margin = spread(margins(ours, table), pool)
    found = Evaluation(pool, source.default_reward(pool.prompt), counting.n_t)
    for name in ("ours", "ours_accepted"):
        found.guarded(f"transfer.{config.transfer.format}.{name}", margin, chosen[name])
    rows: list[dict[str, Any]] = found.rows
    counting.rows += rows
    counting.blocks += found.blocks
