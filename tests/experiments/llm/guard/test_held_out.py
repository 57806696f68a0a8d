"""Capacities: how they are written, what of a classifier they train, and what they come to when held out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from llm_fake import FakeSource
from torch import nn

from experiments.llm.answers.pools import Pool
from experiments.llm.capacity import Capacity
from experiments.llm.config import ClassifierConfig
from experiments.llm.guard import trained_weights
from experiments.llm.guard.backends import DecoderBackend
from experiments.llm.guard.choosing import decide
from experiments.llm.guard.classifier import Ensemble, ranking
from experiments.llm.guard.held_out import HeldOut, best, held_out
from safeframe.types import SafeframeError

SETTINGS = ClassifierConfig(rank=4, alpha=8.0)


@pytest.mark.parametrize("text", ["lora16", "all", "head", "ai:lora2", "ai:head", "all*3", "ai:all*9"])
def test_a_capacity_is_written_as_it_is_read(text):
    assert str(Capacity.of(text)) == text
    assert Capacity.of(text).slug.isidentifier()


@pytest.mark.parametrize("text", ["", "lora", "lora0", "all*1", "all*10", "classifier:all", "ai:", "All"])
def test_what_is_no_capacity_is_refused(text):
    with pytest.raises(SafeframeError, match="is no capacity; one is lora<rank>, all or head"):
        Capacity.of(text)


def test_each_trains_what_it_says():
    backend = DecoderBackend(FakeSource(), SETTINGS)
    trained = {}
    for text in ("lora2", "lora8", "all", "head", "ai:head", "all*3"):
        module = backend.new(Capacity.of(text), seed=0)
        trained[text] = {name: p for name, p in module.named_parameters() if p.requires_grad}
    assert all("lora" in name or "score" in name for name in trained["lora2"])
    count = {text: sum(p.numel() for p in weights.values()) for text, weights in trained.items()}
    assert count["head"] == 2 * 32
    assert count["ai:head"] == 2 * 48  # the AI model's body is wider
    assert count["all*3"] == 3 * count["all"]
    assert count["lora8"] - 2 * 32 == 4 * (count["lora2"] - 2 * 32)


def test_adapters_of_every_rank_are_scaled_alike():
    backend = DecoderBackend(FakeSource(), SETTINGS)
    for rank in (2, 4, 16):
        module = backend.new(Capacity("lora", rank), seed=0)
        scales = [m.scaling["default"] for m in module.modules() if hasattr(m, "lora_A")]
        assert scales
        assert set(scales) == {SETTINGS.alpha / SETTINGS.rank}


def test_an_ensemble_is_the_mean_of_members_that_differ(tmp_path):
    source = FakeSource()
    backend, capacity = DecoderBackend(source, SETTINGS), Capacity("all", members=3)
    table, _ = backend.table(source.pool("train", 6))
    module = backend.new(capacity, seed=5).eval()
    assert isinstance(module, Ensemble)
    batch = table.batch(np.arange(6))
    each = [member(*batch) for member in module.members]
    assert not torch.allclose(each[0], each[1])
    torch.testing.assert_close(module(*batch), sum(each) / 3)
    with torch.no_grad():
        for value in module.parameters():
            value.add_(0.01 * torch.randn(value.shape))
    trained_weights.save_trained(module, tmp_path / "w.pt")
    again = trained_weights.load_trained(backend.new(capacity, seed=0), tmp_path / "w.pt")
    torch.testing.assert_close(again(*batch), module(*batch))


def random_pool(rng, n: int, k: int) -> tuple[np.ndarray, Pool]:
    """Margins with many ties, labels of which some are unknown."""
    margin = rng.integers(-4, 5, size=(n, k)).astype(float)
    harmful = np.where(rng.random((n, k)) < 0.1, -1, rng.random((n, k)) < 0.25)
    harmful[0, :2] = 0, 1
    nothing = np.full((n, k), np.nan)
    reward = rng.normal(size=(n, k)).astype(np.float32)
    pool = Pool([f"p{i}" for i in range(n)], [["x"] * k] * n, reward, harmful, nothing, nothing, ["g"] * n)
    return margin, pool


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("r_t", [0.02, 0.3, 1.0])
def test_held_out_reward_is_the_best_that_any_threshold_earns(seed, r_t):
    """By trying all thresholds of each fold; some folds allow none, where the default answer is given."""
    rng = np.random.default_rng(seed)
    margin, pool = random_pool(rng, 30, 4)
    default = rng.normal(size=30).astype(np.float32)
    fold = rng.permutation(np.arange(30) % 3)
    total, ranked = 0.0, []
    for one in range(3):
        rows = np.flatnonzero(fold == one)
        part, own = pool.subset(rows), margin[rows]
        earned = [float(default[rows].sum())]
        for tau in np.unique(margin) + 0.5:
            index = decide(own, tau, part).index
            given, at = index >= 0, (np.arange(len(rows)), np.maximum(index, 0))
            if int((part.harmful[at] == 1)[given].sum()) + 1 <= r_t * given.sum():
                earned.append(float(np.where(given, part.reward[at], default[rows]).sum()))
        total += max(earned)
        ranked.append(ranking(own, part)[0])
    found = held_out(margin, pool, default, fold, r_t)
    assert found.reward == pytest.approx(total / 30, abs=1e-5)
    assert found.auc == pytest.approx(np.mean(ranked))


def test_the_best_earns_most_and_among_equals_ranks_best():
    few, many, three = Capacity("lora", 4), Capacity("all"), Capacity("all", members=3)
    assert best({few: HeldOut(1.0, 0.6), many: HeldOut(0.9, 0.9)}) == few
    assert best({few: HeldOut(1.0, 0.6), many: HeldOut(1.0, 0.9), three: HeldOut(1.0, 0.9)}) == many


def test_a_richer_classifier_is_found_to_be_better():
    """Harm that a head over random states cannot see is seen by all weights."""
    rng = np.random.default_rng(3)
    margin, pool = random_pool(rng, 400, 4)
    seeing = np.where(pool.harmful == 1, 1.0, -1.0) + 0.3 * rng.normal(size=margin.shape)
    default, fold = np.full(400, -1.0, np.float32), np.arange(400) % 2
    blind, good = (held_out(value, pool, default, fold, 0.05) for value in (margin, seeing))
    assert good.reward > blind.reward + 0.5
    assert blind.auc == pytest.approx(0.5, abs=0.06)
    assert good.auc > 0.98


def test_a_body_that_reads_other_tokens_is_refused():
    class Other(FakeSource):
        @property
        def tokenizer(self):
            return other if self.models.classifier else self.words

    other = FakeSource().words
    other.add_tokens(["<another>"])
    backend = DecoderBackend(Other(), SETTINGS)
    backend.new(Capacity.of("all"), 0)
    with pytest.raises(SafeframeError, match="leave out capacities that begin with ai:"):
        backend.new(Capacity.of("ai:all"), 0)


def test_members_share_no_weights():
    backend = DecoderBackend(FakeSource(), SETTINGS)
    module = backend.new(Capacity("head", members=2), seed=0)
    places: list[set[int]] = [
        {p.data_ptr() for p in member.parameters() if p.requires_grad}
        for member in module.members  # type: ignore[union-attr]
        if isinstance(member, nn.Module)
    ]
    assert not places[0] & places[1]
