"""The judge that labels DiaSafety's candidates: a stand-in for the paper's cost model, and how often it errs.

It is MiniLM with its last layer fine-tuned on the human-labelled pairs whose context is no prompt of the
pools (and none that is spared). Its error is counted on the other pairs. A guard can promise only what its
labels say: `against_humans` counts how many of the human-labelled answers that a guard accepts people call
unsafe.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from experiments.llm.answers import recorded
from experiments.llm.answers.packing import Chosen
from experiments.llm.answers.recorded_source import FEATURE_KEYS, RecordedSource
from experiments.llm.capacity import Capacity
from experiments.llm.guard.classifier import cross_entropy, margins
from experiments.llm.guard.minilm import minilm_classifier
from experiments.support.results.ratios import exact
from experiments.support.runs.stages import Stage
from safeframe.training import loop
from safeframe.types import SafeframeError

_SEED = 0  # one judge for all seeds, like the cost model it stands for
_STEPS = 600


@dataclass(frozen=True)
class Judge:
    """P(harm) of every candidate (n, k) and human-labelled pair (h,); which pairs it never saw (h,)."""

    probability: np.ndarray
    of_humans: np.ndarray
    held_out: np.ndarray

    def save(self, path: Path) -> None:
        """Write one .npz file."""
        with open(path, "wb") as stream:
            np.savez(stream, **vars(self))

    @classmethod
    def load(cls, path: Path) -> Judge:
        """Read what `save` wrote."""
        with np.load(path) as content:
            return cls(**{name: content[name] for name in content.files})


def judge_of(source: RecordedSource) -> Judge:
    """The judge of a source, from the cache if it has been trained before."""
    context, human = source.context, source.human
    if human is None:
        raise SafeframeError("a judge needs human-labelled pairs beside the pools (data.format=diasafety)")
    held_out = np.array([text in source.index or text in source.spared for text in human.prompt])
    recorded.require_both(human.label[~held_out], "pairs to train the judge on")
    recorded.require_both(human.label[held_out], "pairs to test the judge on")

    def compute(stage: Stage) -> Judge:
        settings = source.config.classifier
        mini = source.mini
        fresh = minilm_classifier(
            mini.last_layer, mini.model.config.hidden_size, settings, Capacity("all"), _SEED
        )
        rows = np.flatnonzero(~held_out)
        loss = cross_entropy(Chosen(source.human_hidden, rows), human.label[rows], settings.batch)
        steps = loop.TrainingSettings(_STEPS, settings.full_learning_rate, weight_decay=settings.weight_decay)
        trained = loop.train(
            fresh, loss, steps, _SEED, stage.checkpoint, lambda s: context.progress(s, "judge")
        )
        sigmoid = lambda m: 1.0 / (1.0 + np.exp(-m))  # noqa: E731
        probability = np.zeros(source.present.shape)
        probability[source.present] = sigmoid(margins(trained, source.hidden))
        return Judge(probability, sigmoid(margins(trained, source.human_hidden)), held_out)

    keys = source.keys(*FEATURE_KEYS, "classifier") | ({"spared": True} if source.spared else {})
    return context.cache(
        "judge",
        keys,
        compute,
        Judge.save,
        Judge.load,
        ".npz",
    )


def errors(judge: Judge, label: np.ndarray) -> dict[str, tuple[int, int]]:
    """(wrong, of) on held-out human labels: of all pairs, of the unsafe ones missed, of the safe ones
    condemned, and unsafe ones among those that the judge calls safe.
    """
    said, truth = judge.of_humans[judge.held_out] > 0.5, label[judge.held_out] == 1
    return {
        "error": (int((said != truth).sum()), len(truth)),
        "missed": (int((~said & truth).sum()), int(truth.sum())),
        "condemned": (int((said & ~truth).sum()), int((~truth).sum())),
        "unsafe_among_passed": (int((~said & truth).sum()), int((~said).sum())),
    }


def against_humans(
    margin: np.ndarray, label: np.ndarray, said: np.ndarray, tau: float
) -> dict[str, tuple[int, int]]:
    """(unsafe, accepted) among human-labelled pairs that a guard accepts, by people and by the judge; margin,
    label, said: (h,).
    """
    accepted = margin < tau
    total = int(accepted.sum())
    return {
        "human": (int((label[accepted] == 1).sum()), total),
        "judge": (int(said[accepted].sum()), total),
    }


def recorded_rows(source: RecordedSource, ours: nn.Module, choices: list, n_t: int) -> list[dict]:
    """Where a judge labels: its error on people's labels, and what people say of what ours accepts."""
    if source.human is None:
        return []
    found = judge_of(source)
    rows: list[dict[str, Any]] = []

    def add(method: str, metric: str, k: int, n: int, **at: Any) -> None:
        value, count, low, high, name = exact(k, n)
        row = {"method": method, "metric": metric, "value": value, "n": count, **at}
        rows.append(row | ({"low": low, "high": high, "interval": name} if count else {}))

    for metric, (k, n) in errors(found, source.human.label).items():
        add("judge", metric, k, n)
    unseen = {source.everything.prompt[i] for i in source.rows["validation"]}
    pairs = np.array([text in unseen for text in source.human.prompt])
    rows_of = Chosen(source.human_hidden, np.flatnonzero(pairs))
    margin = margins(ours, rows_of)
    label, said = source.human.label[pairs], found.of_humans[pairs] > 0.5
    for choice in choices:
        at = {"r_t": choice.r_t, "xi": choice.radius, "n_t": n_t}
        for who, (k, n) in against_humans(margin, label, said, choice.tau).items():
            add("ours", f"accepted_pairs.{who}", k, n, **at)
    return rows
