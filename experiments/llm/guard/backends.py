"""Texts and classifiers that belong together: what the stages need to turn a pool into margins."""

from __future__ import annotations

import copy
import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np
from torch import nn

from experiments.llm.answers.features import MiniLM, save_array
from experiments.llm.answers.packing import Chosen, States, Table, Tokens
from experiments.llm.answers.pools import Pool
from experiments.llm.capacity import Capacity
from experiments.llm.config import ClassifierConfig
from experiments.llm.guard import frozen
from experiments.llm.guard.classifier import Ensemble, decoder_classifier, tokens_of
from experiments.llm.guard.frozen import UpperClassifier
from experiments.llm.guard.minilm import minilm_classifier
from experiments.support.runs.stages import Stage
from safeframe.types import SafeframeError


class Backend(ABC):
    """A classification model and its way of reading texts; `rows` of them at once for margins."""

    rows: int

    @abstractmethod
    def table(self, pool: Pool) -> tuple[Table, int]:
        """The labelled candidates as a table, in the order of `pool.mask`, and how many were cut."""

    @abstractmethod
    def one(self, capacity: Capacity, seed: int) -> nn.Module:
        """An untrained member of a capacity."""

    def new(self, capacity: Capacity, seed: int) -> nn.Module:
        """An untrained classifier."""
        if capacity.members == 1:
            return self.one(capacity, seed)
        return Ensemble([self.one(capacity, seed + i) for i in range(capacity.members)])


class DecoderBackend(Backend):
    """A decoder with the tokenizer and template of a source of language models (synthetic, hub, chat);
    trained: its uppermost layers that are trained over kept states of those below (`frozen`), None: all.
    """

    def __init__(self, source: Any, settings: ClassifierConfig, trained: int | None = None):
        self.source, self.settings, self.trained = source, settings, trained
        self.bodies = {"classifier": source.classifier_model()}
        self.precision, self.micro = source.reading(settings.micro)
        self.rows = source.margin_rows
        self.lower: Any = None
        if trained is not None:
            self.lower, self.bodies["classifier"] = frozen.split(self.bodies["classifier"], trained)

    def table(self, pool: Pool) -> tuple[Table, int]:
        prompts, answers, _, _ = pool.pairs()
        found = tokens_of(
            self.source.tokenizer, self.source.classifier_template, prompts, answers,
            self.settings.max_tokens or self.source.longest,
            None if pool.finished is None else pool.finished[pool.mask],
        )  # fmt: skip
        return (found if self.lower is None else self._states(found)), found.cut

    def _states(self, tokens: Tokens) -> States:
        """States of the layers that are not trained, from the cache if these texts were read before."""
        context = self.source.context
        depends = {
            "model": self.source.classifier_identity(), "layers": self.trained, "precision": self.precision,
            "ids": tokens.ids, "start": tokens.start,
        }  # fmt: skip

        def compute(stage: Stage) -> np.ndarray:
            progress = lambda starts: context.progress(starts, "lower layers", total=len(starts))  # noqa: E731
            return frozen.states_of(
                self.lower, tokens, self.precision, self.rows, progress, stage.directory / "being_made.npy"
            )

        state = context.cache("lower_layers", depends, compute, save_array, frozen.load_states, ".npy")
        return States(tokens.start, tokens.cut, state)

    def one(self, capacity: Capacity, seed: int) -> nn.Module:
        if capacity.body not in self.bodies:
            self.bodies[capacity.body] = judging_with(self.source, capacity.body).classifier_model()
        base = self.bodies[capacity.body]
        if self.lower is None:
            return decoder_classifier(base, self.settings, capacity, seed, self.precision, self.micro)
        return decoder_classifier(
            base, self.settings, capacity, seed, self.precision, self.micro, UpperClassifier, False
        )


def judging_with(source: Any, name: str) -> Any:
    """A source of language models as it is where another one of them, "ai", is the classification model.
    SafeframeError where that one reads texts with another tokenizer.
    """
    other, place = copy.copy(source), source.place(name)
    other.models = dataclasses.replace(source.models, classifier=place)
    vars(other).pop("tokenizer", None)  # that of the model before
    if other.tokenizer.get_vocab() != source.tokenizer.get_vocab():
        raise SafeframeError(
            f"capacity.among: texts are read with the tokenizer of models.classifier, and models.{name}"
            f" ({place}) has another one; leave out capacities that begin with {name}:"
        )
    return other


class MiniLMBackend(Backend):
    """MiniLM's last layer over the states `hidden` of recorded answers, of which `rows_of` tells a pool's;
    without these it makes classifiers alone.
    """

    rows = 512

    def __init__(
        self,
        mini: MiniLM,
        hidden: States | None,
        rows_of: Callable[[Pool], np.ndarray] | None,
        settings: ClassifierConfig,
    ):
        self.mini, self.hidden, self.rows_of, self.settings = mini, hidden, rows_of, settings

    def table(self, pool: Pool) -> tuple[Table, int]:
        assert self.hidden is not None
        assert self.rows_of is not None
        return Chosen(self.hidden, self.rows_of(pool)), 0

    def one(self, capacity: Capacity, seed: int) -> nn.Module:
        mini = self.mini
        return minilm_classifier(
            mini.last_layer, mini.model.config.hidden_size, self.settings, capacity, seed
        )


def place_of(pool: Pool) -> np.ndarray:
    """(n, k) row of every candidate in its table, -1 where there is none."""
    place = np.full(pool.shape, -1)
    place[pool.mask] = np.arange(int(pool.mask.sum()))
    return place


def spread(flat: np.ndarray, pool: Pool) -> np.ndarray:
    """Margins (c,) as (n, k); +inf, never accepted, where there is no candidate."""
    full = np.full(pool.shape, np.inf)
    full[pool.mask] = flat
    return full
