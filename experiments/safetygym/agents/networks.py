"""Actor and critics: separate tanh networks, orthogonally initialised.

Details and sources: separate networks for policy and values, tanh (Ray et al. 2019, safety-starter-agents);
orthogonal weights with gain sqrt(2) in hidden layers, .01 for the policy's head and 1 for the values',
biases 0 (cleanrl, detail 2 of "The 37 Implementation Details of PPO"); state-independent log standard
deviation, -.5 at first (Ray et al. 2019).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn


def mlp(inputs: int, hidden: Sequence[int], outputs: int, gain: float) -> nn.Sequential:
    """A tanh network (n, inputs) -> (n, outputs) with orthogonal weights; `gain` is the last layer's."""
    layers: list[nn.Module] = []
    for width in hidden:
        layers += [_orthogonal(nn.Linear(inputs, width), math.sqrt(2)), nn.Tanh()]
        inputs = width
    return nn.Sequential(*layers, _orthogonal(nn.Linear(inputs, outputs), gain))


def _orthogonal(layer: nn.Linear, gain: float) -> nn.Linear:
    nn.init.orthogonal_(layer.weight, gain)
    nn.init.zeros_(layer.bias)
    return layer


class Networks(nn.Module):
    """The actor, its log standard deviation (Gaussian only) and one network per critic.

    The actor gives logits (n, k) for `categorical`, means (n, 2) for `gaussian`; critics give (n, 1).
    """

    def __init__(
        self,
        inputs: int,
        hidden: Sequence[int],
        candidates: int,
        policy: str,
        critics: Sequence[str],
        initial_log_std: float = -0.5,
    ) -> None:
        super().__init__()
        gaussian = policy == "gaussian"
        self.actor = mlp(inputs, hidden, 2 if gaussian else candidates, 0.01)
        if gaussian:
            self.log_std = nn.Parameter(torch.full((2,), initial_log_std))
        self.critics = nn.ModuleDict({name: mlp(inputs, hidden, 1, 1.0) for name in critics})

    def actor_parameters(self) -> list[nn.Parameter]:
        """What the policy's gradient changes."""
        return [parameter for name, parameter in self.named_parameters() if not name.startswith("critics")]


@torch.inference_mode()
def forward_in_chunks(network: nn.Module, inputs: Tensor, chunk: int = 4096) -> Tensor:
    """`network(inputs)` for many rows, (n, outputs), in pieces that stay in the cache."""
    return torch.cat([network(part) for part in inputs.split(chunk)])
