"""A law of features of which P(unsafe | features) is known, and classifiers of three capacities.

Three in ten cases are unsafe and normal about (2, 1.5), wide along the first feature and in a narrow band of
the second. Safe cases are standard normal; a quarter of them lies beyond the band. Six more features,
standard normal in every case, say nothing; a classifier has to learn that. The log-odds are quadratic forms
under one logarithm of a sum, so:

- a linear classifier has too little: no line follows the band's two sides, and cross-entropy spends the one
  it has on the bulk;
- the form of the law with free centres, scales and shares has just enough;
- a network of two hidden layers has ample capacity.

Each case has a reward of acting, known before acting and independent of the label given the features.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import torch
from scipy import special
from torch import Tensor, nn

PRIOR, BEYOND = 0.3, 0.25
UNSAFE_CENTRE, UNSAFE_SCALE, BEYOND_CENTRE = (2.0, 1.5), (1.3, 0.3), (-1.0, 3.0)
NUISANCE = 6
FEATURES = 2 + NUISANCE
HIDDEN = 64
CAPACITIES = ("too little", "just enough", "ample")


@dataclass(frozen=True)
class Sample:
    """Cases.

    Attributes:
        features: (n, FEATURES).
        label: (n,) 0/1 floats.
        reward: (n,) of acting, > 0.
    """

    features: Tensor
    label: Tensor
    reward: Tensor

    def __len__(self) -> int:
        return len(self.label)

    def rows(self, index: Tensor) -> Sample:
        """Some of them."""
        return Sample(self.features[index], self.label[index], self.reward[index])


def _full(first: tuple[float, float], rest: float = 0.0) -> Tensor:
    """(FEATURES,) of two numbers and the same one for all that say nothing."""
    return torch.tensor([*first, *[rest] * NUISANCE])


def draw(n: int, seed: int) -> Sample:
    """Cases of the law."""
    generator = torch.Generator().manual_seed(seed)
    unsafe = torch.rand(n, 1, generator=generator) < PRIOR
    beyond = torch.rand(n, 1, generator=generator) < BEYOND
    noise = torch.randn(n, FEATURES, generator=generator)
    safe = noise + beyond * _full(BEYOND_CENTRE)
    features = torch.where(unsafe, noise * _full(UNSAFE_SCALE, 1.0) + _full(UNSAFE_CENTRE), safe)
    reward = torch.exp(torch.randn(n, generator=generator) * 0.5 - 0.125)
    return Sample(features, unsafe.squeeze(1).float(), reward)


class Form(nn.Module):
    """Log-odds of normal laws with free centres, scales and shares: log(share_u N_u) - log(sum of the safe
    two).
    """

    def __init__(self) -> None:
        super().__init__()
        starts = [_full((1.0, 1.0)), _full((0.0, 0.0)), _full((-0.5, 2.0))]
        self.centre = nn.Parameter(torch.stack(starts))
        self.log_scale = nn.Parameter(torch.zeros(3, FEATURES))
        self.log_share = nn.Parameter(torch.zeros(3))

    def forward(self, features: Tensor) -> Tensor:
        z = (features[:, None] - self.centre) * torch.exp(-self.log_scale)
        parts = self.log_share - self.log_scale.sum(1) - 0.5 * z.square().sum(2)  # (n, 3)
        return (parts[:, 0] - torch.logsumexp(parts[:, 1:], 1))[:, None]


def truth() -> Form:
    """The log-odds of the law itself."""
    form = Form()
    with torch.no_grad():
        form.centre.copy_(torch.stack([_full(UNSAFE_CENTRE), _full((0.0, 0.0)), _full(BEYOND_CENTRE)]))
        form.log_scale[0] = torch.log(_full(UNSAFE_SCALE, 1.0))
        form.log_share.copy_(
            torch.log(torch.tensor([PRIOR, (1 - PRIOR) * (1 - BEYOND), (1 - PRIOR) * BEYOND]))
        )
    return form


def new(capacity: str, seed: int) -> nn.Module:
    """A classifier, (n, FEATURES) -> (n, 1) margins, before training."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if capacity == "too little":
            return nn.Linear(FEATURES, 1)
        if capacity == "just enough":
            return Form()
        return nn.Sequential(
            nn.Linear(FEATURES, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, 1)
        )


@dataclass(frozen=True)
class Judge:
    """What a score accepts of the law at a risk, from a large sample with P(unsafe | features) in the place
    of labels.

    Attributes:
        sample: of the law.
        risk: (n,) P(unsafe | features).
    """

    sample: Sample
    risk: np.ndarray

    def acceptance(self, score: np.ndarray, r_t: float, worth: np.ndarray | None = None) -> float:
        """The largest share (of cases, or of what they are worth) among thresholds with risk at most r_t."""
        order = np.argsort(score, kind="stable")
        risk = np.cumsum(self.risk[order]) / np.arange(1, len(order) + 1)
        found = np.flatnonzero(risk <= r_t)
        if len(found) == 0:
            return 0.0
        count = int(found[-1]) + 1
        if worth is None:
            return count / len(order)
        return float(worth[order[:count]].sum() / worth.sum())

    def best(self, r_t: float) -> float:
        """The acceptance of the truth itself, which no score exceeds."""
        return self.acceptance(self.risk, r_t)

    def best_reward(self, r_t: float) -> float:
        """The share of rewards that the priced rule earns with the truth."""
        reward = self.sample.reward.double().numpy()
        return self.acceptance(price_score(special.logit(self.risk), reward, r_t), r_t, reward)


@functools.lru_cache(maxsize=2)
def judge(n: int, seed: int) -> Judge:
    """A judge with n cases."""
    sample = draw(n, seed)
    with torch.no_grad():
        risk = torch.sigmoid(truth()(sample.features).double())[:, 0].numpy()
    return Judge(sample, risk)


def price_score(log_odds: np.ndarray, reward: np.ndarray, r_t: float) -> np.ndarray:
    """The score of the priced rule: act iff reward > mu (p - r_t), a threshold on (p - r_t) / reward."""
    return (special.expit(log_odds) - r_t) / reward
