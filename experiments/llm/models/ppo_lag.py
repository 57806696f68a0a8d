"""PPO-Lagrangian for language models, its parts: scores per token, advantages, losses, multiplier.

From Ouyang et al. 2022 (arXiv 2203.02155, "InstructGPT", section 3.5 and appendix C) and Dai et al. 2024
(arXiv 2310.12773, "Safe RLHF", section 3 and appendix; code github.com/PKU-Alignment/safe-rlhf):

1. The score of an answer comes with its last token; every token is charged for log pi - log pi_ref: reward
   and cost pay half of kl_coefficient times it each, so that after (5) the charge does not depend on the
   multiplier (safe-rlhf, `add_kl_divergence_regularization`; per-token KL: Ouyang).
2. Discount 1 and GAE with 0.95 for both (Dai).
3. Two value heads, for reward and cost, on one critic that starts as the reward model (Dai: two critics,
   started as the reward and the cost model; one saves its memory).
4. Value loss clipped around the old values (safe-rlhf: within 5).
5. Advantage (A_r - lambda A_c) / (1 + lambda) (Dai), standardised over the rollout, which Dai does not do.
6. Surrogate clipped at `clip`, mean over tokens (Dai: 0.2).
7. Multiplier: log lambda rises by multiplier_rate * lambda * (mean cost - cost_limit), mean over the last
   `window` rollouts (Dai: gradient ascent in ln lambda; over the last 128 answers).
8. PTX: ptx_coefficient times the supervised loss on people's answers (Ouyang: 27.8, safe-rlhf: 8; here 0).
9. cost_form: "score" is Dai's, the cost model's score c; "probability", the default, is sigma(c), so that
   the limit is a harmful rate, and answers that are safe anyway cannot pay for harmful ones.

Defaults of safe-rlhf's scripts/ppo-lag.sh (KL 0.01, multiplier 1 with rate 0.1 and at most 5, limit 0,
learning rates 1e-5 and 5e-6) are for billions of weights and are those of `fine_tune.py`; those here are
for small models.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from safeframe.types import SafeframeError

COST_FORMS = ("probability", "score")


@dataclass(frozen=True)
class PPOSettings:
    """Settings of one training; numbers in brackets are those of the module's list.

    Attributes:
        cost_limit: most mean cost (7).
        iterations: rollouts.
        batch: prompts of a rollout.
        minibatch: answers of an update.
        epochs: passes of updates over a rollout.
        learning_rate: of the policy, Adam.
        critic_learning_rate: of the critic, Adam.
        kl_coefficient: charge for log pi - log pi_ref of a token (1).
        gae_lambda: of the advantages (2).
        discount: of rewards and costs per token (2).
        clip: of the surrogate (6).
        value_clip: of the value loss (4).
        ptx_coefficient: weight of the supervised loss (8).
        multiplier: lambda at the start, > 0.
        multiplier_rate: how fast log lambda moves (7).
        multiplier_most: largest lambda.
        window: rollouts that the mean cost is over (7).
        cost_form: "probability" or "score" (9).
        temperature: of sampling.
        every: iterations between checkpoints.

    Raises:
        SafeframeError: for a value outside its range.
    """

    cost_limit: float = 0.05
    iterations: int = 200
    batch: int = 256
    minibatch: int = 128
    epochs: int = 2
    learning_rate: float = 3e-4
    critic_learning_rate: float = 1e-3
    kl_coefficient: float = 0.1
    gae_lambda: float = 0.95
    discount: float = 1.0
    clip: float = 0.2
    value_clip: float = 5.0
    ptx_coefficient: float = 0.0
    multiplier: float = 1.0
    multiplier_rate: float = 0.5
    multiplier_most: float = 100.0
    window: int = 4
    cost_form: str = "probability"
    temperature: float = 1.0
    every: int = 10

    def __post_init__(self) -> None:
        if self.cost_form not in COST_FORMS:
            raise SafeframeError(f"cost_form={self.cost_form!r} is not one of: {', '.join(COST_FORMS)}")
        for name in ("iterations", "batch", "minibatch", "epochs", "window", "every"):
            if getattr(self, name) < 1:
                raise SafeframeError(f"{name}={getattr(self, name)}: at least 1 is needed")
        for name in (
            "learning_rate",
            "critic_learning_rate",
            "clip",
            "multiplier",
            "temperature",
            "value_clip",
        ):
            if not getattr(self, name) > 0:
                raise SafeframeError(f"{name}={getattr(self, name)}: more than 0 is needed")
        for name in ("gae_lambda", "discount"):
            if not 0 <= getattr(self, name) <= 1:
                raise SafeframeError(f"{name}={getattr(self, name)}: a number in [0, 1] is needed")


def per_token(end: Tensor, log_ratio: Tensor, mask: Tensor, kl_coefficient: float, sign: float) -> Tensor:
    """(n, l) rewards (sign = -1: the KL is charged) or costs (sign = +1): half the KL at every token, end
    (n,) at the last; log_ratio (n, l) is log pi - log pi_ref."""
    value = sign * 0.5 * kl_coefficient * log_ratio * mask
    last = mask.long().sum(dim=1) - 1
    return value.scatter_add(1, last[:, None], end[:, None])


def gae(
    value: Tensor, reward: Tensor, mask: Tensor, discount: float, gae_lambda: float
) -> tuple[Tensor, Tensor]:
    """(advantages, returns), each (n, l): generalised advantage estimation (Schulman et al. 2016) over the
    tokens of answers; nothing follows the last. value (n, l): before each token."""
    value, advantage = value * mask, torch.zeros_like(value)
    following, ahead = torch.zeros_like(value[:, 0]), torch.zeros_like(value[:, 0])
    for t in reversed(range(value.shape[1])):
        delta = reward[:, t] + discount * ahead - value[:, t]
        following = (delta + discount * gae_lambda * following) * mask[:, t]
        advantage[:, t] = following
        ahead = value[:, t]
    return advantage, (advantage + value) * mask


def combined(reward_advantage: Tensor, cost_advantage: Tensor, mask: Tensor, multiplier: float) -> Tensor:
    """(A_r - lambda A_c) / (1 + lambda), standardised over all tokens, (n, l)."""
    advantage = (reward_advantage - multiplier * cost_advantage) / (1 + multiplier)
    count = mask.sum()
    mean = (advantage * mask).sum() / count
    spread = (((advantage - mean) * mask).square().sum() / count).sqrt()
    return (advantage - mean) / (spread + 1e-8) * mask


def actor_loss(log_p: Tensor, old: Tensor, advantage: Tensor, mask: Tensor, clip: float) -> Tensor:
    """Clipped surrogate, mean over tokens; all (n, l)."""
    ratio = torch.exp((log_p - old) * mask)
    worse = torch.minimum(ratio * advantage, ratio.clamp(1 - clip, 1 + clip) * advantage)
    return -(worse * mask).sum() / mask.sum()


def value_loss(value: Tensor, old: Tensor, target: Tensor, mask: Tensor, clip: float) -> Tensor:
    """Half the larger of the squared errors of the value and of the value clipped around the old one."""
    clipped = torch.minimum(torch.maximum(value, old - clip), old + clip)
    error = torch.maximum((value - target).square(), (clipped - target).square())
    return 0.5 * (error * mask).sum() / mask.sum()


@dataclass
class Multiplier:
    """lambda of the Lagrangian: adapted to keep the mean cost at the limit."""

    log_value: float
    rate: float
    limit: float
    window: int
    most: float
    costs: list[float] = field(default_factory=list)

    @property
    def value(self) -> float:
        """lambda."""
        return math.exp(self.log_value)

    def update(self, mean_cost: float) -> None:
        """One step of dual ascent in log lambda, with the mean cost of the last rollouts."""
        self.costs = [*self.costs, mean_cost][-self.window :]
        excess = sum(self.costs) / len(self.costs) - self.limit
        self.log_value = min(math.log(self.most), self.log_value + self.rate * self.value * excess)
        self.log_value = max(-10.0, self.log_value)
