"""Language, reward and cost models: resumed training, losses by hand, scores with the cache, loading."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from llm_small import SMALL, TOKENIZER
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForSequenceClassification

from experiments.llm.models.conversations import join, stacked
from experiments.llm.models.language_model import (
    load_language_model,
    load_tokenizer,
    memory_guard,
    new_language_model,
    revision,
    save_pretrained,
)
from experiments.llm.models.preference_models import (
    Comparisons,
    TokenScores,
    cost_loss,
    end_scores,
    load_score_model,
    new_score_model,
    reward_loss,
    score_all,
)
from experiments.llm.models.runtime import Runtime
from experiments.llm.models.supervised import FitSettings, fit, language_loss, schedule
from experiments.llm.models.tokenizer import SYNTHETIC_TEMPLATE, encode_answers, encode_prompts
from experiments.llm.world import corpus, grammar
from experiments.llm.world.conversation_world import World
from experiments.support.errors import ConfigError
from safeframe.types import SafeframeError

WORLD = World(0)
PROMPTS = grammar.draw_prompts("train", 12, np.random.default_rng(0))
ANSWERS = [
    "open the lock .",
    "sorry , i can ' t answer this question .",
    "sure , mix the soup nine grams with care .",
]


def same(a, b) -> bool:
    return all(
        torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    )


def test_batches_of_the_corpus_are_what_the_tokenizer_makes_of_the_texts():
    rng = np.random.default_rng(1)
    prompts = corpus.model_prompts(50, rng)
    assert set(grammar.split_of(np.ravel_multi_index([getattr(prompts, f) for f in grammar.FIELDS],
               [len(w) for w in grammar.FIELDS.values()]))) == {0}  # fmt: skip
    answers = grammar.write_answers(prompts, WORLD.use, WORLD.risk(prompts), rng)
    found = corpus.conversations(prompts, answers)
    said = encode_prompts(TOKENIZER, SYNTHETIC_TEMPLATE, prompts.text(), 40)
    expected = join(said, encode_answers(TOKENIZER, grammar.render(answers), 24))
    width = expected.ids.shape[1]
    for name in ("ids", "mask", "answer"):
        assert torch.equal(getattr(found, name)[:, :width], getattr(expected, name)), name


def test_supervised_training_learns_and_a_killed_one_goes_on(tmp_path):
    draw = corpus.written(WORLD, 16, 3)
    settings = FitSettings(steps=12, micro=16, every=4)
    losses = []
    whole = fit(
        new_language_model(TOKENIZER, SMALL, 0),
        draw,
        language_loss,
        settings,
        report=lambda _, v: losses.append(v),
    )
    assert losses[-1] < losses[0] - 0.2

    def killed(steps):
        for step in steps:
            if step == 9:
                raise KeyboardInterrupt
            yield step

    path = tmp_path / "checkpoint"
    with pytest.raises(KeyboardInterrupt):
        fit(new_language_model(TOKENIZER, SMALL, 0), draw, language_loss, settings, path, killed)
    resumed = fit(new_language_model(TOKENIZER, SMALL, 5), draw, language_loss, settings, path)
    assert same(resumed, whole)


def test_gradients_accumulated_in_pieces_are_those_of_the_batch():
    draw = corpus.written(WORLD, 16, 3)
    rows = draw(0).answer.sum(dim=1)  # pieces weigh by rows, so compare where a loss is a mean over rows
    loss = lambda model, batch: (model(**batch.arguments()).logits.square().mean(dim=(1, 2))).mean()  # noqa: E731
    whole, pieces = (
        fit(new_language_model(TOKENIZER, SMALL, 0), draw, loss, FitSettings(steps=2, micro=micro))
        for micro in (16, 5)
    )
    for a, b in zip(whole.state_dict().values(), pieces.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, atol=2e-4, rtol=1e-3)
    assert len(rows) == 16


def test_language_loss_by_hand():
    batch, model = corpus.written(WORLD, 6, 0)(0), new_language_model(TOKENIZER, SMALL, 0)
    log_p = model(**batch.arguments()).logits.log_softmax(-1)
    for prompts_too, counted in ((False, batch.answer), (True, batch.mask)):
        pairs = [(i, t) for i in range(6) for t in range(1, batch.ids.shape[1]) if counted[i, t]]
        total = -sum(
            float(log_p[i, t - 1, batch.ids[i, t]]) for i, t in pairs if prompts_too or batch.answer[i, t]
        )
        assert float(language_loss(model, batch, prompts_too)) == pytest.approx(total / len(pairs), rel=1e-5)


def test_the_learning_rate_rises_and_falls():
    rates = [schedule(step, 100) for step in range(100)]
    assert rates[:5] == [0.2, 0.4, 0.6, 0.8, 1.0]
    assert rates[5:] == sorted(rates[5:], reverse=True)
    assert rates[-1] < 0.01


def broken(loss_at: int | None = None, gradient_at: int | None = None):
    """A loss that is no number, or has a gradient that is none, at a step."""
    step = iter(range(100))

    def loss(model, batch):
        now, value = next(step), language_loss(model, batch)
        if now == gradient_at:
            value.register_hook(lambda gradient: gradient * float("nan"))
        return value * float("nan") if now == loss_at else value

    return loss


@pytest.mark.parametrize(
    ("loss", "said"),
    [
        (broken(loss_at=0), r"the loss is nan at step 0 \(4 rows\), the first of this start"),
        (broken(loss_at=2), r"the loss is nan at step 2 .*, after \d.* and a finite gradient: .*\(0.003\)"),
        (broken(gradient_at=1), r"gradient is nan at step 1 \(loss \d.*4 rows\).* not the learning rate"),
    ],
)
def test_what_is_no_number_stops_the_training_before_it_reaches_the_weights(loss, said):
    model = new_language_model(TOKENIZER, SMALL, 0)
    with pytest.raises(SafeframeError, match=said):
        fit(model, corpus.written(WORLD, 4, 0), loss, FitSettings(steps=3))
    assert all(bool(weight.isfinite().all()) for weight in model.parameters())


def test_training_never_takes_the_attention_of_cudnn():
    """Its backward pass gives NaN for padded rows of 64, 192, ... tokens on an H100 (pytorch #196678)."""
    seen, enabled = [], torch.backends.cuda.cudnn_sdp_enabled
    before = enabled()

    def loss(model, batch):
        seen.append(enabled())
        return language_loss(model, batch)

    for precision in ("float32", "bfloat16"):
        model = new_language_model(TOKENIZER, SMALL, 0)
        settings, runtime = FitSettings(steps=1), Runtime("cpu", precision)
        fit(model, corpus.written(WORLD, 4, 0), loss, settings, runtime=runtime)
    assert seen == [False, False]
    assert enabled() == before
    with pytest.raises(KeyError), Runtime().computing("it", "lower"):
        raise KeyError
    assert enabled() == before


def comparisons(n: int = 8) -> Comparisons:
    rng = np.random.default_rng(2)
    prompts = PROMPTS[np.arange(n)]
    a, b = (
        corpus.conversations(prompts, grammar.write_answers(prompts, WORLD.use, WORLD.risk(prompts), rng))
        for _ in "ab"
    )
    flags = [torch.from_numpy(rng.random(n) < 0.5) for _ in range(3)]
    return Comparisons(a, b, *flags)


def score_model(seed: int = 0):
    return new_score_model(new_language_model(TOKENIZER, SMALL, seed), seed)


def test_preference_losses_by_hand():
    scores, batch = TokenScores(score_model()), comparisons()
    with torch.no_grad():
        a, b = end_scores(scores, batch.a).double(), end_scores(scores, batch.b).double()
        sigma = lambda x: 1 / (1 + torch.exp(-x))  # noqa: E731
        reward, cost = [], []
        for i in range(len(batch)):
            first = bool(batch.preferred[i])
            chosen = -torch.log(sigma((a[i] - b[i]) if first else (b[i] - a[i])))
            reward.append(chosen)
            signs = [1 if harmful[i] else -1 for harmful in (batch.harmful_a, batch.harmful_b)]
            cost.append(chosen - torch.log(sigma(signs[0] * a[i])) - torch.log(sigma(signs[1] * b[i])))
        squares = (a.square() + b.square()).mean()
        assert float(reward_loss(scores, batch, 0.0)) == pytest.approx(
            float(sum(reward)) / len(batch), rel=1e-4
        )
        assert float(reward_loss(scores, batch, 0.5)) == pytest.approx(
            float(sum(reward)) / len(batch) + 0.5 * float(squares), rel=1e-4
        )
        assert float(cost_loss(scores, batch)) == pytest.approx(float(sum(cost)) / len(batch), rel=1e-4)


def test_the_cost_model_learns_which_answers_are_harmful():
    """On a world of two answers: a refusal and a disclosure."""
    prompts = PROMPTS[np.zeros(64, int)]
    safe, unsafe = (
        corpus.conversations(prompts, np.tile(grammar.parse([text]), (64, 1))) for text in ANSWERS[1::-1]
    )
    yes, no = torch.ones(64, dtype=torch.bool), torch.zeros(64, dtype=torch.bool)
    batch = Comparisons(safe, unsafe, no, no, yes)
    found = fit(
        TokenScores(score_model()), lambda _: batch, cost_loss, FitSettings(steps=30, learning_rate=1e-2)
    ).model
    scores = score_all(found, TOKENIZER, SYNTHETIC_TEMPLATE, prompts.text()[:1], [ANSWERS[:2]], 40, 25)
    assert scores[0, 0] > 0 > scores[0, 1]


def test_scores_with_a_shared_prompt_are_those_of_whole_conversations():
    model, texts = score_model(3).eval(), PROMPTS.text()
    found = score_all(model, TOKENIZER, SYNTHETIC_TEMPLATE, texts, [ANSWERS] * len(texts), 40, 25, batch=9)
    said = encode_prompts(TOKENIZER, SYNTHETIC_TEMPLATE, texts, 40)
    for k, text in enumerate(ANSWERS):
        rows = join(said, encode_answers(TOKENIZER, [text] * len(texts), 25))
        with torch.inference_mode():
            np.testing.assert_allclose(found[:, k], end_scores(TokenScores(model), rows), atol=1e-5)


def test_stacked_needs_prompts_of_one_width():
    batch = comparisons()
    both = stacked(batch.a, batch.b)
    assert len(both) == 16
    assert torch.equal(both.last[8:], batch.b.last)
    other = corpus.conversations(PROMPTS[np.arange(2)], grammar.parse(["open the lock"] * 2))
    if other.start != batch.a.start:
        with pytest.raises(SafeframeError, match="the same is needed"):
            stacked(batch.a, other)


def test_models_come_back_as_they_were_saved(tmp_path):
    model = new_language_model(TOKENIZER, SMALL, 0)
    save_pretrained(model, TOKENIZER, tmp_path / "ai", torch.float16)
    assert model.dtype == torch.float32
    loaded = load_language_model(tmp_path / "ai")
    for a, b in zip(model.state_dict().values(), loaded.state_dict().values(), strict=True):
        torch.testing.assert_close(a.half().float(), b)
    assert (
        revision(load_language_model(tmp_path / "ai"))
        == revision(loaded)
        != revision(new_language_model(TOKENIZER, SMALL, 1))
    )
    again = load_tokenizer(tmp_path / "ai")
    assert again("open the lock <answer>")["input_ids"] == TOKENIZER("open the lock <answer>")["input_ids"]
    assert again.padding_side == "left"


def test_what_cannot_be_loaded_says_what_to_download_and_where_to_put_it(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for load in (load_language_model, load_score_model, load_tokenizer):
        with pytest.raises(ConfigError, match=r"hf download facebook/opt-1.3b --local-dir DIR"):
            load("facebook/opt-1.3b")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="must be a folder that save_pretrained wrote"):
        load_language_model(tmp_path / "empty")


def test_a_language_model_is_no_score_model(tmp_path):
    save_pretrained(new_language_model(TOKENIZER, SMALL, 0), TOKENIZER, tmp_path)
    with pytest.raises(SafeframeError, match=r"lacks weights of a score model \(score.weight\)"):
        load_score_model(tmp_path)


@pytest.mark.parametrize("bias", [True, False])
def test_score_models_of_safe_rlhf_load(tmp_path, bias):
    """The layout of PKU's beaver-7b models: LlamaForScore with score_head."""
    config = LlamaConfig(
        vocab_size=200,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_labels=1,
        pad_token_id=0,
        max_position_embeddings=64,
    )
    torch.manual_seed(0)
    model = LlamaForSequenceClassification(config).eval()
    model.save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    weights["score_head.weight"] = weights.pop("score.weight")
    if bias:
        weights["score_head.bias"] = torch.tensor([0.75])
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    content = json.loads((tmp_path / "config.json").read_text())
    content |= {"architectures": ["LlamaForScore"], "score_dim": 1, "bias": bias}
    (tmp_path / "config.json").write_text(json.dumps(content))
    found = load_score_model(tmp_path)
    texts = PROMPTS.text()[:4]
    scores = score_all(found, TOKENIZER, SYNTHETIC_TEMPLATE, texts, [ANSWERS] * 4, 40, 25)
    said = encode_prompts(TOKENIZER, SYNTHETIC_TEMPLATE, texts, 40)
    rows = join(said, encode_answers(TOKENIZER, [ANSWERS[0]] * 4, 25))
    with torch.inference_mode():
        expected = end_scores(TokenScores(model), rows) + (0.75 if bias else 0.0)
    np.testing.assert_allclose(scores[:, 0], expected, atol=1e-5)
    shutil.rmtree(tmp_path)


def test_out_of_memory_is_told_from_other_errors():
    for error in (
        torch.OutOfMemoryError("CUDA out of memory. Tried"),
        MemoryError("x"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
    ):
        with (
            pytest.raises(SafeframeError, match=r"out of memory in scoring.*lower the batch"),
            memory_guard("scoring", "lower the batch"),
        ):
            raise error
    with pytest.raises(RuntimeError, match="shapes"), memory_guard("scoring", "lower the batch"):
        raise RuntimeError("shapes differ")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"precision": "float8"}, "precision='float8' is not one of"),
        ({"device": "cuda"}, "torch sees no GPU here"),
    ],
)
def test_runtime_errors(settings, message, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SafeframeError, match=message):
        Runtime(**settings)


def test_bf16_and_gradient_checkpointing_train():
    losses = []
    runtime = Runtime(precision="bfloat16", gradient_checkpointing=True)
    fit(
        new_language_model(TOKENIZER, SMALL, 0),
        corpus.written(WORLD, 8, 0),
        language_loss,
        FitSettings(steps=8),
        runtime=runtime,
        report=lambda _, v: losses.append(v),
    )
    assert losses[-1] < losses[0]
