"""The safety classification model: which candidate answers are harmful.

Two of them, behind one interface (a module from a batch of a table to logits (b, 2)):

- `DecoderClassifier`: any decoder of transformers (OPT, Llama, Qwen, Gemma, ...) for sequence classification,
  with LoRA (Hu et al. 2021, arXiv 2106.09685; peft) in every linear layer; all sources but recorded.
- `minilm.MiniLMClassifier`: the last layer of MiniLM with LoRA, over cached states of the layers below, read
  at the first token; beside it the mean of these states. Training through all layers would take hours on a
  laptop.

What of them is trained is a `capacity.Capacity`: all weights (of the decoder, of MiniLM's last layer) in the
place of LoRA's are a baseline; an `Ensemble` averages several.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from scipy import stats
from torch import Generator, Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from experiments.llm.answers.packing import Table, Tokens
from experiments.llm.answers.pools import Pool
from experiments.llm.capacity import Capacity
from experiments.llm.config import ClassifierConfig
from experiments.llm.models.preference_models import body, plain
from experiments.llm.models.runtime import computing_in
from experiments.llm.models.tokenizer import Template, parts_of
from safeframe.types import SafeframeError

OPT_TARGETS = ["q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2", "embed_tokens"]
"""OPT's embeddings too: what harm means lies in pairs of words, which a small body cannot tell apart by
itself. Of other decoders every linear layer is adapted."""


def tokens_of(
    tokenizer: Any,
    template: str | Template,
    prompts: list[str],
    answers: list[str],
    max_tokens: int,
    finished: Sequence[bool] | np.ndarray | None = None,
) -> Tokens:
    """Conversations as token ids: template with the prompt, answer, end if it is finished (None: all are).

    Where one exceeds `max_tokens` the beginning of the prompt is cut first (the answer is what is judged),
    then the end of the answer, never the template. SafeframeError where nothing of either is left.
    """
    if isinstance(template, str):
        template = Template.of(template)
    said = [template.text(text) for text in prompts]
    heads = tokenizer(said, add_special_tokens=template.special)["input_ids"]
    tails = tokenizer(list(answers), add_special_tokens=False)["input_ids"]
    ended = [True] * len(tails) if finished is None else finished
    rows, cut = [], 0
    for i, (head, tail, done) in enumerate(zip(heads, tails, ended, strict=True)):
        tail = [*tail, tokenizer.eos_token_id] if done else tail
        if len(head) + len(tail) > max_tokens:
            cut += 1
            before, inside, after = parts_of(tokenizer, template, prompts[i])
            room = max_tokens - len(before) - len(after)
            if room < 2:
                raise SafeframeError(
                    f"max_tokens is {max_tokens}; the template has {len(before) + len(after)} tokens, and a"
                    " prompt and an answer need 2 more at least"
                )
            tail = tail[: room - 1]
            head = [*before, *inside[-(room - len(tail)) :], *after]
        rows.append([*head, *tail])
    start = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)
    flat = np.concatenate([np.asarray(row, dtype=np.int32) for row in rows])
    return Tokens(start, cut, flat, int(tokenizer.pad_token_id))


class DecoderClassifier(nn.Module):
    """Logits (b, 2) of conversations: a decoder, read at the last token that is not padding.

    It computes on the device where its weights are; texts come from the CPU, and logits go back to it.

    Args:
        model: for sequence classification, with adapters or without.
        precision: type that it computes in: float32, or bfloat16 by autocast.
        micro: texts that are read at once; more are read in parts, whose activations are computed again in
            the backward pass.
    """

    def __init__(self, model: nn.Module, precision: str = "float32", micro: int = 4096):
        super().__init__()
        self.model, self.precision, self.micro = model, precision, micro

    def _logits(self, ids: Tensor, mask: Tensor) -> Tensor:
        with computing_in(self.precision, ids.device.type):
            hidden = body(self.model)(input_ids=ids, attention_mask=mask.long(), use_cache=False)
            logits: Any = plain(self.model).score(hidden.last_hidden_state)
        last = mask.long().cumsum(dim=1).argmax(dim=1)
        return logits[torch.arange(len(ids), device=ids.device), last].float()

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        device = next(self.parameters()).device
        parts = []
        for some, inside in zip(ids.split(self.micro), mask.split(self.micro), strict=True):
            width = int(inside.sum(dim=1).max())
            some, inside = some[:, :width].to(device), inside[:, :width].to(device)
            if torch.is_grad_enabled() and len(ids) > self.micro:
                parts.append(checkpoint(self._logits, some, inside, use_reentrant=False))
            else:
                parts.append(self._logits(some, inside))
        return torch.cat(parts).cpu() if len(parts) > 1 else parts[0].cpu()


def decoder_classifier(
    model: nn.Module,
    settings: ClassifierConfig,
    capacity: Capacity,
    seed: int,
    precision: str = "float32",
    micro: int = 4096,
    kind: type[DecoderClassifier] = DecoderClassifier,
    embeddings: bool = True,
) -> DecoderClassifier:
    """A copy of `model` (for sequence classification) in single precision with a new head, to train: one
    member of the capacity, without embeddings if they are not to be trained. precision, micro: as of
    `DecoderClassifier`; kind: of the classifier.
    """
    from peft import LoraConfig, TaskType, get_peft_model

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        adapted: Any = copy.deepcopy(model).float()
        weight = adapted.score.weight
        with torch.no_grad():  # drawn on the CPU: the same head on every device
            weight.copy_(nn.init.normal_(torch.empty(weight.shape), std=0.02))
        if capacity.training == "lora":
            targets: Any = OPT_TARGETS if adapted.config.model_type == "opt" else "all-linear"
            if not embeddings and targets is OPT_TARGETS:
                targets = [name for name in OPT_TARGETS if name != "embed_tokens"]
            adapted = get_peft_model(
                adapted, lora_of(LoraConfig, settings, capacity, targets, TaskType.SEQ_CLS)
            )
        elif capacity.training == "head":
            adapted.requires_grad_(False)
            adapted.score.requires_grad_(True)
        elif not embeddings:
            for name, weight in adapted.named_parameters():
                weight.requires_grad_("embed" not in name and "project_in" not in name)
    return kind(adapted, precision, micro)


def lora_of(
    kind: Any, settings: ClassifierConfig, capacity: Capacity, targets: list[str] | str, task: Any = None
) -> Any:
    """peft's configuration (kind: its class) of the adapters of some layers; adapters of every rank are
    multiplied by the configured alpha / rank.
    """
    return kind(
        r=capacity.rank,
        lora_alpha=settings.alpha / settings.rank * capacity.rank,
        target_modules=targets,
        task_type=task,
        bias="none",
    )


class Ensemble(nn.Module):
    """Mean logits (b, 2) of classifiers that read the same texts."""

    def __init__(self, members: Sequence[nn.Module]):
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, *texts: Tensor) -> Tensor:
        return torch.stack([member(*texts) for member in self.members]).mean(dim=0)


def trained_share(module: nn.Module) -> tuple[int, int]:
    """Numbers that are trained, and all."""
    counts = [(p.numel() * p.requires_grad, p.numel()) for p in module.parameters()]
    return sum(c[0] for c in counts), sum(c[1] for c in counts)


def cross_entropy(table: Table, label: np.ndarray, batch: int) -> Callable[[nn.Module, Generator], Tensor]:
    """(module, generator) -> mean cross-entropy of a batch drawn from all cases; label: (c,)."""
    target = torch.from_numpy(np.asarray(label, dtype=np.int64))

    def loss(module: nn.Module, generator: Generator) -> Tensor:
        index = torch.randint(len(target), (batch,), generator=generator)
        return functional.cross_entropy(module(*table.batch(index)), target[index])

    return loss


@torch.inference_mode()
def margins(
    module: nn.Module,
    table: Table,
    batch: int = 512,
    progress: Callable[[range], Iterable[int]] = iter,
) -> np.ndarray:
    """(c,) f_1 - f_0 of every text, in batches of like length."""
    module.eval()
    order = np.argsort(table.length, kind="stable")
    out = np.empty(len(table))
    for first in progress(range(0, len(order), batch)):
        rows = order[first : first + batch]
        logits = module(*table.batch(rows))
        out[rows] = (logits[:, 1] - logits[:, 0]).double().numpy()
    return out


def ranking(margin: np.ndarray, pool: Pool) -> tuple[float, int]:
    """P(the margin of a harmful candidate exceeds that of a harmless one), ties half (0.5: the classifier
    knows nothing; NaN: a class is absent), and the candidates it is counted on.
    """
    flat, harmful = margin[pool.mask], pool.harmful[pool.mask] == 1
    pairs = int(harmful.sum()) * int((~harmful).sum())
    if not pairs:
        return np.nan, len(flat)
    return float(stats.mannwhitneyu(flat[harmful], flat[~harmful]).statistic) / pairs, len(flat)
