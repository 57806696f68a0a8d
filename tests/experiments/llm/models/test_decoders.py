"""Any decoder: OPT, Llama, Qwen and Gemma shapes through the same calls."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from decoders import KINDS, SPECIAL, base, tokenizer_of

from experiments.llm.capacity import Capacity
from experiments.llm.config import ClassifierConfig
from experiments.llm.guard.classifier import decoder_classifier, margins, tokens_of, trained_share
from experiments.llm.models import fine_tune
from experiments.llm.models.conversations import join
from experiments.llm.models.fine_tune_steps import Steps
from experiments.llm.models.generation.sampling import Sampling, generate, texts_of
from experiments.llm.models.language_model import (
    end_tokens,
    load_language_model,
    load_tokenizer,
    require_fit,
    require_room,
    save_pretrained,
)
from experiments.llm.models.preference_models import (
    Judged,
    TokenScores,
    end_scores,
    load_score_model,
    new_score_model,
    score_all,
)
from experiments.llm.models.runtime import own_attention
from experiments.llm.models.sources import fold_of
from experiments.llm.models.tokenizer import (
    PKU_TEMPLATE,
    Template,
    encode_answers,
    encode_prompts,
    template_of,
)
from safeframe.types import SafeframeError

PROMPTS = ["name a colour", "say hello to everybody", "count", "what is the time"]
ANSWERS = ["red", "good morning to you all", "one two", "noon"]
PLAIN = "{prompt} :"


def template(kind):
    return template_of(tokenizer_of(kind), None, PLAIN)


@pytest.mark.parametrize("kind", KINDS)
def test_left_and_right_padding_and_the_cache_give_the_same_scores(kind):
    tokenizer = tokenizer_of(kind)
    model = new_score_model(base(kind, tokenizer), 0).eval()
    answers = [[a, b] for a, b in zip(ANSWERS, ANSWERS[::-1], strict=True)]
    found = [
        score_all(model, tokenizer, template(kind), PROMPTS, answers, 64, 32, batch, padded=padded)
        for batch, padded in ((2, False), (8, False), (8, True))
    ]
    said = encode_prompts(tokenizer, template(kind), PROMPTS, 64)
    with torch.no_grad():
        by_row = end_scores(TokenScores(model), join(said, encode_answers(tokenizer, ANSWERS, 32)))
    for other in found[1:]:
        np.testing.assert_allclose(other, found[0], atol=2e-5)
    np.testing.assert_allclose(found[0][:, 0], by_row, atol=2e-5)
    assert np.unique(found[0].round(4)).size == 8


@pytest.mark.parametrize("kind", KINDS)
def test_padded_batches_give_the_same_distribution_of_the_first_token(kind):
    """Log-probabilities of the same tokens, from batches of one prompt and of all, padded."""
    tokenizer = tokenizer_of(kind)
    model = base(kind, tokenizer)
    said = encode_prompts(tokenizer, template(kind), PROMPTS, 64)
    made = generate(model, tokenizer, said, Sampling(2, 6, padded=True), 3)
    for i, prompt in enumerate(PROMPTS):
        alone = encode_prompts(tokenizer, template(kind), [prompt], 64)
        for j in range(2):
            ends = np.isin(made.tokens[i, j], end_tokens(model, tokenizer))
            length = int(ends.argmax()) + 1 if ends.any() else made.tokens.shape[-1]
            row = torch.tensor([[*alone.ids[0], *made.tokens[i, j, :length]]])
            with torch.no_grad():
                log_p = model(input_ids=row).logits[0, -length - 1 : -1].log_softmax(-1)
            expected = log_p.gather(-1, row[0, -length:, None]).sum()
            assert float(expected) == pytest.approx(float(made.log_probability[i, j]), abs=1e-3)
            assert bool(made.finished[i, j]) == bool(ends.any())


def test_answers_end_at_any_end_token():
    tokenizer = tokenizer_of("gemma3_text")
    model = base("gemma3_text", tokenizer)
    turn = SPECIAL.index("<|end|>")
    assert end_tokens(model, tokenizer) == (2, turn)
    said = encode_prompts(tokenizer, template("gemma3_text"), PROMPTS * 25, 64)
    made = generate(model, tokenizer, said, Sampling(2, 24, padded=True), 0)
    has = {end: (made.tokens == end).any(axis=-1) for end in (2, turn)}
    assert has[2].any()
    assert has[turn].any()
    assert not (has[2] & has[turn] & (tokenizer.pad_token_id != 2)).any()
    assert np.array_equal(made.finished, has[2] | has[turn])


@pytest.mark.parametrize("kind", KINDS)
def test_long_prompts_are_cut_inside_the_users_turn(kind):
    tokenizer, shape = tokenizer_of(kind), template(kind)
    text = "abcdefghij" * 9
    whole = encode_prompts(tokenizer, shape, [text], 200).ids[0].tolist()
    cut = encode_prompts(tokenizer, shape, [text], 40)
    assert (cut.truncated, cut.ids.shape[1]) == (1, 40)
    before = len(encode_prompts(tokenizer, shape, ["a"], 200).ids[0])
    read = tokenizer.decode(cut.ids[0])
    assert shape.before in read
    assert read.endswith(shape.after)
    assert cut.ids[0].tolist()[-20:] == whole[-20:]
    with pytest.raises(SafeframeError, match="leaves nothing of a prompt: the template alone has"):
        encode_prompts(tokenizer, shape, [text], before - 1)


def test_answers_that_were_cut_have_no_end_token():
    tokenizer = tokenizer_of("llama")
    rows = encode_answers(tokenizer, ["ab", "ab"], 8, [True, False])
    assert rows.mask.sum(axis=1).tolist() == [3, 2]
    assert rows.ids[0, 2] == tokenizer.eos_token_id
    table = tokens_of(tokenizer, template("llama"), ["q", "q"], ["ab", "ab"], 64, [True, False])
    assert table.length[0] == table.length[1] + 1
    model = new_score_model(base("llama", tokenizer), 0).eval()
    both = [[["ab", "ab"]], np.array([[True, False]])]
    found = score_all(model, tokenizer, template("llama"), ["q"], both[0], 64, 8, finished=both[1])
    assert found[0, 0] != found[0, 1]


@pytest.mark.parametrize("kind", KINDS)
def test_classifiers_with_lora_in_every_linear_layer_and_in_parts(kind):
    tokenizer = tokenizer_of(kind)
    model = new_score_model(base(kind, tokenizer), 0)
    model.score = torch.nn.Linear(model.config.hidden_size, 2, bias=False)
    table = tokens_of(tokenizer, template(kind), PROMPTS, ANSWERS, 64)
    whole, parts = (
        decoder_classifier(model, ClassifierConfig(rank=2), Capacity("lora", 2), 0, micro=micro)
        for micro in (64, 2)
    )
    assert np.allclose(margins(whole, table, 1), margins(whole, table, 4), atol=1e-5)
    names = {name for name, p in whole.named_parameters() if p.requires_grad and "lora_A" in name}
    linear = [m for m in model.modules() if isinstance(m, torch.nn.Linear)]
    assert len(names) >= len(linear) - 1
    assert trained_share(whole)[0] < trained_share(whole)[1]
    gradients = []
    for module in (whole, parts):
        module.train()
        module(*table.batch(np.arange(4))).square().sum().backward()
        gradients.append([p.grad for p in module.parameters() if p.grad is not None])
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


def test_templates():
    chat = tokenizer_of("llama")
    assert template_of(chat, None) == Template("<|user|>", "<|end|><|assistant|>", special=False)
    assert template_of(chat, "safe-rlhf") == Template.of(PKU_TEMPLATE)
    assert template_of(chat, "a\\nb {prompt}").before == "a\nb "
    with pytest.raises(SafeframeError, match=r"no chat template: give models.template=safe-rlhf"):
        template_of(tokenizer_of("opt"), None)
    with pytest.raises(SafeframeError, match="no chat template"):
        template_of(tokenizer_of("opt"), "chat", PLAIN)
    for bad in ("no place", "{prompt} {prompt}", "{prompt} {x}", "{{prompt}}"):
        with pytest.raises(SafeframeError, match=r"must hold \{prompt\} exactly once and no other braces"):
            template_of(chat, bad)


def test_a_model_that_does_not_fit_is_refused(tmp_path):
    tokenizer = tokenizer_of("llama")
    model = base("llama", tokenizer)
    require_fit(model, tokenizer, "m")
    model.resize_token_embeddings(len(tokenizer) - 3)
    with pytest.raises(SafeframeError, match="259 tokens and the tokenizer 262: they do not"):
        require_fit(model, tokenizer, "m")
    with pytest.raises(
        SafeframeError, match="'m' reads at most 256 tokens, prompt and answer have up to 300"
    ):
        require_room(model, 300, "m")
    tokenizer.save_pretrained(tmp_path / "endless")
    said = json.loads((tmp_path / "endless" / "tokenizer_config.json").read_text())
    for name in ("eos_token", "pad_token"):
        said.pop(name, None)
    (tmp_path / "endless" / "tokenizer_config.json").write_text(json.dumps(said))
    with pytest.raises(SafeframeError, match="no end-of-sequence token, so no answer would end"):
        load_tokenizer(tmp_path / "endless")


def rows(n: int) -> list[dict]:
    return [
        {"prompt": f"question {i}", "response_0": "yes " * (i % 4 + 1), "response_1": "no",
         "is_response_0_safe": i % 3 > 0, "is_response_1_safe": i % 2 > 0, "better_response_id": i % 2,
         "safer_response_id": (i + 1) % 2}
        for i in range(n)
    ]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_every_step_of_the_fine_tuning(kind, tmp_path):
    tokenizer = tokenizer_of(kind)
    save_pretrained(base(kind, tokenizer), tokenizer, tmp_path / "base")
    (tmp_path / "data.jsonl").write_text("\n".join(map(json.dumps, rows(24))))
    single = [{"prompt": f"q {i}", "response": "yes" * (i % 3 + 1), "unsafe": i % 2} for i in range(24)]
    (tmp_path / "single.jsonl").write_text("\n".join(map(json.dumps, single)))
    common = ["device=cpu", "max_prompt_tokens=64", "max_answer_tokens=12"]
    common += ["template=" + (PLAIN if kind == "opt" else "chat")]
    fit = ["steps=2", "batch=4", "micro=2", "learning_rate=1e-2"]

    def step(name, start, out, *more):
        arguments = [f"step={name}", f"model={tmp_path / start}", f"out={tmp_path / out}", *common, *more]
        assert fine_tune.main(arguments) == 0

    data = f"data={tmp_path / 'data.jsonl'}"
    step("sft", "base", "sft", data, *fit)
    step("reward", "sft", "reward", data, *fit)
    step("cost", "sft", "cost", data, *fit)
    step("ppo_lag", "sft", "ai", data, f"reward={tmp_path / 'reward'}", f"cost={tmp_path / 'cost'}",
         "iterations=1", "batch=4", "minibatch=2", "ptx_coefficient=1")  # fmt: skip
    folded = ["folds=2", "fold=1", "lora_rank=2", "unfinished=0.5", *fit]
    step("cost", "sft", "folds/fold_1", f"data={tmp_path / 'single.jsonl'}", *folded)
    step("reward", "sft", "adapters", data, *folded)
    whole, adapted = (load_score_model(tmp_path / name) for name in ("cost", "folds/fold_1"))
    text = load_tokenizer(tmp_path / "folds" / "fold_1")
    found = [
        score_all(model, text, template(kind), PROMPTS, [[a] for a in ANSWERS], 64, 16)
        for model in (whole, adapted)
    ]
    assert np.isfinite(found).all()
    counted = json.loads((tmp_path / "folds" / "fold_1" / "held_out.json").read_text())
    half = {"half.auc", "half.missed", "half.condemned"}
    assert set(counted) == {"n", "harmful", "auc", "missed", "condemned", *half}
    assert 0 < counted["n"] < 24
    pairs = json.loads((tmp_path / "adapters" / "held_out.json").read_text())
    assert {"accuracy", "half.accuracy"} <= set(pairs)
    said = encode_prompts(text, template(kind), PROMPTS, 64)
    made = generate(load_language_model(tmp_path / "ai"), text, said, Sampling(2, 4, padded=True), 0)
    assert len(texts_of(text, made.tokens)) == len(PROMPTS)


def test_some_training_answers_lose_their_end_as_those_of_a_pool(tmp_path):
    """Score models that had only seen whole answers said the same of nearly every answer that was cut."""
    tokenizer = tokenizer_of("llama")
    save_pretrained(base("llama", tokenizer), tokenizer, tmp_path / "base")
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows(24))))
    single = [{"prompt": f"q {i}", "response": "yes " * (i % 9), "unsafe": i % 2} for i in range(1, 24)]
    (tmp_path / "single.jsonl").write_text("\n".join(map(json.dumps, single)))

    def drawn(data: str, share: float, step: int = 3):
        given = {"step": "cost", "model": str(tmp_path / "base"), "out": "o", "data": str(tmp_path / data)}
        given |= {"batch": "200", "device": "cpu", "unfinished": str(share)}
        found = Steps(fine_tune.FineTuning.parse(given)[0], None).scored(step, "cost")
        return [found.said] if isinstance(found, Judged) else [found.a, found.b]

    def ends(batch):
        return batch.ids[torch.arange(len(batch)), batch.last] == tokenizer.eos_token_id

    for data in ("pairs.jsonl", "single.jsonl"):
        whole, half, cut = (drawn(data, share) for share in (0, 0.5, 1))
        assert all(bool(ends(part).all()) for part in whole)
        lost = [~ends(part) for part in half]
        assert 0.35 < float(lost[0].float().mean()) < 0.65
        assert torch.equal(lost[0], lost[-1])  # both answers of a pair, or neither
        assert not any(bool(ends(part).any()) for part in cut)
        for full, part, gone in zip(whole, half, lost, strict=True):
            assert torch.equal(part.mask[~gone], full.mask[~gone])
            kept = part.answer[gone].sum(dim=1)
            assert bool((kept >= 1).all())
            assert bool((kept < full.answer[gone].sum(dim=1)).all())
            assert torch.equal(part.mask & ~part.answer, full.mask & ~full.answer)  # prompts are whole
        a, again, other = drawn(data, 0.5), drawn(data, 0.5), drawn(data, 0.5, step=4)
        assert torch.equal(a[0].mask, again[0].mask)
        assert a[0].mask.shape != other[0].mask.shape or not torch.equal(a[0].mask, other[0].mask)


def test_batches_of_like_length_hold_the_rows_that_were_drawn_together(tmp_path):
    tokenizer = tokenizer_of("llama")
    save_pretrained(base("llama", tokenizer), tokenizer, tmp_path / "base")
    single = [{"prompt": f"q {i}", "response": "yes " * (1 + i % 40), "unsafe": i % 2} for i in range(200)]
    (tmp_path / "single.jsonl").write_text("\n".join(map(json.dumps, single)))

    def steps(alike: int) -> Steps:
        given = {"step": "cost", "model": str(tmp_path / "base"), "out": "o", "device": "cpu"}
        given |= {"data": str(tmp_path / "single.jsonl"), "batch": "20", "alike": str(alike)}
        return Steps(fine_tune.FineTuning.parse(given)[0], None)

    def spread(found: Steps) -> float:
        return float(
            np.mean([np.std([len(row["response"]) for row in found._rows(i, 20)]) for i in range(8)])
        )

    alike = steps(4)
    assert spread(alike) < 0.5 * spread(steps(1))
    first = [row["prompt"] for i in range(4) for row in alike._rows(i, 20)]
    again = [row["prompt"] for i in range(4) for row in steps(4)._rows(i, 20)]
    assert first == again  # a function of the step alone
    assert len({row["prompt"] for i in range(40) for row in alike._rows(i, 20)}) > 150


def test_further_rows_belong_to_folds_too(tmp_path):
    """A prompt is only ever scored by a model that has seen none of its answers, from whatever file."""
    tokenizer = tokenizer_of("llama")
    save_pretrained(base("llama", tokenizer), tokenizer, tmp_path / "base")
    for name, start in (("data", 0), ("more", 100)):
        some = [{"prompt": f"q {start + i}", "response": "yes", "unsafe": i % 2} for i in range(40)]
        some = [row | {"unsafe": 0} for row in some] if name == "more" else some
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, some)))
    given = {"step": "cost", "model": str(tmp_path / "base"), "out": "o", "device": "cpu", "folds": "3"}
    given |= {"data": str(tmp_path / "data.jsonl"), "more": str(tmp_path / "more.jsonl"), "fold": "1"}
    found = Steps(fine_tune.FineTuning.parse(given)[0], None)
    assert all(fold_of(row["prompt"], 3) != 1 for row in found.rows)
    assert all(fold_of(row["prompt"], 3) == 1 for row in found.left_out)
    assert {row["prompt"] for row in found.left_out} <= {f"q {i}" for i in range(40)}  # counted on data alone
    assert sum(int(row["prompt"].split()[1]) >= 100 for row in found.rows) > 15


def test_attention_is_torchs_own_while_computing_and_as_before_afterwards():
    before = torch.backends.cuda.cudnn_sdp_enabled()
    with own_attention():
        assert not torch.backends.cuda.cudnn_sdp_enabled()
    assert torch.backends.cuda.cudnn_sdp_enabled() == before
