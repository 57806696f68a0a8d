"""The networks: an LSTM over the measured hours, a small head, one output per product and quantity.

Demand network (the AI model, o_ncr), safety classifier (one margin per product), mean and variance, direct
decision: all are the same network with other outputs and sizes, so that no method has a better one (paper:
LSTM, classifier of the same or half size).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from experiments.production.demand.series import DemandData

_CENTRE, _SPREAD = 5.0, 2.5  # of demand on its scale [0, 10]


class SequenceNetwork(nn.Module):
    """(b, hours, p) measured demand and (b, k) calendar features -> (b, outputs).

    Args:
        products: p.
        outputs: numbers put out.
        hidden: units of the LSTM and of the head's one layer.
        calendar: k, 0 = none.
    """

    def __init__(self, products: int, outputs: int, hidden: int, calendar: int):
        super().__init__()
        self.sequence = nn.LSTM(products, hidden, batch_first=True)
        self.head = nn.Sequential(nn.Linear(hidden + calendar, hidden), nn.ReLU(), nn.Linear(hidden, outputs))

    def forward(self, measurement: Tensor, calendar: Tensor) -> Tensor:
        past = self.sequence((measurement - _CENTRE) / _SPREAD)[0][:, -1]
        return self.head(torch.cat([past, calendar], dim=1))


class Inputs:
    """Cases as tensors: measurement (n, hours, p), calendar (n, k), demand and unsafe (n, p).

    `unsafe` holds 0/1 floats.

    Args:
        data: the cases.
        with_calendar: whether the calendar is a feature; otherwise k = 0.
    """

    def __init__(self, data: DemandData, with_calendar: bool):
        self.measurement = torch.tensor(data.measurement, dtype=torch.float32)
        features = data.calendar_features() if with_calendar else np.zeros((len(data.demand), 0))
        self.calendar = torch.tensor(features, dtype=torch.float32)
        self.demand = torch.tensor(data.demand, dtype=torch.float32)
        self.unsafe = torch.tensor(data.unsafe, dtype=torch.float32)

    def of(self, network: nn.Module, index: Tensor) -> Tensor:
        """(b, outputs) of the network for the cases `index`."""
        return network(self.measurement[index], self.calendar[index])

    @torch.no_grad()
    def outputs(self, network: nn.Module, batch: int = 8192) -> np.ndarray:
        """(n, outputs) of the network for every case, float64."""
        parts = [self.of(network, index) for index in torch.arange(len(self.demand)).split(batch)]
        return torch.cat(parts).double().numpy()
