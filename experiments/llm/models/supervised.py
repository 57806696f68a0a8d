"""Supervised fine-tuning: the language model imitates answers.

Source: Ouyang et al. 2022, arXiv 2203.02155, step 1.

Loss: mean cross-entropy over the answers' tokens (over all tokens with `prompts_too`, as in pretraining).
AdamW, learning rate rising over the first 5 % of the steps and falling to zero by a cosine, gradients clipped
at 1. Batch number s is a function of s, so a killed training goes on from its checkpoint with the same
batches.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from experiments.llm.models.conversations import Conversations
from experiments.llm.models.runtime import Runtime
from experiments.support.runs.checkpoints import load_checkpoint, save_checkpoint
from safeframe.types import SafeframeError

Draw = Callable[[int], Any]
Loss = Callable[[Any, Any], Tensor]


@dataclass(frozen=True)
class FitSettings:
    """How long and how fast to train.

    Attributes:
        steps: updates.
        learning_rate: of AdamW, its peak.
        weight_decay: of AdamW.
        micro: rows at once (gradients are accumulated over the batch).
        every: steps between checkpoints.
    """

    steps: int = 4000
    learning_rate: float = 3e-3
    weight_decay: float = 0.01
    micro: int = 256
    every: int = 200


def language_loss(model: Any, batch: Conversations, prompts_too: bool = False) -> Tensor:
    """Mean cross-entropy over the answers' tokens, or over all."""
    counted = batch.mask if prompts_too else batch.answer
    start = 0 if prompts_too else batch.start - 1
    logits = model(**batch.arguments()).logits[:, start:-1]
    target = torch.where(counted, batch.ids, -100)[:, start + 1 :]
    return cross_entropy(logits.reshape(-1, logits.shape[-1]).float(), target.reshape(-1), ignore_index=-100)


def schedule(step: int, steps: int) -> float:
    """Share of the learning rate at a step: linear up over 5 %, cosine down to zero."""
    rising = max(1, round(0.05 * steps))
    if step < rising:
        return (step + 1) / rising
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, steps - rising)))


def fit(
    model: Any,
    draw: Draw,
    loss: Loss,
    settings: FitSettings,
    checkpoint: Path | None = None,
    progress: Callable[[Iterable], Iterable] = iter,
    runtime: Runtime | None = None,
    report: Callable[[int, float], None] | None = None,
) -> Any:
    """Minimise loss(model, batch) over batches draw(step); the model, in evaluation mode.

    A batch has a length and takes slices. Raises SafeframeError where the loss or its gradient is not finite
    (before the weights are changed) or memory runs out, CacheError for a damaged checkpoint.
    """
    runtime = runtime or Runtime()
    model, optimiser = runtime.prepare(
        model,
        lambda m: torch.optim.AdamW(
            m.parameters(), settings.learning_rate, weight_decay=settings.weight_decay
        ),
    )
    state = load_checkpoint(checkpoint) if checkpoint is not None else None
    done = 0
    if state is not None:
        runtime.unwrap(model).load_state_dict(state["model"])
        optimiser.load_state_dict(state["optimiser"])
        done = state["step"]
    model.train()
    last = math.nan
    for step in progress(range(done, settings.steps)):
        for group in optimiser.param_groups:
            group["lr"] = settings.learning_rate * schedule(step, settings.steps)
        batch = runtime.share(draw(step))
        total = 0.0
        for start in range(0, len(batch), settings.micro):
            piece = batch[slice(start, start + settings.micro)].to(runtime.device)
            with runtime.computing(
                f"a batch of {len(piece)} rows", "lower micro or switch gradient checkpointing on"
            ):
                value = loss(model, piece) * (len(piece) / len(batch))
                runtime.backward(value)
            total += float(value.detach())
        if not math.isfinite(total):
            raise SafeframeError(_no_number(total, last, step, len(batch), settings.learning_rate))
        advice = (
            "the batch or a kernel of the device is at fault, not the learning rate; try precision=float32"
        )
        runtime.clip(model, 1.0, f"at step {step} (loss {total:.4g}, {len(batch)} rows): {advice}")
        last = total
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        if report is not None:
            report(step, total)
        if checkpoint is not None and (step + 1) % settings.every == 0 and runtime.is_main:
            content = {"model": runtime.unwrap(model).state_dict(), "optimiser": optimiser.state_dict()}
            save_checkpoint(checkpoint, content | {"step": step + 1})
    return runtime.unwrap(model).eval()


def _no_number(loss: float, before: float, step: int, rows: int, learning_rate: float) -> str:
    """What to say of a loss that is not finite; gradients that are not have been refused one step before."""
    said = f"the loss is {loss} at step {step} ({rows} rows)"
    if math.isnan(before):
        return f"{said}, the first of this start: the loss itself, the batch or the weights hold no numbers"
    return (
        f"{said}, after {before:.4g} and a finite gradient: if losses had grown before, lower learning_rate"
        f" ({learning_rate}); if not, this batch is at fault: try precision=float32"
    )
