"""Language models on a GPU: answers, scores and classifiers are those of the CPU.

Skipped where torch sees no GPU.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from decoders import KINDS, base, tokenizer_of

from experiments.llm.capacity import Capacity
from experiments.llm.config import ClassifierConfig
from experiments.llm.guard.classifier import cross_entropy, decoder_classifier, margins, tokens_of
from experiments.llm.models.conversations import Conversations
from experiments.llm.models.generation.sampling import Sampling, generate
from experiments.llm.models.preference_models import (
    Judged,
    TokenScores,
    label_loss,
    new_score_model,
    score_all,
)
from experiments.llm.models.runtime import Runtime
from experiments.llm.models.supervised import FitSettings, fit
from experiments.llm.models.tokenizer import encode_prompts, template_of
from safeframe.training import loop

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU here")
PROMPTS = ["name a colour", "say hello to everybody in the room", "count", "what is the time now"]
ANSWERS = [["red", "a long and winding answer"]] * 4


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_scores_are_those_of_the_cpu(kind, dtype):
    tokenizer = tokenizer_of(kind)
    model = new_score_model(base(kind, tokenizer), 0).eval()
    template = template_of(tokenizer, None, "{prompt} :")
    expected = score_all(model, tokenizer, template, PROMPTS, ANSWERS, 64, 16, padded=True)
    found = score_all(model.to("cuda", dtype), tokenizer, template, PROMPTS, ANSWERS, 64, 16, padded=True)
    near = 1e-3 if dtype == torch.float32 else 0.05
    np.testing.assert_allclose(found, expected, atol=near * max(1.0, float(np.abs(expected).max())))


@pytest.mark.parametrize("kind", KINDS)
def test_answers_repeat_and_end(kind):
    tokenizer = tokenizer_of(kind)
    model = base(kind, tokenizer).to("cuda", torch.bfloat16).eval()
    said = encode_prompts(tokenizer, template_of(tokenizer, None, "{prompt} :"), PROMPTS, 64)
    sampling = Sampling(3, 8, top_k=20, top_p=0.9, padded=True)
    first, second = (generate(model, tokenizer, said, sampling, 4) for _ in range(2))
    assert np.array_equal(first.tokens, second.tokens)
    assert np.isfinite(first.log_probability).all()


@pytest.mark.parametrize("capacity", ["lora4", "all", "head"])
def test_a_classifier_trains_and_judges_on_the_device(capacity):
    tokenizer = tokenizer_of("llama")
    model = new_score_model(base("llama", tokenizer), 0)
    model.score = torch.nn.Linear(model.config.hidden_size, 2, bias=False)
    prompts, answers = PROMPTS * 8, ["red", "a long and winding answer"] * 16
    table = tokens_of(tokenizer, template_of(tokenizer, None), prompts, answers, 96)
    label = np.array([0, 1] * 16)
    made = {}
    for device in ("cpu", "cuda"):
        precision = "bfloat16" if device == "cuda" else "float32"
        fresh = decoder_classifier(
            model.to(device), ClassifierConfig(rank=4), Capacity.of(capacity), 0, precision, micro=8
        )
        start = margins(fresh, table, 16)
        settings = loop.TrainingSettings(30, 1e-2)
        made[device] = start, margins(loop.train(fresh, cross_entropy(table, label, 16), settings), table, 16)
    np.testing.assert_allclose(made["cuda"][0], made["cpu"][0], atol=0.05)
    for _, after in made.values():
        assert after[label == 1].mean() > after[label == 0].mean()


@pytest.mark.parametrize("width", [192, 256, 320])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_gradients_of_padded_rows_are_finite_at_every_width(width, precision):
    """cuDNN's attention gives NaN where width % 128 = 64 and padding attends to nothing (pytorch #196678)."""
    tokenizer = tokenizer_of("llama")
    scores = TokenScores(new_score_model(base("llama", tokenizer, positions=512), 0))
    ids = torch.randint(4, len(tokenizer), (8, width), generator=torch.Generator().manual_seed(0))
    mask = torch.arange(width) >= torch.arange(0, 80, 10)[:, None]
    said = Conversations(ids, mask, mask & (torch.arange(width) >= width - 40), width - 40)
    batch = Judged(said, torch.arange(8) % 2 == 0)
    fit(scores, lambda _: batch, label_loss, FitSettings(3, 1e-3), runtime=Runtime("cuda", precision))
    assert all(bool(weight.isfinite().all()) for weight in scores.parameters())
