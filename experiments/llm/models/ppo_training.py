"""The PPO-Lagrangian loop: answers from the policy, scores, advantages, updates (parts: `ppo_lag.py`).

Everything of iteration i is drawn from streams named by (seed, i), and the whole state is in the checkpoint,
so a killed training goes on as if it had not been.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from experiments.llm.models.conversations import Conversations, answer_log_probabilities, join
from experiments.llm.models.generation.sampling import Sampling, generate, hash_to_seed, texts_of
from experiments.llm.models.language_model import end_tokens
from experiments.llm.models.ppo_lag import (
    Multiplier,
    PPOSettings,
    actor_loss,
    combined,
    gae,
    per_token,
    value_loss,
)
from experiments.llm.models.preference_models import TokenScores, body
from experiments.llm.models.runtime import Runtime
from experiments.llm.models.supervised import language_loss
from experiments.llm.models.tokenizer import Encoded, Template, encode_prompts
from experiments.support.runs.checkpoints import load_checkpoint, save_checkpoint
from safeframe.types import SafeframeError

Row = dict[str, float]
Score = Callable[[list[str], list[str]], np.ndarray]  # prompts, answers -> (n,)


def two_headed(reward_model: Any) -> Any:
    """A critic with two value heads, from a reward model: the first head is the reward's, the second zero."""
    config = copy.deepcopy(reward_model.config)
    config.num_labels = 2
    critic = type(reward_model)(config)
    body(critic).load_state_dict(body(reward_model).state_dict())
    with torch.no_grad():
        critic.score.weight.zero_()
        critic.score.weight[0] = reward_model.score.weight[0]
    return critic.to(reward_model.device)


