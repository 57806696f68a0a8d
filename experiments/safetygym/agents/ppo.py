"""The PPO update (Schulman et al. 2017, arXiv 1707.06347) on one epoch of experience.

Details and sources ("The 37 Implementation Details of PPO", Huang et al. 2022, numbered as there, and
cleanrl): (4) Adam with epsilon 1e-5; (5) learning rate falling linearly; (6) GAE; (7) several minibatches
an epoch, shuffled anew in each; (8) advantages standardised, here over the whole epoch of experience
instead of each minibatch (as safety-starter-agents); (9) clipped surrogate; (10) value loss not clipped, as
it did not help there; (11) entropy bonus; (12) global gradient clipping, actor and critics separately since
they share nothing; (13) separate networks; debug variables: approximate KL divergence (Schulman's estimator
k3), clip fraction. The policy stops for the rest of the update when the KL of an epoch exceeds 1.5
target_kl (Spinning Up). The update of one minibatch is accumulated over chunks whose activations fit the
second-level cache.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from experiments.safetygym.agents.networks import Networks
from experiments.safetygym.agents.policies import categorical_terms, gaussian_terms
from experiments.safetygym.agents.settings import AgentSettings
from safeframe.types import SafeframeError


@dataclass
class Batch:
    """Cases of one epoch, flat.

    inputs (n, d) standardised; actions (n,) or (n, 2); log_probabilities (n,); advantages (n,) as the policy
    shall see them; penalties (n,) or None: a term whose mean under the new policy is pushed down without
    clipping (barrier); weights (n,) 0 or 1: 0 carries no policy gradient; returns: each critic's targets
    (n,); feasible (n, k) or None.
    """

    inputs: Tensor
    actions: Tensor
    log_probabilities: Tensor
    advantages: Tensor
    penalties: Tensor | None
    weights: Tensor
    returns: dict[str, Tensor]
    feasible: Tensor | None


def standardise(values: Tensor, weights: Tensor, rescale: bool = True) -> Tensor:
    """(values - mean) / std over cases of weight 1; only centred without `rescale` (as costs, Ray et al.)."""
    total = weights.sum().clamp(min=1)
    centred = values - (values * weights).sum() / total
    if not rescale:
        return centred
    return centred / (((centred**2) * weights).sum() / total).sqrt().clamp(min=1e-8)


def update(
    networks: Networks,
    optimiser: torch.optim.Optimizer,
    batch: Batch,
    settings: AgentSettings,
    generator: torch.Generator,
) -> dict[str, float]:
    """Improve `networks` in place; means of losses, KL, clip fraction, entropy and policy epochs done.

    Raises SafeframeError if a loss is not finite.
    """
    n, policy_on = len(batch.inputs), True
    sums: dict[str, float] = {}
    gradient_steps, policy_epochs = 0, 0
    for _ in range(settings.epochs):
        order = torch.randperm(n, generator=generator)
        divergence = torch.zeros(2)
        for start in range(0, n - settings.minibatch + 1, settings.minibatch):
            optimiser.zero_grad(set_to_none=True)
            rows = order[start : start + settings.minibatch]
            weight_sum = float(batch.weights[rows].sum().clamp(min=1))
            for part in rows.split(settings.chunk):
                loss, terms = _loss(networks, batch, part, len(rows), weight_sum, settings, policy_on)
                loss.backward()
                if policy_on:
                    divergence += torch.stack([terms.pop("kl_sum"), terms.pop("weight_sum")])
                for name, value in terms.items():
                    sums[name] = sums.get(name, 0.0) + value.item()
            if policy_on:
                torch.nn.utils.clip_grad_norm_(networks.actor_parameters(), settings.max_grad_norm)
            torch.nn.utils.clip_grad_norm_(networks.critics.parameters(), settings.max_grad_norm)
            optimiser.step()
            gradient_steps += 1
        if policy_on:
            policy_epochs += 1
            kl = float(divergence[0] / divergence[1].clamp(min=1))
            if settings.target_kl > 0 and kl > 1.5 * settings.target_kl:
                policy_on = False
    policy_steps = max(1, gradient_steps * policy_epochs // settings.epochs)
    means = {
        name: value / (gradient_steps if name.startswith("value") else policy_steps)
        for name, value in sums.items()
    }
    if not all(map(_finite, means.values())):
        raise SafeframeError(f"a loss is not finite ({means}); lower learning_rate")
    return means | {"kl": kl, "policy_epochs": float(policy_epochs)}


def _finite(value: float) -> bool:
    return value - value == 0.0


def _loss(
    networks: Networks,
    batch: Batch,
    rows: Tensor,
    n: int,
    weight_sum: float,
    settings: AgentSettings,
    policy_on: bool,
) -> tuple[Tensor, dict[str, Tensor]]:
    """This chunk's share of the minibatch's loss, and sums to report."""
    inputs = batch.inputs[rows]
    terms: dict[str, Tensor] = {}
    loss = torch.zeros(())
    if policy_on:
        if settings.policy == "gaussian":
            chosen, entropy = gaussian_terms(networks, inputs, batch.actions[rows])
        else:
            feasible = None if batch.feasible is None else batch.feasible[rows]
            chosen, entropy = categorical_terms(networks, inputs, batch.actions[rows], feasible)
        weights = batch.weights[rows]
        log_ratio = (chosen - batch.log_probabilities[rows]) * weights
        ratio = log_ratio.exp()
        advantages = batch.advantages[rows] * weights
        clipped = ratio.clamp(1 - settings.clip, 1 + settings.clip)
        surrogate = torch.minimum(ratio * advantages, clipped * advantages)
        if batch.penalties is not None:
            surrogate = surrogate - ratio * batch.penalties[rows] * weights
        policy_loss = -surrogate.sum() / weight_sum
        entropy_mean = (entropy * weights).sum() / weight_sum
        loss = policy_loss - settings.entropy * entropy_mean
        with torch.no_grad():
            terms["kl_sum"] = ((ratio - 1 - log_ratio) * weights).sum()
            terms["weight_sum"] = weights.sum()
            terms["clip_fraction"] = (
                ((ratio - 1).abs() > settings.clip).to(weights.dtype) * weights
            ).sum() / weight_sum
            terms["policy_loss"], terms["entropy"] = policy_loss.detach(), entropy_mean.detach()
    for name, critic in networks.critics.items():
        value_loss = 0.5 * ((critic(inputs)[:, 0] - batch.returns[name][rows]) ** 2).sum() / n
        loss = loss + value_loss
        terms[f"value_loss_{name}"] = value_loss.detach()
    return loss, terms
