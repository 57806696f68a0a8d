"""Where and how models run: one device, or several through accelerate; precision; checkpointing."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from typing import Any

import torch

from experiments.llm.models.language_model import memory_guard
from safeframe.types import SafeframeError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@contextlib.contextmanager
def own_attention() -> Iterator[None]:
    """Attention by torch's own kernels, not by cuDNN's.

    On an H100 or H200 (torch 2.11 to 2.13, where cuDNN's is the default) its backward pass gives NaN with a
    mask where rows have 64, 192, 320, ... tokens (length % 128 = 64) and some token attends to nothing, as
    padding does (github.com/pytorch/pytorch/issues/196678). It also plans anew for every length, that is, for
    every token of an answer.
    """
    before = torch.backends.cuda.cudnn_sdp_enabled()
    torch.backends.cuda.enable_cudnn_sdp(False)
    try:
        yield
    finally:
        torch.backends.cuda.enable_cudnn_sdp(before)


@contextlib.contextmanager
def computing_in(precision: str, device: str) -> Iterator[None]:
    """Compute in a precision of `DTYPES` (autocast), with attention whose gradients can be trusted
    (`own_attention`).
    """
    with own_attention(), torch.autocast(device, torch.bfloat16, enabled=precision == "bfloat16"):
        yield


class Runtime:
    """Where models run, and in which precision.

    Args:
        device: "cpu", "cuda", or "auto", which takes a GPU if there is one.
        precision: float32 or bfloat16 (autocast).
        gradient_checkpointing: compute activations again in the backward pass, to save memory.
        distributed: models are prepared by accelerate and every process takes its share of each batch (start
            with `accelerate launch`).

    Raises:
        SafeframeError: for an unknown precision, or a GPU where there is none.
    """

    def __init__(
        self,
        device: str = "cpu",
        precision: str = "float32",
        gradient_checkpointing: bool = False,
        distributed: bool = False,
    ):
        if precision not in DTYPES:
            raise SafeframeError(f"precision={precision!r} is not one of: {', '.join(DTYPES)}")
        self.precision, self.gradient_checkpointing = precision, gradient_checkpointing
        self.accelerator: Any = None
        if distributed:
            from accelerate import Accelerator

            mixed = "bf16" if precision == "bfloat16" else "no"
            self.accelerator = Accelerator(mixed_precision=mixed, cpu=device == "cpu")
            self.device = self.accelerator.device
        else:
            if device == "auto":
                device = "cuda" if torch.cuda.is_available() else "cpu"
            if device.startswith("cuda") and not torch.cuda.is_available():
                raise SafeframeError(
                    f"device={device}: torch sees no GPU here; use device=cpu or device=auto"
                )
            self.device = torch.device(device)

    @property
    def is_main(self) -> bool:
        """Whether this process writes files."""
        return self.accelerator is None or self.accelerator.is_main_process

    @property
    def rank(self) -> int:
        """Number of this process."""
        return 0 if self.accelerator is None else self.accelerator.process_index

    def mean(self, values: torch.Tensor) -> float:
        """Mean over the values of all processes."""
        own = values.float().mean()
        return float(own if self.accelerator is None else self.accelerator.reduce(own, "mean"))

    def prepare(self, model: Any, make_optimiser: Callable[[Any], Any]) -> tuple[Any, Any]:
        """Model on its device and its optimiser, wrapped by accelerate if distributed."""
        if self.gradient_checkpointing:
            model.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
        model = model.to(self.device)
        optimiser = make_optimiser(model)
        return (model, optimiser) if self.accelerator is None else self.accelerator.prepare(model, optimiser)

    def unwrap(self, model: Any) -> Any:
        """The model itself."""
        return model if self.accelerator is None else self.accelerator.unwrap_model(model)

    def share(self, batch: Any) -> Any:
        """This process's rows of a batch."""
        if self.accelerator is None or self.accelerator.num_processes == 1:
            return batch
        size, rank = self.accelerator.num_processes, self.accelerator.process_index
        if len(batch) < size:
            raise SafeframeError(f"a batch of {len(batch)} rows cannot be shared by {size} processes")
        rows = len(batch) // size
        return batch[slice(rank * rows, (rank + 1) * rows)]

    @contextlib.contextmanager
    def computing(self, what: str, advice: str) -> Iterator[None]:
        """`computing_in` this precision; running out of memory becomes a SafeframeError with `advice`."""
        with memory_guard(what, advice), computing_in(self.precision, self.device.type):
            yield

    def release(self) -> None:
        """Give memory that is no longer used back to the device, for other processes on it."""
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def backward(self, loss: torch.Tensor) -> None:
        """Accumulate gradients."""
        loss.backward() if self.accelerator is None else self.accelerator.backward(loss)

    def clip(self, model: Any, most: float, said: str) -> None:
        """Clip the norm of all gradients.

        Raises SafeframeError, with what is `said` of where and why, if the norm is not finite: the update
        would make every weight NaN.
        """
        clip = (
            torch.nn.utils.clip_grad_norm_ if self.accelerator is None else self.accelerator.clip_grad_norm_
        )
        norm = float(clip(model.parameters(), most))
        if not math.isfinite(norm):
            raise SafeframeError(f"the norm of the gradient is {norm} {said}; the weights are as before")
