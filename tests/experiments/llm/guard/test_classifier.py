"""Classifiers: the shortcut at the first token is exact, adapters start at nothing, texts are cut by rule."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from llm_fake import FakeSource, harm_of
from transformers import BertConfig, BertModel

from experiments.llm.capacity import Capacity
from experiments.llm.config import ClassifierConfig
from experiments.llm.guard.backends import DecoderBackend, place_of, spread
from experiments.llm.guard.classifier import (
    cross_entropy,
    decoder_classifier,
    margins,
    tokens_of,
    trained_share,
)
from experiments.llm.guard.minilm import minilm_classifier
from experiments.llm.guard.trained_weights import load_trained, save_trained
from experiments.llm.models.preference_models import body
from safeframe.training import loop
from safeframe.types import SafeframeError

SETTINGS = ClassifierConfig(rank=4)
LORA = Capacity("lora", SETTINGS.rank)


@pytest.fixture(scope="module")
def layer():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = BertConfig(
            vocab_size=10, hidden_size=24, num_hidden_layers=1, num_attention_heads=3, intermediate_size=48
        )
        return BertModel(config).eval().encoder.layer[0]


@pytest.mark.parametrize("capacity", ["lora4", "all"])
def test_the_first_token_reads_what_the_layer_itself_computes(layer, capacity):
    found = minilm_classifier(layer, 24, SETTINGS, Capacity.of(capacity), seed=1)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for name, weight in found.named_parameters():
            if "lora_B" in name or name.endswith("bias"):
                weight.copy_(0.3 * torch.randn(weight.shape, generator=generator))
    state = torch.randn(5, 7, 24, generator=generator)
    mask = torch.ones(5, 7, dtype=torch.bool)
    mask[2, 4:] = mask[3, 1:] = False
    hidden = torch.where(mask, 0.0, -1e9)[:, None, None, :]
    own = found.layer(state, attention_mask=hidden)
    own = own[0] if isinstance(own, tuple) else own
    assert torch.allclose(found.first_token(state, mask), own[:, 0], atol=1e-5)


def test_lora_starts_as_the_base_and_trains_a_small_share():
    source = FakeSource()
    base = source.classifier_model()
    adapted, whole = (decoder_classifier(base, SETTINGS, one, seed=0) for one in (LORA, Capacity("all")))
    table = tokens_of(source.tokenizer, source.template, ["lock please now"], ["open then"], 32)
    assert torch.allclose(adapted.eval()(*table.batch([0])), whole.eval()(*table.batch([0])), atol=1e-6)
    few, many = trained_share(adapted), trained_share(whole)
    assert few[0] < 0.5 * many[0]
    assert many[0] == many[1]


@pytest.mark.parametrize("micro", [2, 8])
def test_it_never_trains_through_the_attention_of_cudnn(micro):
    """Its backward pass can give NaN (see `runtime.computing_in`); parts are computed again in that pass."""
    found = decoder_classifier(FakeSource().classifier_model(), SETTINGS, LORA, 0, "bfloat16", micro)
    seen, enabled = [], torch.backends.cuda.cudnn_sdp_enabled
    before = enabled()
    body(found.model).register_forward_pre_hook(lambda *_: seen.append(enabled()))
    found(torch.full((4, 6), 5), torch.ones(4, 6, dtype=torch.bool)).sum().backward()
    assert len(seen) == (4 if micro == 2 else 1)
    assert not any(seen)
    assert enabled() == before


def test_trained_weights_are_saved_and_loaded(tmp_path):
    source = FakeSource()
    pool = source.pool("train", 30)
    backend = DecoderBackend(source, SETTINGS)
    table, _ = backend.table(pool)
    loss = cross_entropy(table, pool.harmful[pool.mask], 16)
    trained = loop.train(backend.new(LORA, 3), loss, loop.TrainingSettings(3, 1e-2), 3)
    save_trained(trained, tmp_path / "w.pt")
    again = load_trained(backend.new(LORA, 3), tmp_path / "w.pt")
    assert np.array_equal(margins(again, table), margins(trained, table))
    with pytest.raises(SafeframeError, match="weights"):
        load_trained(backend.new(Capacity("all"), 3), tmp_path / "w.pt")


def test_margins_do_not_depend_on_batches():
    source = FakeSource()
    pool = source.pool("train", 25)
    backend = DecoderBackend(source, SETTINGS)
    table, _ = backend.table(pool)
    module = backend.new(LORA, 0)
    assert np.allclose(margins(module, table, batch=7), margins(module, table, batch=512), atol=1e-5)
    back = spread(margins(module, table), pool)
    assert back.shape == pool.shape
    assert place_of(pool)[3, 2] == 3 * 4 + 2


def test_long_texts_lose_the_beginning_of_the_prompt_first():
    source = FakeSource()
    word = lambda text: source.tokenizer.convert_tokens_to_ids(text)  # noqa: E731
    prompts = ["bread please please lock", "bread", "bread"]
    answers = ["open now", "mix", "open now then and please"]
    table = tokens_of(source.tokenizer, "{prompt} <answer>", prompts, answers, max_tokens=6)
    rows = [table.ids[table.start[i] : table.start[i + 1]].tolist() for i in range(3)]
    assert table.cut == 2
    end = source.tokenizer.eos_token_id
    assert rows[0] == [word("please"), word("lock"), word("<answer>"), word("open"), word("now"), end]
    assert rows[1] == [word("bread"), word("<answer>"), word("mix"), end]
    assert rows[2][:2] == [word("bread"), word("<answer>")]  # one place is left for the prompt
    assert rows[2][2:] == [word(w) for w in ("open", "now", "then", "and")]
    with pytest.raises(SafeframeError, match="max_tokens is 1"):
        tokens_of(source.tokenizer, "{prompt}", ["a"], ["b"], 1)


def test_a_classifier_learns_harm_that_no_word_shows_alone():
    """Pairs of a prompt's and an answer's word: chance for any rule on one of them."""
    source = FakeSource(candidates=8)
    pool = source.pool("train", 120)
    backend = DecoderBackend(source, ClassifierConfig(rank=8))
    table, _ = backend.table(pool)
    loss = cross_entropy(table, pool.harmful[pool.mask], 64)
    module = loop.train(backend.new(Capacity("all"), 0), loss, loop.TrainingSettings(250, 5e-3), 0)
    fresh = source.pool("validation", 100)
    margin = margins(module, backend.table(fresh)[0])
    truth = fresh.true_harm[fresh.mask] > 0.5
    assert margin[truth].mean() > margin[~truth].mean() + 2.0
    assert harm_of(np.array([1]), np.array([2]))[0] < 0.1
