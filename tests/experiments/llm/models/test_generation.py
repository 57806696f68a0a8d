"""Generation: log-probabilities, distribution, padding, shards, errors."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from decoders import KINDS, base, tokenizer_of
from llm_small import SMALL, TOKENIZER
from scipy import stats
from transformers import OPTForCausalLM
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from experiments.llm.models.conversations import answer_log_probabilities, join
from experiments.llm.models.generation import sampling as generation
from experiments.llm.models.generation.drawing import drawn, nucleus
from experiments.llm.models.generation.key_value_cache import one_token
from experiments.llm.models.generation.sampling import Sampling, generate, take, texts_of
from experiments.llm.models.language_model import configuration, end_tokens, new_language_model
from experiments.llm.models.tokenizer import (
    SYNTHETIC_TEMPLATE,
    Encoded,
    encode_answers,
    encode_prompts,
    padded,
    token_rows,
)
from experiments.llm.world.grammar import EOS, PAD, VOCABULARY, draw_prompts, render
from experiments.support.errors import CacheError
from safeframe.types import SafeframeError


def warm(model: OPTForCausalLM) -> OPTForCausalLM:
    """Far from uniform, and often at its end."""
    with torch.no_grad():
        for value in model.parameters():
            value.mul_(4.0)
    return model.eval()


@pytest.fixture(scope="module")
def model():
    return warm(new_language_model(TOKENIZER, SMALL, 0))


@pytest.fixture(scope="module")
def prompts():
    texts = draw_prompts("train", 40, np.random.default_rng(0)).text()
    return encode_prompts(TOKENIZER, SYNTHETIC_TEMPLATE, texts, 40)


def conversations(prompts: Encoded, tokens: np.ndarray, k: int):
    ended = np.cumsum(tokens == EOS, axis=1)
    mask = (ended == 0) | ((ended == 1) & (tokens == EOS))
    repeated = Encoded(np.repeat(prompts.ids, k, axis=0), np.repeat(prompts.mask, k, axis=0), 0)
    return join(repeated, Encoded(tokens.astype(np.int64), mask, 0)), mask


@pytest.mark.parametrize("batch", [16, 64, 100_000])
def test_log_probabilities_are_those_of_the_whole_conversations(model, prompts, batch):
    """With padding, with the cache, with ended sequences leaving: as one plain forward says."""
    found = generate(model, TOKENIZER, prompts, Sampling(4, 24, 0.8, batch=batch, shard=15), seed=1)
    flat = found.tokens.reshape(-1, 24)
    rows, mask = conversations(prompts, flat, 4)
    with torch.inference_mode():
        expected = answer_log_probabilities(model(**rows.arguments()).logits, rows, 0.8).sum(dim=1)
    np.testing.assert_allclose(found.log_probability.ravel(), expected, atol=2e-4, rtol=1e-4)
    assert np.array_equal(found.finished.ravel(), (flat == EOS).any(axis=1))
    assert 0.2 < found.finished.mean() < 1
    assert (flat[~mask] == PAD).all()


def test_a_padded_batch_gives_what_equal_lengths_give(model, prompts):
    sampling, lengths = Sampling(2, 6), prompts.mask.sum(axis=1)
    assert len(np.unique(lengths)) > 2
    whole = generation.sample(model, prompts, sampling, torch.Generator().manual_seed(0), EOS, PAD)
    rows, _ = conversations(prompts, whole.tokens.reshape(-1, 6), 2)
    with torch.inference_mode():
        expected = answer_log_probabilities(model(**rows.arguments()).logits, rows).sum(dim=1)
    np.testing.assert_allclose(whole.log_probability.ravel(), expected, atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("k", [1, 2, 3])
def test_few_answers_may_all_end(model, prompts, k):
    few = take(prompts, np.arange(3))
    for seed in range(20):
        found = generate(model, TOKENIZER, few, Sampling(k, 24), seed)
        assert np.isfinite(found.log_probability).all()
        assert np.array_equal(found.finished, (found.tokens == EOS).any(axis=-1))


def test_answers_have_the_distribution_of_the_model():
    """Every answer of up to two tokens of a four-word language, by enumeration."""

    class Four:
        pad_token_id, eos_token_id, bos_token_id = 0, 1, 2

        def __len__(self):
            return 5

    torch.manual_seed(3)
    model = warm(OPTForCausalLM(configuration(Four(), SMALL)))
    said = padded([[2, 3]], 0, left=True)
    found = generate(model, Four(), said, Sampling(20_000, 2, 1.3, batch=20_000), seed=5)
    exact = {}
    with torch.inference_mode():
        first = (model(torch.tensor([[2, 3]])).logits[0, -1] / 1.3).softmax(-1)
        for a in range(5):
            second = (model(torch.tensor([[2, 3, a]])).logits[0, -1] / 1.3).softmax(-1)
            for b in range(5):
                key = (a, 0) if a == 1 else (a, b)
                exact[key] = exact.get(key, 0.0) + float(
                    first[a] * (1.0 if a == 1 and b == 0 else second[b] * (a != 1))
                )
    counts = dict.fromkeys(exact, 0)
    for row in found.tokens[0]:
        counts[tuple(row.tolist())] += 1
    often = [key for key in exact if exact[key] * 20_000 > 5]
    observed = np.array([counts[key] for key in often] + [20_000 - sum(counts[key] for key in often)])
    share = np.array([exact[key] for key in often])
    expected = np.append(share, max(1 - share.sum(), 1e-4)) * 20_000
    assert len(often) > 4
    assert stats.chisquare(observed, expected * observed.sum() / expected.sum()).pvalue > 1e-3


def test_nucleus_by_hand():
    logits = torch.log(torch.tensor([[0.5, 0.3, 0.15, 0.05]]))
    for top_p, kept in ((0.4, 1), (0.5, 1), (0.6, 2), (0.81, 3), (1.0, 4)):
        assert int(torch.isfinite(nucleus(logits, top_p)).sum()) == kept, top_p


def test_shards_are_reused_and_a_killed_generation_goes_on(model, prompts, tmp_path, monkeypatch):
    sampling = Sampling(2, 8, shard=15)
    whole = generate(model, TOKENIZER, prompts, sampling, 7)

    def killed(starts):
        for number, start in enumerate(starts):
            if number == 2:
                raise KeyboardInterrupt
            yield start

    with pytest.raises(KeyboardInterrupt):
        generate(model, TOKENIZER, prompts, sampling, 7, tmp_path, killed)
    assert len(list(tmp_path.glob("*.npz"))) == 2
    resumed = generate(model, TOKENIZER, prompts, sampling, 7, tmp_path)
    assert np.array_equal(resumed.tokens, whole.tokens)
    monkeypatch.setattr(generation, "sample", None)  # nothing is made again
    again = generate(model, TOKENIZER, prompts, sampling, 7, tmp_path)
    assert np.array_equal(again.tokens, whole.tokens)
    assert np.array_equal(again.log_probability, whole.log_probability)


def test_shards_belong_to_model_prompts_sampling_and_seed(model, prompts, tmp_path):
    sampling, fewer = Sampling(1, 4), take(prompts, np.arange(5))
    other = warm(new_language_model(TOKENIZER, SMALL, 1))
    for arguments in (
        (model, prompts, sampling, 0),
        (other, prompts, sampling, 0),
        (model, fewer, sampling, 0),
        (model, prompts, Sampling(1, 4, 0.9), 0),
        (model, prompts, sampling, 1),
    ):
        generate(arguments[0], TOKENIZER, *arguments[1:], tmp_path)
    assert len(list(tmp_path.glob("*.npz"))) == 5


def test_a_damaged_shard_is_refused(model, prompts, tmp_path):
    generate(model, TOKENIZER, prompts, Sampling(1, 4), 0, tmp_path)
    path = next(tmp_path.glob("*.npz"))
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(CacheError, match="delete the file"):
        generate(model, TOKENIZER, prompts, Sampling(1, 4), 0, tmp_path)


def test_out_of_memory_says_what_to_lower(model, prompts, monkeypatch):
    def full(*_args, **_more):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")

    monkeypatch.setattr(generation, "sample", full)
    with pytest.raises(
        SafeframeError, match=r"out of memory in generation .* lower models.batch \(now 4096\)"
    ):
        generate(model, TOKENIZER, prompts, Sampling(1, 4), 0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"candidates": 0}, "sampling.candidates=0"),
        ({"temperature": 0.0}, "sampling.temperature=0.0"),
        ({"top_p": 1.5}, "sampling.top_p=1.5"),
        ({"shard": 0}, "sampling.shard=0"),
    ],
)
def test_sampling_out_of_range(settings, message):
    with pytest.raises(SafeframeError, match=message):
        Sampling(**settings)


def test_texts_are_read_as_they_were_written():
    tokens = np.random.default_rng(0).integers(5, len(VOCABULARY), (30, 2, 10)).astype(np.int32)
    tokens[:, :, 7] = EOS
    tokens[:, :, 8:] = PAD
    texts = texts_of(TOKENIZER, tokens)
    assert [text for row in texts for text in row] == render(tokens.reshape(60, 10))
    again = encode_answers(TOKENIZER, [text for row in texts for text in row], 24)
    assert np.array_equal(again.ids, tokens.reshape(60, 10)[:, :8])


def test_the_look_up_of_words_is_the_tokenizer():
    texts = [
        "sorry , i can ' t answer this question .",
        "open the moon",
        "Sorry, I can't answer this question.",
        "a  b",
    ]
    texts += draw_prompts("train", 20, np.random.default_rng(0)).text()
    for special in (True, False):
        core = TOKENIZER.backend_tokenizer.encode_batch(texts, add_special_tokens=special)
        assert token_rows(TOKENIZER, texts, special=special) == [found.ids for found in core]
    rows = token_rows(TOKENIZER, texts[:3], special=False)
    assert rows[0] == rows[2]  # the default answer is a sentence of the world


def test_long_prompts_lose_their_beginning_but_not_the_template():
    short = encode_prompts(TOKENIZER, SYNTHETIC_TEMPLATE, ["open the lock ?"], 40)
    cut = encode_prompts(TOKENIZER, SYNTHETIC_TEMPLATE, ["open the lock ?", "open"], 4)
    assert (short.truncated, cut.truncated) == (0, 1)
    assert cut.ids[0].tolist() == [short.ids[0, 0], *short.ids[0, -3:]]
    assert cut.mask[1].tolist() == [False, True, True, True]
    answers = encode_answers(TOKENIZER, ["open the lock", "open"], 3)
    assert (answers.truncated, answers.ids.shape) == (1, (2, 3))


@pytest.mark.parametrize(
    ("texts", "message"), [([], "none given"), (["open", " "], "1 of 2 are empty, the first at index 1")]
)
def test_empty_prompts(texts, message):
    with pytest.raises(SafeframeError, match=message):
        encode_prompts(TOKENIZER, SYNTHETIC_TEMPLATE, texts, 10)


def test_every_answer_needs_its_prompt():
    one = padded([[1]], 0, left=True)
    with pytest.raises(SafeframeError, match="1 prompts and 2 answers"):
        join(one, padded([[1], [2]], 0, left=False))
    assert len(list(itertools.islice(generation.batches_of(one, 3), 5))) == 1


def test_a_large_vocabulary_is_drawn_by_its_distribution():
    """The inverse of the distribution function in two steps: shares, scores, and nothing outside top-p."""
    torch.manual_seed(0)
    logits = 3 * torch.randn(1, 700)  # two blocks and a part of one
    for top_k, top_p, temperature in ((0, 1.0, 1.0), (0, 0.9, 0.7), (300, 1.0, 1.0)):
        exact = logits.clone()
        if top_k:
            exact[exact < exact.topk(top_k).values.min()] = -torch.inf
        exact = nucleus(exact / temperature, top_p).log_softmax(-1)[0]
        many = logits.expand(40_000, -1)
        chosen, score = drawn(many, top_k, top_p, torch.Generator().manual_seed(1), 100, temperature)
        assert torch.isfinite(exact[chosen]).all()
        torch.testing.assert_close(score, exact[chosen], atol=1e-5, rtol=1e-5)
        counts = torch.bincount(chosen, minlength=700).numpy().astype(float)
        expected = exact.exp().numpy() * len(chosen)
        often = expected > 5
        found = np.append(counts[often], counts[~often].sum())
        wanted = np.append(expected[often], expected[~often].sum())
        found, wanted = found[wanted > 0], wanted[wanted > 0].astype(np.float64)
        assert stats.chisquare(found, wanted * (found.sum() / wanted.sum())).pvalue > 1e-3


def test_rows_that_have_ended_give_the_pad():
    logits = torch.full((3, 5000), -torch.inf)
    logits[:, 4999] = 0.0
    chosen, score = drawn(logits, 0, 1.0, torch.Generator().manual_seed(0))
    assert chosen.tolist() == [4999] * 3
    assert score.tolist() == [0.0] * 3


@pytest.mark.parametrize("masked", [False, True])
def test_attention_of_one_token_is_torchs_own(masked):
    generator = torch.Generator().manual_seed(0)
    query, key, value = (
        torch.randn(shape, generator=generator) for shape in ((5, 6, 1, 8), (5, 2, 9, 8), (5, 2, 9, 8))
    )
    mask = torch.rand((5, 1, 1, 9), generator=generator) < 0.6 if masked else None
    if mask is not None:
        mask[..., -1] = True
    module = SimpleNamespace(num_key_value_groups=3, is_causal=True, training=False)
    found, _ = one_token(module, query, key, value, mask, scaling=0.3)
    own, _ = sdpa_attention_forward(module, query, key, value, mask, scaling=0.3)
    torch.testing.assert_close(found, own, atol=1e-5, rtol=1e-5)
    if mask is not None:
        added = torch.zeros(mask.shape).masked_fill(~mask, -torch.inf)
        torch.testing.assert_close(one_token(module, query, key, value, added, scaling=0.3)[0], own)


@pytest.mark.parametrize("kind", KINDS)
def test_answers_in_half_precision_have_the_log_probabilities_of_whole_conversations(kind):
    tokenizer = tokenizer_of(kind)
    model = base(kind, tokenizer).bfloat16()
    before = model.config._attn_implementation
    said = encode_prompts(tokenizer, "{prompt} :", ["name a colour", "count", "what is the time"], 64)
    made = generate(model, tokenizer, said, Sampling(4, 6, padded=True), 3)
    assert model.config._attn_implementation == before
    whole = base(kind, tokenizer)
    gaps = []
    for i, prompt in enumerate(["name a colour", "count", "what is the time"]):
        alone = encode_prompts(tokenizer, "{prompt} :", [prompt], 64)
        for j in range(4):
            ends = np.isin(made.tokens[i, j], end_tokens(model, tokenizer))
            length = int(ends.argmax()) + 1 if ends.any() else made.tokens.shape[-1]
            row = torch.tensor([[*alone.ids[0], *made.tokens[i, j, :length]]])
            with torch.no_grad():
                log_p = whole(input_ids=row).logits[0, -length - 1 : -1].log_softmax(-1)
            expected = float(log_p.gather(-1, row[0, -length:, None]).sum())
            gaps.append(abs(expected - float(made.log_probability[i, j])) / length)
    assert np.mean(gaps) < 0.1
    assert np.max(gaps) < 0.5
