"""The training loop: any loss, averaged weights, checkpoints that resume to the same numbers.

Both phases of the method use it: cross-entropy warm-up, then the approximate loss (arXiv 2504.20924, section
3.5). Batches are drawn from a generator seeded by (seed, step), so a run that was interrupted and resumed
gives the same weights as one that was not. Averaging the weights over the last steps (Polyak,
doi:10.1137/0330046) calms the gradient of the tail, which rests on few cases.
"""

from __future__ import annotations

import copy
import hashlib
import io
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Generator, Tensor, nn

from safeframe.types import SafeframeError

_SEED_STRIDE = 1_000_003
_DIGEST = hashlib.sha256().digest_size


@dataclass(frozen=True)
class TrainingSettings:
    """How long and how fast to train.

    Attributes:
        steps: number of updates, > 0.
        learning_rate: of AdamW, > 0; the peak of a one-cycle schedule if ``one_cycle``.
        weight_decay: of AdamW, >= 0.
        one_cycle: whether the learning rate rises and falls once over the steps.
        average: decay of the weights' moving average in [0, 1), which starts at the first weights; 0 = none.
        clip: largest norm of the gradient, > 0; infinite = none.
        checkpoint_every: steps between checkpoints, > 0.
        average_after_first: the average starts at the weights after the first update instead.

    Raises:
        SafeframeError: for values outside these ranges.
    """

    steps: int
    learning_rate: float
    weight_decay: float = 0.0
    one_cycle: bool = True
    average: float = 0.0
    clip: float = 1.0
    checkpoint_every: int = 200
    average_after_first: bool = False

    def __post_init__(self) -> None:
        positive = self.steps, self.learning_rate, self.clip, self.checkpoint_every
        if not all(value > 0 for value in positive):
            raise SafeframeError(f"{self}: steps, learning_rate, clip and checkpoint_every must be > 0")
        if not self.weight_decay >= 0:
            raise SafeframeError(f"weight_decay is {self.weight_decay}; it must be >= 0")
        if not 0 <= self.average < 1:
            raise SafeframeError(f"average is {self.average}; it must lie in [0, 1)")


