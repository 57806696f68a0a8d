"""The safety network: one LSTM with two heads, a law of demand and ordinal thresholds, by likelihood.

A classifier of s < 3 learns only from which side of 3 demand is on. This network learns from how far it is:

- the first head is a logistic law of demand with mean m and scale c, whose log odds of s < 3 are (3 - m) / c;
- the second is an ordinal regression (proportional odds, McCullagh (1980),
  doi:10.1111/j.2517-6161.1980.tb01109.x): one score per product and a cut for each of eleven thresholds, so
  that the log odds of s < threshold are score + cut.

Both are joined with how the law did lately by `guard.score`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, softplus

from experiments.production.demand.series import UNSAFE_BELOW
from experiments.production.models.networks import Inputs, SequenceNetwork

CUTS = (1.0, 1.5, 2.0, 2.5, UNSAFE_BELOW, 3.5, 4.0, 4.5, 5.0, 6.0, 7.0)
"""Thresholds on demand of the ordinal head."""
_MIDDLE = 4.5  # cuts start at their distance from here
_LEAST_SCALE = 0.05  # of the law, on the demand scale
_LAW = 2  # outputs per product: mean and scale
OUTPUTS = _LAW + 1
"""Per product, before the cuts."""


class SafetyNetwork(nn.Module):
    """(b, hours, p) measured demand and (b, k) calendar features -> (b, 2 p + 11 p).

    The means, the scales before they are made positive, then the eleven log odds of each product.

    Args:
        products: p.
        outputs: `OUTPUTS` * p.
        hidden: units of the LSTM and of the head's one layer.
        calendar: k, 0 = none.
    """

    def __init__(self, products: int, outputs: int, hidden: int, calendar: int):
        super().__init__()
        self.network = SequenceNetwork(products, outputs, hidden, calendar)
        self.cut = nn.Parameter((torch.tensor(CUTS) - _MIDDLE).repeat(products, 1))

    def forward(self, measurement: Tensor, calendar: Tensor) -> Tensor:
        found = self.network(measurement, calendar)
        law, score = found[:, : _LAW * len(self.cut)], found[:, _LAW * len(self.cut) :]
        return torch.cat([law, (score[:, :, None] + self.cut).flatten(1)], dim=1)


def parts(output: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(b, p) means, (b, p) scales > 0 and (b, p, 11) log odds of s < `CUTS`, from the network's outputs."""
    products = output.shape[-1] // (_LAW + len(CUTS))
    mean, raw = output[..., : _LAW * products].chunk(_LAW, dim=-1)
    odds = output[..., _LAW * products :].unflatten(-1, (products, len(CUTS)))
    return mean, softplus(raw) + _LEAST_SCALE, odds


def likelihood(inputs: Inputs):
    """Negative log-likelihood of the logistic law, plus the mean one of the eleven thresholds."""
    cuts = torch.tensor(CUTS)

    def loss(output: Tensor, index: Tensor) -> Tensor:
        mean, scale, odds = parts(output)
        demand = inputs.demand[index]
        apart = (demand - mean) / scale
        law = (torch.log(scale) + apart + 2 * softplus(-apart)).mean()
        below = (demand[..., None] < cuts).float()
        return law + binary_cross_entropy_with_logits(odds, below)

    return loss


@dataclass(frozen=True)
class Heads:
    """What both heads say of n cases and p products.

    Attributes:
        law: (n, p) log odds of s < 3 by the law of demand.
        ordinal: (n, p) log odds of s < 3 by the ordinal head.
        error: (n, p) standardised errors of the law, mean less demand over scale: how much less came than
            was predicted; the labels of the cases, to be used only once they are known.
    """

    law: np.ndarray
    ordinal: np.ndarray
    error: np.ndarray


def heads(output: np.ndarray, demand: np.ndarray) -> Heads:
    """From the network's outputs and demand (n, p) of the same cases."""
    mean, scale, odds = (part.numpy() for part in parts(torch.from_numpy(output)))
    return Heads((UNSAFE_BELOW - mean) / scale, odds[:, :, CUTS.index(UNSAFE_BELOW)], (mean - demand) / scale)
