"""Reward and cost models: scalar scores of a conversation, learned from comparisons.

Source: Dai et al. 2024, "Safe RLHF", arXiv 2310.12773.

reward: a is preferred to b; loss -log sigma(r_a - r_b) (Ouyang et al. 2022, equation 1 for one pair), plus
    `regularisation` times the mean square of the scores (safe-rlhf).
cost: a is more harmful than b; and s = +1 harmful, -1 harmless; loss -log sigma(c_a - c_b) - log sigma(s_a
c_a)
    - log sigma(s_b c_b) (Dai et al., section 3.2). So c > 0 says harmful: that is the label.

Models are transformers' sequence classifiers with one output, read at the last token; PPO's critics read them
at every token. PKU's beaver-7b reward and cost models (class LlamaForScore of safe-rlhf) load into the same
form.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import logsigmoid
from transformers import AutoConfig, AutoModelForSequenceClassification, LlamaForSequenceClassification

from experiments.llm.models.conversations import Comparisons, Conversations, Judged, Rated, stacked
from experiments.llm.models.generation.key_value_cache import reserved_cache
from experiments.llm.models.generation.sampling import batches_of, take
from experiments.llm.models.language_model import load_language_model, loading, memory_guard
from experiments.llm.models.runtime import own_attention
from experiments.llm.models.sources import ADAPTERS, base_of, with_adapters
from experiments.llm.models.tokenizer import Encoded, Template, encode_answers, encode_prompts
from safeframe.types import SafeframeError


class LlamaForScore(LlamaForSequenceClassification):
    """safe-rlhf's score model: `score_head`, with a bias if its configuration says so."""

    def __init__(self, config: Any):
        config.num_labels = 1
        super().__init__(config)
        self.score = nn.Linear(config.hidden_size, 1, bias=bool(getattr(config, "bias", False)))
        self.post_init()


HEADS = ("reward", "cost")
"""Of a model that rates and judges at once: one body, whose outputs are scores of both kinds."""
HEADS_FILE = "heads.json"
"""Beside such a model: the names of its outputs."""


def new_score_model(language_model: Any, seed: int, heads: int = 1) -> Any:
    """A score model with the body of a fine-tuned language model and new heads.

    Raises SafeframeError where transformers has no sequence classifier of the kind.
    """
    given = language_model.config.to_dict()
    for labels in ("id2label", "label2id"):
        given.pop(labels, None)
    config = type(language_model.config).from_dict(given, num_labels=heads)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            model = AutoModelForSequenceClassification.from_config(config)
        except ValueError as error:
            raise SafeframeError(
                f"transformers has no sequence classifier of the kind {config.model_type!r}; take a decoder"
                " that has one (OPT, Llama, Qwen, Gemma, ...)"
            ) from error
    body(model).load_state_dict(body(language_model).state_dict())
    return model


