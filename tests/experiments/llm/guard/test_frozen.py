"""Lower layers that are computed once: the same margins and gradients as through all layers."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from decoders import KINDS, tokenizer_of
from transformers import CONFIG_MAPPING, AutoModelForSequenceClassification

from experiments.llm.answers.packing import States
from experiments.llm.capacity import Capacity
from experiments.llm.config import ClassifierConfig
from experiments.llm.guard.classifier import (
    DecoderClassifier,
    decoder_classifier,
    margins,
    tokens_of,
    trained_share,
)
from experiments.llm.guard.frozen import (
    UpperClassifier,
    layers_of,
    load_states,
    split,
    states_of,
)
from safeframe.types import SafeframeError

LAYERS, TRAINED = 5, 2
PROMPTS = ["name a colour", "say hello to everybody", "count", "what is the time", "x"]
ANSWERS = ["red", "good morning to you all", "one two", "noon", "a much longer answer than all the others"]


def model_of(kind: str):
    """A random sequence classifier of a kind, with dropout where the kind has it."""
    tokenizer = tokenizer_of(kind)
    sizes = {
        "vocab_size": len(tokenizer), "hidden_size": 32, "num_hidden_layers": LAYERS,
        "num_attention_heads": 4, "max_position_embeddings": 256, "num_labels": 2,
        "pad_token_id": tokenizer.pad_token_id,
    }  # fmt: skip
    if kind == "opt":
        sizes |= {"ffn_dim": 48, "word_embed_proj_dim": 16, "dropout": 0.1}  # projected, as OPT-350M's
    else:
        sizes |= {"intermediate_size": 48, "num_key_value_heads": 2, "head_dim": 8}
    if kind == "gemma3_text":
        sizes |= {"sliding_window": 8, "layer_types": (["sliding_attention"] * 3 + ["full_attention"] * 2)}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = AutoModelForSequenceClassification.from_config(CONFIG_MAPPING[kind](**sizes))
        for weight in model.parameters():
            if weight.dim() > 1:
                torch.nn.init.normal_(weight, std=0.2)
    return model.eval()


def texts(kind: str):
    return tokens_of(tokenizer_of(kind), "{prompt} :", PROMPTS, ANSWERS, 64)


def made(kind: str, lora: bool = True, precision: str = "float32", micro: int = 64):
    """(classifier over kept states, the same weights through all layers, states, tokens)."""
    model, tokens = model_of(kind), texts(kind)
    lower, upper = split(model, TRAINED)
    states = States(tokens.start, tokens.cut, states_of(lower, tokens, precision, 2))
    settings = ClassifierConfig(rank=2)
    capacity = Capacity("lora", 2) if lora else Capacity("all")
    short = decoder_classifier(upper, settings, capacity, 0, precision, micro, UpperClassifier, False)
    with torch.no_grad():  # LoRA begins as nothing
        for name, weight in short.named_parameters():
            if "lora_B" in name:
                weight.copy_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(1)))
    whole = copy.deepcopy(short)
    whole.__class__ = DecoderClassifier
    for i in range(LAYERS - TRAINED):
        layers_of(whole.model)[i] = copy.deepcopy(layers_of(model)[i])
    return short, whole, states, tokens


@pytest.mark.parametrize("lora", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_margins_and_gradients_are_those_through_all_layers(kind, lora):
    short, whole, states, tokens = made(kind, lora)
    expected = margins(whole, tokens, 2)
    np.testing.assert_allclose(margins(short, states, 2), expected, atol=2e-5)
    np.testing.assert_allclose(margins(short, states, 5), expected, atol=2e-5)
    assert np.unique(expected.round(3)).size == len(PROMPTS)
    gradients = []
    for module, table in ((short, states), (whole, tokens)):
        module.eval().zero_grad()  # dropout off: masks would differ
        module(*table.batch(np.arange(5))).square().sum().backward()
        gradients.append({n: p.grad for n, p in module.named_parameters() if p.requires_grad})
    missing = [name for name, grad in gradients[0].items() if grad is None]
    assert not missing
    for name, grad in gradients[0].items():
        torch.testing.assert_close(grad, gradients[1][name], atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("kind", ["llama", "opt"])
def test_in_parts_and_in_half_precision(kind):
    short, whole, states, tokens = made(kind, precision="bfloat16", micro=2)
    assert states.state.dtype == np.uint16
    expected = margins(whole, tokens, 2)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(margins(short, states, 5), expected, atol=0.05 * scale)
    short.train()(*states.batch(np.arange(5))).sum().backward()  # recomputed in parts


def test_only_what_lies_above_is_trained_and_the_model_stays_as_it_was():
    model = model_of("llama")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    lower, upper = split(model, TRAINED)
    assert set(before) == set(model.state_dict())
    assert sum(p.numel() for p in upper.parameters()) < sum(p.numel() for p in model.parameters())
    shared = {p.data_ptr() for p in model.parameters()}
    assert all(p.data_ptr() in shared for p in lower.parameters())  # no copy of the weights
    short = decoder_classifier(
        upper, ClassifierConfig(rank=2), Capacity("all"), 0, kind=UpperClassifier, embeddings=False
    )
    trained = {name for name, p in short.named_parameters() if p.requires_grad}
    assert not any("embed" in name for name in trained)
    assert {int(name.split(".layers.")[1].split(".")[0]) for name in trained if ".layers." in name} == {3, 4}
    assert 0 < trained_share(short)[0] < trained_share(short)[1]
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])


def test_states_on_disk_are_the_same(tmp_path):
    tokens = texts("llama")
    lower, _ = split(model_of("llama"), TRAINED)
    path = tmp_path / "inner" / "states.npy"
    in_memory, kept = (
        states_of(lower, tokens, "float32", 2),
        states_of(lower, tokens, "float32", 2, path=path),
    )
    kept.flush()
    assert np.array_equal(in_memory, kept)
    assert np.array_equal(load_states(path), in_memory)
    assert in_memory.shape == (int(tokens.start[-1]), 32)


@pytest.mark.parametrize("trained", [0, LAYERS, LAYERS + 1])
def test_how_many_layers_there_are_is_said(trained):
    with pytest.raises(
        SafeframeError, match=f"frozen.layers={trained}: the classification model has 5 layers"
    ):
        split(model_of("llama"), trained)


def test_states_travel_to_workers_as_other_tables():
    """Some rows of a table alone: what an engine's worker gets gives the same margins."""
    short, _, states, _ = made("llama")
    kept = States(states.start, states.cut, np.asarray(states.state))
    rows = np.array([3, 0, 4])
    np.testing.assert_allclose(margins(short, kept.take(rows), 2), margins(short, kept, 2)[rows], atol=2e-5)