class PPOLag:
    """One training by PPO-Lagrangian.

    Args:
        policy: language model that is changed; a copy of it as it is now is the reference.
        critic: model with two values per token that is changed.
        tokenizer: of the policy.
        template: a prompt as the model sees it.
        prompts: iteration -> its texts.
        reward: answers -> scores (n,).
        cost: answers -> scores (n,).
        settings: of the training.
        seed: of sampling and of the order of updates.
        max_prompt_tokens: longer prompts are cut.
        max_answer_tokens: of an answer, at most.
        runtime: device and precision; None: cpu, float32.
        ptx: step -> people's conversations; needed for a ptx_coefficient above 0.

    Raises:
        SafeframeError: for settings that do not fit.
    """

    def __init__(
        self,
        policy: Any,
        critic: Any,
        tokenizer: Any,
        template: str | Template,
        prompts: Callable[[int], list[str]],
        reward: Score,
        cost: Score,
        settings: PPOSettings,
        seed: int,
        max_prompt_tokens: int,
        max_answer_tokens: int,
        runtime: Runtime | None = None,
        ptx: Callable[[int], Conversations] | None = None,
    ):
        if settings.ptx_coefficient > 0 and ptx is None:
            raise SafeframeError("ptx_coefficient is above 0: conversations of people are needed (ptx)")
        self.settings, self.seed, self.tokenizer, self.template = settings, seed, tokenizer, template
        self.prompts, self.reward, self.cost, self.ptx = prompts, reward, cost, ptx
        self.lengths = (max_prompt_tokens, max_answer_tokens)
        self.runtime = runtime or Runtime()
        self.reference = copy.deepcopy(policy).to(self.runtime.device).eval().requires_grad_(False)
        s = settings
        self.policy, self.policy_optimiser = self.runtime.prepare(
            policy, lambda m: torch.optim.Adam(m.parameters(), s.learning_rate, betas=(0.9, 0.95))
        )
        self.critic, self.critic_optimiser = self.runtime.prepare(
            TokenScores(critic),
            lambda m: torch.optim.Adam(m.parameters(), s.critic_learning_rate, betas=(0.9, 0.95)),
        )
        self.multiplier = Multiplier(
            math.log(s.multiplier), s.multiplier_rate, s.cost_limit, s.window, s.multiplier_most
        )
        self.iteration = 0
        self.history: list[Row] = []

    def rollout(self) -> tuple[Conversations, Tensor, Tensor]:
        """(conversations, reward (n,), cost (n,) in its form) of this iteration's prompts."""
        texts = self.runtime.share(self.prompts(self.iteration))
        encoded = encode_prompts(self.tokenizer, self.template, texts, self.lengths[0])
        sampling = Sampling(1, self.lengths[1], self.settings.temperature, shard=max(1, len(texts)))
        policy, rank = self.runtime.unwrap(self.policy).eval(), self.runtime.rank
        made = generate(
            policy, self.tokenizer, encoded, sampling, hash_to_seed(self.seed, self.iteration, rank)
        )
        tokens, answers = made.tokens[:, 0], [row[0] for row in texts_of(self.tokenizer, made.tokens)]
        last = np.isin(tokens, end_tokens(policy, self.tokenizer))
        mask = np.cumsum(last, axis=1) - last == 0  # up to the first end token, it included
        batch = join(encoded, Encoded(tokens.astype(np.int64), mask, 0))
        reward, cost = (
            torch.from_numpy(np.asarray(f(texts, answers))).float() for f in (self.reward, self.cost)
        )
        return batch, reward, cost.sigmoid() if self.settings.cost_form == "probability" else cost

    def values(self, batch: Conversations) -> Tensor:
        """(n, answer length, 2) values before each token of the answers: of reward and of cost."""
        return self.critic(**batch.arguments())[:, batch.start - 1 : -1]

    def _log_p(self, model: Any, batch: Conversations) -> Tensor:
        return answer_log_probabilities(model(**batch.arguments()).logits, batch, self.settings.temperature)

    def iterate(self) -> Row:
        """One rollout and its updates; what is reported of it."""
        s, device = self.settings, self.runtime.device
        batch, reward, cost = self.rollout()
        batch, reward, cost = batch.to(device), reward.to(device), cost.to(device)
        mask = batch.answer[:, batch.start :].float()
        with torch.no_grad(), self.runtime.computing("scoring a rollout", "lower batch"):
            pieces = range(0, len(batch), s.minibatch)
            parts = [batch[slice(i, i + s.minibatch)] for i in pieces]
            old = torch.cat([self._log_p(self.policy, part) for part in parts])
            log_ratio = old - torch.cat([self._log_p(self.reference, part) for part in parts])
            value = torch.cat([self.values(part) for part in parts])
        earned = per_token(reward, log_ratio, mask, s.kl_coefficient, -1.0)
        charged = per_token(cost, log_ratio, mask, s.kl_coefficient, +1.0)
        reward_advantage, returned = gae(value[..., 0], earned, mask, s.discount, s.gae_lambda)
        cost_advantage, cost_returned = gae(value[..., 1], charged, mask, s.discount, s.gae_lambda)
        mean_cost = self.runtime.mean(cost)
        row = {
            "iteration": float(self.iteration),
            "reward": self.runtime.mean(reward),
            "cost": mean_cost,
            "kl": float((log_ratio * mask).sum(dim=1).mean()),
            "length": float(mask.sum(dim=1).mean()),
            "multiplier": self.multiplier.value,
        }
        self.multiplier.update(mean_cost)
        advantage = combined(reward_advantage, cost_advantage, mask, self.multiplier.value)
        target = torch.stack([returned, cost_returned], dim=-1)
        row |= self._updates(batch, mask, old, advantage, value, target)
        if not all(map(math.isfinite, row.values())):
            raise SafeframeError(
                f"iteration {self.iteration} gave {row}; lower learning_rate ({s.learning_rate})"
            )
        self.iteration += 1
        self.history.append(row)
        return row

    def _updates(
        self,
        batch: Conversations,
        mask: Tensor,
        old: Tensor,
        advantage: Tensor,
        value: Tensor,
        target: Tensor,
    ) -> Row:
        s, generator = (
            self.settings,
            torch.Generator().manual_seed(hash_to_seed(self.seed, self.iteration, 10_007)),
        )
        totals, count = np.zeros(3), 0
        self.runtime.unwrap(self.policy).train()
        for _ in range(s.epochs):
            order = torch.randperm(len(batch), generator=generator)
            for index in order.split(s.minibatch):
                part, m = batch[index], mask[index]
                with self.runtime.computing(f"an update on {len(index)} answers", "lower minibatch"):
                    log_p = self._log_p(self.policy, part)
                    loss = actor_loss(log_p, old[index], advantage[index], m, s.clip)
                    total = loss
                    if s.ptx_coefficient > 0 and self.ptx is not None:
                        people = self.ptx(self.iteration * s.epochs + count).to(self.runtime.device)
                        total = loss + s.ptx_coefficient * language_loss(self.policy, people)
                    self._step(total, self.policy, self.policy_optimiser)
                    now = self.values(part)
                    error = sum(
                        value_loss(now[..., k], value[index][..., k], target[index][..., k], m, s.value_clip)
                        for k in (0, 1)
                    )
                    self._step(error, self.critic, self.critic_optimiser)
                moved = ((log_p.detach() - old[index]).exp() - 1).abs() > s.clip
                totals += [float(loss.detach()), float(error.detach()), float((moved * m).sum() / m.sum())]
                count += 1
        return dict(zip(("actor_loss", "value_loss", "clip_share"), (totals / count).tolist(), strict=True))

    def _step(self, loss: Any, model: Any, optimiser: Any) -> None:
        self.runtime.backward(loss)
        where = f"in iteration {self.iteration} (loss {float(loss.detach()):.4g})"
        rate = self.settings.learning_rate
        advice = f"see whether rewards and costs are finite, or lower learning_rate ({rate})"
        self.runtime.clip(model, 1.0, f"{where}: {advice}")
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)

    def state_dict(self) -> dict[str, Any]:
        """Everything that `load_state_dict` needs to go on."""
        return {
            "settings": asdict(self.settings) | {"seed": self.seed},
            "policy": self.runtime.unwrap(self.policy).state_dict(),
            "critic": self.runtime.unwrap(self.critic).state_dict(),
            "policy_optimiser": self.policy_optimiser.state_dict(),
            "critic_optimiser": self.critic_optimiser.state_dict(),
            "multiplier": [self.multiplier.log_value, *self.multiplier.costs],
            "iteration": self.iteration,
            "history": self.history,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved state; SafeframeError if it is of another training."""
        own = asdict(self.settings) | {"seed": self.seed}
        different = [
            key for key, value in own.items() if state["settings"].get(key) != value and key != "iterations"
        ]
        if different:
            raise SafeframeError(
                f"the checkpoint is of another training ({', '.join(different)} differ); delete it to "
                "start again"
            )
        for name in ("policy", "critic"):
            self.runtime.unwrap(getattr(self, name)).load_state_dict(state[name])
            getattr(self, f"{name}_optimiser").load_state_dict(state[f"{name}_optimiser"])
        self.multiplier.log_value, *self.multiplier.costs = state["multiplier"]
        self.iteration, self.history = state["iteration"], state["history"]

    def train(
        self,
        checkpoint: Path | None = None,
        progress: Callable[[Iterable], Iterable] = iter,
        report: Callable[[Row], None] | None = None,
    ) -> Any:
        """The policy after all iterations, from the checkpoint if there is one."""
        state = load_checkpoint(checkpoint) if checkpoint is not None else None
        if state is not None:
            self.load_state_dict(state)
        for _ in progress(range(self.iteration, self.settings.iterations)):
            row = self.iterate()
            if report is not None:
                report(row)
            if checkpoint is not None and self.iteration % self.settings.every == 0 and self.runtime.is_main:
                save_checkpoint(checkpoint, self.state_dict())
        return self.runtime.unwrap(self.policy).eval()
