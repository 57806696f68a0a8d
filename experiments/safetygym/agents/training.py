"""Training an agent: epochs of rollout and update, resumable to the same numbers.

Random streams are seeded by (seed, epoch), so nothing but the epoch's number has to be saved of them; the
environment's own state, the observations in hand and both optimisers are in the checkpoint. A training that
was killed and started again gives the weights of one that was not (on the same machine).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from experiments.safetygym.agents.agent import Agent, new_agent
from experiments.safetygym.agents.checkpoints import pack_state, save_agent, unpack_state
from experiments.safetygym.agents.grid import check_candidates, default_candidates
from experiments.safetygym.agents.methods.register import make_method
from experiments.safetygym.agents.ppo import Batch, update
from experiments.safetygym.agents.rollout import DefaultAction, Guard, Rollout, collect
from experiments.safetygym.agents.settings import AgentSettings
from experiments.support.files import atomic_write
from experiments.support.runs.checkpoints import load_checkpoint, save_checkpoint
from safeframe.types import FloatArray, SafeframeError

Row = dict[str, float]
EPISODE_STEPS = 1000


class Trainer:
    """The state of one training. `guard` and `default_action` may be changed between epochs (callback)."""

    def __init__(
        self,
        settings: AgentSettings,
        env: Any,
        candidates: FloatArray | None = None,
        guard: Guard | None = None,
        default_action: DefaultAction | None = None,
        initial: Agent | None = None,
    ) -> None:
        """initial: an agent of the same shape whose weights and normalisation are taken over."""
        self.settings = settings
        self.guard, self.default_action = guard, default_action
        size = env.single_observation_space.shape[0]
        torch.manual_seed(settings.seed)
        self.method = make_method(settings, size)
        self.env = self.method.wrap(env)
        self.candidates = check_candidates(
            default_candidates(settings.task) if candidates is None else candidates
        )
        self.observations, _ = self.env.reset(seed=settings.seed, options={"stagger": True})
        self.agent = new_agent(
            settings, self.candidates, size, self.observations.shape[1], self.method.critics
        )
        if initial is not None:
            self._take_over(initial)
        self.in_hazard = np.zeros(len(self.observations), bool)
        networks = self.agent.networks
        self.optimiser = torch.optim.Adam(
            networks.parameters(), lr=settings.learning_rate, eps=settings.adam_epsilon, fused=True
        )
        self.epoch = 0
        self.seconds = 0.0
        self.history: list[Row] = []

    def _take_over(self, initial: Agent) -> None:
        networks = self.agent.networks
        own, other = networks.state_dict(), initial.networks.state_dict()
        shared = {name: value for name, value in other.items() if name in own}
        wrong = [name for name, value in shared.items() if value.shape != own[name].shape]
        missing = [name for name in own if name.startswith("actor") and name not in shared]
        if wrong or missing or initial.inputs != self.agent.inputs:
            raise SafeframeError(
                f"the initial agent ({initial.task}, {initial.inputs} inputs, hidden"
                f" {initial.settings.hidden}) does not fit this training ({self.agent.inputs} inputs, hidden"
                f" {self.settings.hidden})"
            )
        networks.load_state_dict(own | shared)
        self.agent.normaliser.load_state_dict(initial.normaliser.state_dict())

    @property
    def steps(self) -> int:
        """Environment steps done."""
        return self.epoch * self.settings.epoch_steps

    def run_epoch(self) -> Row:
        """One rollout and update; what is reported of it."""
        s, start = self.settings, time.perf_counter()
        agent = self.agent
        rollout, self.observations, self.in_hazard = collect(
            self.env,
            agent.networks,
            agent.normaliser,
            self.candidates,
            self.observations,
            self.in_hazard,
            s.horizon,
            np.random.default_rng([s.seed, self.epoch]),
            self.guard,
            self.default_action,
            self.method.labeller,
            s.policy == "gaussian",
            agent.observation_size,
        )
        collected = time.perf_counter()
        for group in self.optimiser.param_groups:
            share = self.epoch / max(1, s.total_epochs - 1)
            group["lr"] = s.learning_rate + share * (s.final_learning_rate - s.learning_rate)
        horizon, n = rollout.rewards.shape
        flat = rollout.observations.reshape(horizon * n, -1)
        inputs = agent.normaliser(np.concatenate([flat, rollout.last]))
        signals = self.method.signals(rollout, agent.networks, inputs, agent.normaliser(rollout.ends[2]))
        actions = torch.from_numpy(rollout.actions.reshape((horizon * n, *rollout.actions.shape[2:])))
        batch = Batch(
            inputs[: horizon * n],
            actions,
            torch.from_numpy(rollout.log_probabilities.reshape(-1)),
            signals.advantages,
            signals.penalties,
            torch.from_numpy(rollout.active.reshape(-1)).float(),
            signals.returns,
            None if rollout.feasible is None else torch.from_numpy(rollout.feasible.reshape(horizon * n, -1)),
        )
        generator = torch.Generator().manual_seed((s.seed * 1_000_003 + self.epoch) % 2**63)
        learned = update(agent.networks, self.optimiser, batch, s, generator)
        learned |= self.method.after(rollout, inputs, generator)
        agent.normaliser.update(flat)
        self.epoch += 1
        now = time.perf_counter()
        self.seconds += now - start
        row = {"epoch": float(self.epoch), "steps": float(self.steps)} | summary(rollout) | learned
        row |= {
            "learning_rate": self.optimiser.param_groups[0]["lr"],
            "steps_per_second": s.epoch_steps / (now - start),
            "rollout_share": (collected - start) / (now - start),
        }
        self.history.append(row)
        return row

    def trained(self) -> Agent:
        """The agent so far, with means over the last fifth of its training (at most 30 epochs) on record."""
        recent = self.history[-max(1, min(30, len(self.history) // 5)) :]
        self.agent.record = {
            "steps": self.steps,
            "seconds": round(self.seconds, 1),
            "guarded": self.guard is not None,
            **{
                name: float(np.mean([row[name] for row in recent]))
                for name in ("return", "cost", "entries", "default_share")
                if recent
            },
        }
        return self.agent

    def state_dict(self) -> dict[str, Any]:
        """Everything that `load_state_dict` needs to go on."""
        return {
            "settings": self.settings.as_dict(),
            "candidates": torch.from_numpy(self.candidates),
            "epoch": self.epoch,
            "seconds": self.seconds,
            "networks": self.agent.networks.state_dict(),
            "normaliser": self.agent.normaliser.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "method": self.method.state_dict(),
            "env": pack_state(self.env.get_state()),
            "observations": torch.from_numpy(np.array(self.observations)),
            "in_hazard": torch.from_numpy(self.in_hazard.copy()),
            "history": self.history,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved state; SafeframeError if it is of another training."""
        if state["settings"] != self.settings.as_dict():
            other = state["settings"]
            keys = [key for key, value in self.settings.as_dict().items() if other.get(key) != value]
            raise SafeframeError(
                f"the checkpoint is of another training ({', '.join(keys)} differ); delete it to start again"
            )
        if not np.array_equal(state["candidates"].numpy(), self.candidates):
            raise SafeframeError("the checkpoint has other candidate actions; delete it to start again")
        self.agent.networks.load_state_dict(state["networks"])
        self.agent.normaliser.load_state_dict(state["normaliser"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.method.load_state_dict(state["method"])
        self.env.set_state(unpack_state(state["env"], self.env.get_state()))
        self.observations = state["observations"].numpy().copy()
        self.in_hazard = state["in_hazard"].numpy().copy()
        self.epoch, self.seconds, self.history = state["epoch"], state["seconds"], state["history"]


def summary(rollout: Rollout) -> Row:
    """Per 1,000 steps: return, cost (steps in a hazard), entries; and the share of default actions."""
    scale = float(EPISODE_STEPS)
    return {
        "return": float(rollout.task_rewards.mean()) * scale,
        "cost": float(rollout.costs.mean()) * scale,
        "entries": float(rollout.entries.mean()) * scale,
        "default_share": 1.0 - float(rollout.active.mean()),
    }


def train(
    settings: AgentSettings,
    env_factory: Callable[[AgentSettings], Any],
    directory: Path | str | None = None,
    *,
    candidates: FloatArray | None = None,
    guard: Guard | None = None,
    default_action: DefaultAction | None = None,
    initial: Agent | None = None,
    callback: Callable[[Trainer], None] | None = None,
    progress: Callable[[str], None] | None = None,
    progress_every: int = 10,
    checkpoint_every: int = 20,
) -> Agent:
    """An agent trained for `settings.steps` steps.

    Args:
        settings: method, sizes and rates.
        env_factory: settings -> the vector environment.
        directory: `checkpoint.pt` (every `checkpoint_every` epochs; a training found there goes on), at the
            end `agent.safetensors` and `history.csv`, and the checkpoint is removed. None: nothing is
            written.
        candidates: actions to choose from; see `rollout.collect`.
        guard: see `rollout.collect`; not saved, so `callback` sets it anew after a resume.
        default_action: as `guard`.
        initial: agent to start from; None: a new one.
        callback: called with the trainer before every epoch.
        progress: takes a line of text every `progress_every` epochs.
        progress_every: epochs.
        checkpoint_every: epochs.

    Returns:
        The agent.

    Raises:
        SafeframeError: for a checkpoint of another training.
        CacheError: for a damaged checkpoint.
    """
    folder = None if directory is None else Path(directory)
    trainer = Trainer(settings, env_factory(settings), candidates, guard, default_action, initial)
    if folder is not None and (state := load_checkpoint(folder / "checkpoint.pt")) is not None:
        trainer.load_state_dict(state)
    while trainer.epoch < settings.total_epochs:
        if callback is not None:
            callback(trainer)
        trainer.run_epoch()
        last = trainer.epoch == settings.total_epochs
        if progress is not None and (trainer.epoch % progress_every == 0 or last):
            progress(line(trainer.history[-progress_every:], settings))
        if folder is not None and trainer.epoch % checkpoint_every == 0 and not last:
            save_checkpoint(folder / "checkpoint.pt", trainer.state_dict())
    agent = trainer.trained()
    if folder is not None:
        save_agent(agent, folder / "agent.safetensors")
        write_history(trainer.history, folder / "history.csv")
        (folder / "checkpoint.pt").unlink(missing_ok=True)
    return agent


def write_history(history: list[Row], path: Path) -> None:
    """One row per epoch, as CSV."""
    names = list(history[0]) if history else []
    lines = [",".join(names)] + [",".join(repr(row[name]) for name in names) for row in history]
    atomic_write(path, "\n".join(lines) + "\n")


def line(rows: list[Row], settings: AgentSettings) -> str:
    """Progress in one line: means over `rows`."""
    mean = {name: float(np.mean([row.get(name, np.nan) for row in rows])) for name in rows[-1]}
    text = (
        f"{settings.method} {int(rows[-1]['steps']):>9,}/{settings.steps:,} return {mean['return']:6.2f} "
        f"cost {mean['cost']:6.2f} entries {mean['entries']:5.2f} kl {mean['kl']:.4f} "
        f"entropy {mean['entropy']:.2f} {mean['steps_per_second']:,.0f} steps/s"
    )
    for name in ("multiplier", "violation", "certificate_loss"):
        if name in mean:
            text += f" {name} {mean[name]:.3g}"
    return text + (f" default {mean['default_share']:.1%}" if mean["default_share"] > 0 else "")
