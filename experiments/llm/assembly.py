"""What a configuration means: the source of candidate answers, and the classification model for its texts."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from torch import nn

from experiments.llm.answers.chat import ChatSource
from experiments.llm.answers.features import MiniLM
from experiments.llm.answers.hub import HubSource
from experiments.llm.answers.pools import Source
from experiments.llm.answers.prepared import PreparedSource
from experiments.llm.answers.recorded_source import RecordedSource
from experiments.llm.answers.synthetic import SyntheticSource
from experiments.llm.capacity import Capacity
from experiments.llm.config import MINILM, LLMConfig
from experiments.llm.guard.backends import Backend, DecoderBackend, MiniLMBackend
from experiments.llm.guard.judge import judge_of
from experiments.llm.models.runtime import DTYPES
from experiments.support import registry
from experiments.support.runs.running import RunContext
from experiments.support.tracking import NoTracker


def make_source(settings: LLMConfig, context: RunContext) -> Source:
    """The configured source of candidate answers."""
    if settings.source == "recorded":
        return RecordedSource(settings, context, judge_of)
    if settings.prepared.pool:
        return PreparedSource(settings, context)
    if settings.source == "chat":
        return ChatSource(settings.models, settings.pools, context)
    kind = SyntheticSource if settings.source == "synthetic" else HubSource
    return kind(settings.models, settings.pools.candidates, context)


def untrained(settings: LLMConfig, capacity: Capacity) -> nn.Module:
    """A classifier as `Backend.new` makes it, without the texts of a run: for weights trained elsewhere."""
    if settings.source == "recorded" or settings.models.classifier == MINILM:
        mini = MiniLM(dtype=DTYPES[settings.models.precision]) if settings.prepared.pool else MiniLM()
        return MiniLMBackend(mini, None, None, settings.classifier).new(capacity, seed=0)
    nowhere = Path(tempfile.gettempdir())  # sources keep nothing when they only name their models
    context = RunContext(registry.get("llm"), settings, nowhere, nowhere, NoTracker())
    source = make_source(settings, context)
    return DecoderBackend(source, settings.classifier, settings.frozen.layers).new(capacity, seed=0)


def backend_of(source: Any, settings: LLMConfig) -> Backend:
    """The classification model for a source's texts."""
    prepared = isinstance(source, PreparedSource) and settings.models.classifier == MINILM
    if isinstance(source, RecordedSource) or prepared:
        return MiniLMBackend(source.mini, source.hidden, source.rows_of, settings.classifier)
    return DecoderBackend(source, settings.classifier, settings.frozen.layers)