def heads_of(name: str | Path) -> tuple[str, ...]:
    """Names of a score model's outputs, where it has several (`HEADS_FILE`); else none.

    Raises SafeframeError where the file does not name `HEADS`.
    """
    path = Path(name) / HEADS_FILE
    if not path.is_file():
        return ()
    try:
        found = tuple(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise SafeframeError(f"{path} cannot be read ({error}); it holds {list(HEADS)}") from error
    if found != HEADS:
        raise SafeframeError(f"{path} names {list(found)}; it must hold {list(HEADS)}")
    return found


def load_score_model(
    name: str | Path, dtype: torch.dtype = torch.float32, device: Any = "cpu", head: str | None = None
) -> Any:
    """A reward or cost model from a folder or the hub, in evaluation mode.

    head: of a model with both, the one that is kept ("reward" or "cost"); None keeps both.

    Raises ConfigError where it cannot be loaded, SafeframeError if it has more than one score that is not
    named, or its weights do not fit (a head would be random).
    """
    found, names = _loaded(name, dtype), heads_of(name)
    if found.config.num_labels != max(1, len(names)):
        raise SafeframeError(
            f"{str(name)!r} has {found.config.num_labels} outputs: a score model has one, or {len(HEADS)}"
            f" that a file {HEADS_FILE} names"
        )
    if names and head is not None:
        only = nn.Linear(found.config.hidden_size, 1, bias=False, dtype=found.score.weight.dtype)
        with torch.no_grad():
            only.weight.copy_(found.score.weight[names.index(head)])
        found.score, found.config.num_labels = only, 1
    return found.to(device, dtype).eval()


def _loaded(name: str | Path, dtype: torch.dtype) -> Any:
    folder = Path(name)
    if (folder / ADAPTERS).is_file():
        with loading(name):
            base, heads = load_language_model(base_of(folder)), max(1, len(heads_of(folder)))
            return with_adapters(folder, lambda _: new_score_model(base, 0, heads))
    with loading(name):
        config = AutoConfig.from_pretrained(str(name))
        arguments: dict[str, Any] = {"dtype": dtype, "output_loading_info": True}
        if "LlamaForScore" in (config.architectures or []):
            mapping = {"^score_head\\.": "score."}
            model, info = LlamaForScore.from_pretrained(
                str(name), config=config, key_mapping=mapping, **arguments
            )
        else:
            model, info = AutoModelForSequenceClassification.from_pretrained(str(name), **arguments)
    if info["missing_keys"]:
        missing = ", ".join(sorted(info["missing_keys"])[:3])
        raise SafeframeError(f"{str(name)!r} lacks weights of a score model ({missing}): it is not one")
    return model


def body(model: Any) -> Any:
    """The transformer below the head; of a model with LoRA, the adapted one."""
    whole = plain(model)
    return getattr(whole, whole.base_model_prefix)


def plain(model: Any) -> Any:
    """transformers' model inside peft's, or the model itself; adapters stay in."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


class TokenScores(nn.Module):
    """Scores (n, length, heads) after every token: a score model in the form in which it is trained."""

    def __init__(self, model: Any):
        super().__init__()
        self.model = model

    def forward(self, **arguments: Tensor) -> Tensor:
        return plain(self.model).score(body(self.model)(**arguments).last_hidden_state).float()

    def activation_checkpointing_enable(self, **options: Any) -> None:
        """As of the model."""
        plain(self.model).activation_checkpointing_enable(**options)


def end_scores(scores: Any, batch: Conversations) -> Tensor:
    """(n,) score of whole conversations, of the first head; `scores` is a TokenScores."""
    return all_end_scores(scores, batch)[:, 0]


def all_end_scores(scores: Any, batch: Conversations) -> Tensor:
    """(n, heads) as `end_scores`, of every head."""
    return scores(**batch.arguments())[torch.arange(len(batch), device=batch.ids.device), batch.last]


@torch.inference_mode()
@own_attention()
def score_all(
    model: Any, tokenizer: Any, template: str | Template, prompts: list[str], answers: list[list[str]],
    max_prompt_tokens: int, max_answer_tokens: int, batch: int = 2048,
    finished: NDArray[np.bool_] | None = None, padded: bool = False,
) -> NDArray[np.float32]:  # fmt: skip
    """(n, k) scores of k answers to each of n prompts; a prompt is read once for all its answers. Of a model
    with several heads (n, k, heads).

    finished: (n, k), which answers have their end (None: all); padded: as `Sampling.padded`.
    """
    n, k = len(prompts), len(answers[0])
    said = encode_prompts(tokenizer, template, prompts, max_prompt_tokens)
    heads = model.config.num_labels
    result = np.zeros((n, k, heads), np.float32)
    head = model.score
    for index in batches_of(said, max(1, batch // k), padded):
        piece = take(said, index)
        done = None if finished is None else finished[index].ravel()
        flat = encode_answers(
            tokenizer, [text for i in index for text in answers[i]], max_answer_tokens, done
        )
        with memory_guard("scoring", f"lower models.batch (now {batch}) or models.max_answer_tokens"):
            ids, after = (torch.from_numpy(a).to(model.device) for a in (piece.ids, flat.ids))
            cache = reserved_cache(model, after.shape[1])
            first, second = _masks(piece, flat, k, model.device)
            body(model)(input_ids=ids, past_key_values=cache, use_cache=True, **first)
            cache.batch_repeat_interleave(k)
            hidden = body(model)(
                input_ids=after, past_key_values=cache, use_cache=True, **second
            ).last_hidden_state
            last = torch.from_numpy(flat.mask.sum(axis=1) - 1).to(model.device)
            found = _exact(head, hidden[torch.arange(len(last), device=last.device), last])
        result[index] = found.float().cpu().numpy().reshape(len(index), k, heads)
    return result[:, :, 0] if heads == 1 else result


def _exact(head: Any, hidden: Tensor) -> Tensor:
    """The head in single precision: in half precision scores would have ties."""
    with torch.autocast(hidden.device.type, enabled=False):
        if next(head.parameters()).dtype == torch.float32:
            return head(hidden.float())
        bias = None if head.bias is None else head.bias.float()
        return torch.nn.functional.linear(hidden.float(), head.weight.float(), bias)


def _masks(prompts: Encoded, answers: Encoded, k: int, device: Any) -> tuple[dict, dict]:
    """Arguments for reading prompts, then their k answers each; none where no prompt is padded."""
    if prompts.mask.all():
        return {}, {}
    said = torch.from_numpy(prompts.mask).to(device).long()
    after = torch.from_numpy(answers.mask).to(device).long()
    whole = torch.cat([said.repeat_interleave(k, dim=0), after], dim=1)
    place = (whole.cumsum(dim=1) - 1).clamp_min(0)
    before = (said.cumsum(dim=1) - 1).clamp_min(0)
    return (
        {"attention_mask": said, "position_ids": before},
        {"attention_mask": whole, "position_ids": place[:, said.shape[1] :]},
    )


def scorer(
    model: Any,
    tokenizer: Any,
    template: str | Template,
    max_prompt_tokens: int,
    max_answer_tokens: int,
    batch: int = 2048,
    padded: bool = False,
) -> Callable[[list[str], list[str]], NDArray[np.float32]]:
    """score(prompts, answers) -> (n,), for one answer to each prompt."""

    def score(prompts: list[str], answers: list[str]) -> NDArray[np.float32]:
        rows, longest = [[text] for text in answers], max_answer_tokens + 1  # and the end
        return score_all(
            model, tokenizer, template, prompts, rows, max_prompt_tokens, longest, batch, padded=padded
        )[:, 0]

    return score


def reward_loss(scores: Any, batch: Comparisons, regularisation: float = 0.001) -> Tensor:
    """Mean loss of the reward model (a TokenScores); see the module's text."""
    a, b = end_scores(scores, stacked(batch.a, batch.b)).chunk(2)
    return _reward_loss(a, b, batch.preferred, regularisation)


def cost_loss(scores: Any, batch: Comparisons) -> Tensor:
    """Mean loss of the cost model (a TokenScores); see the module's text."""
    a, b = end_scores(scores, stacked(batch.a, batch.b)).chunk(2)
    return _cost_loss(a, b, batch)


def both_loss(scores: Any, batch: Rated) -> Tensor:
    """Sum of the losses of reward and cost, of a TokenScores with the heads `HEADS`, from one reading."""
    a, b = all_end_scores(scores, stacked(batch.harm.a, batch.harm.b)).chunk(2)
    return _reward_loss(a[:, 0], b[:, 0], batch.better) + _cost_loss(a[:, 1], b[:, 1], batch.harm)


def _reward_loss(a: Tensor, b: Tensor, preferred: Tensor, regularisation: float = 0.001) -> Tensor:
    gain = torch.where(preferred, a - b, b - a)
    return -logsigmoid(gain).mean() + regularisation * (a.square() + b.square()).mean()


def _cost_loss(a: Tensor, b: Tensor, batch: Comparisons) -> Tensor:
    loss = -logsigmoid(torch.where(batch.preferred, a - b, b - a))
    for score, harmful in ((a, batch.harmful_a), (b, batch.harmful_b)):
        loss = loss - logsigmoid(torch.where(harmful, score, -score))
    return loss.mean()


def label_loss(scores: Any, batch: Judged) -> Tensor:
    """Mean -log sigma(s c): the part of `cost_loss` that needs no comparisons."""
    score = end_scores(scores, batch.said)
    return -logsigmoid(torch.where(batch.harmful, score, -score)).mean()
