"""Of a classification model the weights that were trained: adapters and heads, or everything."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from experiments.support.weights import digest_of, save_weights
from safeframe.types import SafeframeError


def digest(module: nn.Module) -> str:
    """Hash of the weights that were trained."""
    return digest_of({name: value for name, value in module.named_parameters() if value.requires_grad})


def trained(module: nn.Module) -> dict[str, Tensor]:
    """The weights that were trained, by name."""
    names = {name for name, p in module.named_parameters() if p.requires_grad}
    return {name: value for name, value in module.state_dict().items() if name in names}


def save_trained(module: nn.Module, path: Path) -> None:
    """Write the weights that were trained."""
    save_weights(trained(module), path)


def load_trained(module: nn.Module, path: Path) -> nn.Module:
    """Put weights that `save_trained` wrote into a module made the same way."""
    return put(module, torch.load(path, weights_only=True, map_location="cpu"), str(path))


def put(module: nn.Module, weights: dict[str, Tensor], where: str) -> nn.Module:
    """Put trained weights into a module made the same way; SafeframeError for those of another one."""
    wanted = {name for name, p in module.named_parameters() if p.requires_grad}
    if set(weights) != wanted:
        raise SafeframeError(f"{where} holds {len(weights)} weights, {len(wanted)} other ones are needed")
    module.load_state_dict(weights, strict=False)
    return module.eval()