class Watcher(Protocol):
    """Looks on while a module is trained, and keeps something; its state is part of every checkpoint."""

    def before(self, step: int, module: nn.Module) -> None:
        """Called before every update.

        Args:
            step: number of the update, from 0.
            module: that is trained.
        """
        ...

    def after(self, step: int, averaged: nn.Module) -> None:
        """Called after every update.

        Args:
            step: number of the update, from 0.
            averaged: module with the averaged weights; to be copied, not kept.
        """
        ...

    def state_dict(self) -> dict[str, Any]:
        """What it keeps.

        Returns:
            Tensors, numbers and texts, in dictionaries and lists.
        """
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what it kept.

        Args:
            state: from :meth:`state_dict`.
        """
        ...


def generator_of(seed: int, step: int) -> Generator:
    """The random stream of one step.

    Args:
        seed: of the training.
        step: number of the update.

    Returns:
        A generator seeded by both.
    """
    return torch.Generator().manual_seed((seed * _SEED_STRIDE + step) % 2**63)


def train(
    module: nn.Module,
    loss: Callable[[nn.Module, Generator], Tensor],
    settings: TrainingSettings,
    seed: int = 0,
    checkpoint: Path | None = None,
    progress: Callable[[range], Iterable[int]] = iter,
    watcher: Watcher | None = None,
) -> nn.Module:
    """Train a copy of a module.

    Args:
        module: starting weights; left as it is.
        loss: (module, generator) -> scalar; draws its batch from the generator.
        settings: steps, learning rate and the rest.
        seed: of the batches.
        checkpoint: file that is written atomically every ``checkpoint_every`` steps and resumed from if it
            exists; removing it is the caller's business. None: no checkpoint.
        progress: wraps the range of steps (tqdm).
        watcher: is called before and after every update; None: nobody looks on.

    Returns:
        The trained copy in evaluation mode, with averaged weights; buffers (batch normalisation) are the last
            ones.

    Raises:
        SafeframeError: if the loss or its gradient is not finite, or the checkpoint is damaged, of another
            training, or cannot be written.
    """
    model = copy.deepcopy(module)
    averaged = copy.deepcopy(model)
    optimiser = torch.optim.AdamW(
        model.parameters(), settings.learning_rate, weight_decay=settings.weight_decay
    )
    schedule = (
        torch.optim.lr_scheduler.OneCycleLR(optimiser, settings.learning_rate, total_steps=settings.steps)
        if settings.one_cycle
        else None
    )
    state: dict[str, Any] = {"model": model, "averaged": averaged, "optimiser": optimiser}
    state |= ({"schedule": schedule} if schedule else {}) | ({"watcher": watcher} if watcher else {})
    start = _resume(checkpoint, state, settings, seed) if checkpoint and checkpoint.exists() else 0
    model.train()
    for step in progress(range(start, settings.steps)):
        if watcher:
            watcher.before(step, model)
        value = loss(model, generator_of(seed, step))
        if not bool(torch.isfinite(value)):
            raise SafeframeError(
                f"the loss is {value.item()} at step {step}; lower the learning rate or check the data"
            )
        optimiser.zero_grad()
        value.backward()
        norm = nn.utils.clip_grad_norm_(model.parameters(), settings.clip)
        if not bool(torch.isfinite(norm)):
            raise SafeframeError(
                f"the gradient's norm is {float(norm)} at step {step} (loss {value.item()}); check the loss"
            )
        optimiser.step()
        if schedule:
            schedule.step()
        _average(averaged, model, 0.0 if step == 0 and settings.average_after_first else settings.average)
        if watcher:
            watcher.after(step, averaged)
        if checkpoint and (step + 1) % settings.checkpoint_every == 0 and step + 1 < settings.steps:
            _save(checkpoint, state, settings, seed, step + 1)
    return averaged.eval()


@torch.no_grad()
def _average(averaged: nn.Module, model: nn.Module, decay: float) -> None:
    for mean, new in zip(averaged.parameters(), model.parameters(), strict=True):
        mean.lerp_(new, 1.0 - decay)
    for kept, last in zip(averaged.buffers(), model.buffers(), strict=True):
        kept.copy_(last)


def _save(path: Path, state: dict[str, Any], settings: TrainingSettings, seed: int, step: int) -> None:
    content = {name: part.state_dict() for name, part in state.items()}
    temporary = path.with_name(f".{path.name}.tmp{os.getpid()}")
    try:
        buffer = io.BytesIO()
        torch.save({"step": step, "settings": repr(settings), "seed": seed, "state": content}, buffer)
        payload = buffer.getvalue()
        with open(temporary, "wb") as stream:
            stream.write(hashlib.sha256(payload).digest() + payload)  # torch.load does not notice every bit
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise SafeframeError(
            f"the checkpoint {path} cannot be written: {error.strerror or error}; free some space or choose "
            "another place"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def _resume(path: Path, state: dict[str, Any], settings: TrainingSettings, seed: int) -> int:
    whole = path.read_bytes()
    if hashlib.sha256(whole[_DIGEST:]).digest() != whole[:_DIGEST]:
        raise SafeframeError(
            f"the checkpoint {path} is damaged (its checksum does not match); delete it to start again"
        )
    try:
        content = torch.load(io.BytesIO(whole[_DIGEST:]), weights_only=True)
        step, parts = int(content["step"]), content["state"]
        same = content["settings"] == repr(settings) and content["seed"] == seed
    except Exception as error:  # torch.load raises many kinds; all mean the same here
        raise SafeframeError(
            f"the checkpoint {path} is damaged ({error}); delete it to start again"
        ) from error
    if not same:
        raise SafeframeError(
            f"the checkpoint {path} is of another training (settings or seed differ); delete it to start"
            " again"
        )
    try:
        for name, part in state.items():
            part.load_state_dict(parts[name])
    except (KeyError, RuntimeError, ValueError) as error:
        raise SafeframeError(
            f"the checkpoint {path} is of another module ({error}); delete it to start again"
        ) from error
    return step
