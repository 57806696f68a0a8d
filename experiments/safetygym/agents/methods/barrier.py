"""PPO-Barrier: a neural barrier certificate learned beside the policy, and a policy kept inside it.

Source: Yang, Jiang, Liu, Chen, Li 2023, "Model-Free Safe Reinforcement Learning Through Neural Barrier
Certificate", IEEE RA-L, DOI 10.1109/LRA.2023.3238656 (hyper-parameters from the authors' published settings
for Safety Gym). B(s) <= -e where surely safe, B(s) >= e where unsafe, and along the policy's trajectories,
for i = 1..k, B(s_{t+i}) <= (1 - r)^i B(s_t) - e (1 - (1 - r)^i) / r: the multi-step invariant. Its
violations, clipped at 0 and averaged over i with weights discount^i, are (a) with gradients, the invariant
loss of B, beside hinge losses on labelled states; (b) without, a penalty on the action taken at t: the
policy minimises (-clipped surrogate + m ratio penalty) / (1 + m), the importance weight making it
differentiable; m is a multiplier raised by the mean violation, at most 2. Labels are times to collision at
constant velocity: more than 2 s surely safe, less than 1 s (or inside) unsafe, else neither.

Departures: (1) labels belong to the observation they are computed with (the authors' code pairs them with
the one before); (2) the certificate is trained after the policy's update, in minibatches of whole time
series, not in one full-batch gradient step with the policy; (3) windows end at time limits and at the
epoch's end, and weights of a shortened window are renormalised by the full window's; (4) the penalty is
standardised over the epoch, not over the (full-batch) minibatch; its mean is left in m's update, as there;
(5) the epoch has 32,768 steps and 6 passes in minibatches with PPO's settings here, instead of 20,000 and
30 full-batch passes; (6) goal and hazards are seen by lidar, where the authors replaced the goal's by its
position and left out the vase.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor

from experiments.safetygym.agents.methods.lagrangian import Multiplier
from experiments.safetygym.agents.methods.method import Method, Signals
from experiments.safetygym.agents.networks import Networks, forward_in_chunks, mlp
from experiments.safetygym.agents.ppo import standardise
from experiments.safetygym.agents.rollout import Rollout
from experiments.safetygym.agents.settings import AgentSettings
from experiments.safetygym.sim.clearance import VASE_KEEP
from experiments.safetygym.sim.state import State
from experiments.safetygym.sim.task import HAZARD_RADIUS, get_task
from safeframe.types import BoolArray, FloatArray

_POINT_SIZE = 6


def time_to_collision(
    position: FloatArray, velocity: FloatArray, hazards: FloatArray, radius: float = HAZARD_RADIUS
) -> FloatArray:
    """Seconds until a hazard is entered at constant velocity, (n,): 0 inside, inf if never.

    position, velocity (n, 2) in m and m/s; hazards (n, h, 2), of that radius in m. Per hazard at distance d
    and angle a to the velocity: (d cos a - sqrt(R^2 - d^2 sin^2 a)) / speed where the line meets the disc
    ahead.
    """
    offset = hazards - position[:, None, :]
    distance = np.linalg.norm(offset, axis=2)
    speed = np.maximum(np.linalg.norm(velocity, axis=1), 1e-6)
    along = np.einsum("nhi,ni->nh", offset, velocity) / speed[:, None]
    inside_chord = radius**2 - np.maximum(distance**2 - along**2, 0.0)
    ahead = (along > 0) & (inside_chord >= 0)
    times = np.where(ahead, (along - np.sqrt(np.maximum(inside_chord, 0.0))) / speed[:, None], np.inf)
    return np.where(distance <= radius, 0.0, times).min(axis=1)


def planar_motion(state: State) -> tuple[FloatArray, FloatArray]:
    """Position and velocity in world axes, (n, 2) each, of the Point or the Car."""
    if state.robot.shape[1] == _POINT_SIZE:
        return state.robot[:, :2], state.robot[:, 3:5]
    return state.robot[:, :2], state.robot[:, 13:15]


@numba.njit(cache=True, error_model="numpy")
def multi_step_violation(
    barrier: FloatArray, ended: BoolArray, steps: int, rate: float, margin: float, discount: float
) -> FloatArray:
    """Mean clipped violation of the multi-step invariant from each state, (T, n) float32.

    barrier (T + 1, n): B before each step and after the last; ended (T, n) cuts windows, since the next
    row then belongs to another episode. Weights discount^(i - 1), normalised over `steps`.
    """
    horizon, n = ended.shape
    result = np.zeros((horizon, n), np.float32)
    total = 0.0
    for i in range(steps):
        total += discount**i
    for env in range(n):
        for step in range(horizon):
            weight, keep, value = 1.0, 1.0, 0.0
            for i in range(steps):
                if step + i >= horizon or ended[step + i, env]:
                    break
                keep *= 1.0 - rate
                excess = margin * (1.0 - keep) / rate + barrier[step + i + 1, env] - keep * barrier[step, env]
                value += weight * max(excess, 0.0)
                weight *= discount
            result[step, env] = value / total
    return result


def invariant_loss(
    barrier: Tensor, ended: Tensor, steps: int, rate: float, margin: float, discount: float
) -> Tensor:
    """Mean over states of `multi_step_violation`, with gradients through every B; shapes as there."""
    horizon = len(ended)
    open_window = torch.ones_like(barrier[:-1])
    running = ~ended
    loss, total = barrier.new_zeros(()), 0.0
    keep = 1.0
    for i in range(min(steps, horizon)):
        keep *= 1.0 - rate
        open_window = open_window[: horizon - i] * running[i:]
        excess = margin * (1.0 - keep) / rate + barrier[i + 1 :] - keep * barrier[: horizon - i]
        loss = loss + discount**i * (excess.clamp(min=0) * open_window).sum()
    total = sum(discount**i for i in range(steps))
    return loss / (total * ended.numel())


class Barrier(Method):
    """PPO-Barrier: see the module."""

    def __init__(self, settings: AgentSettings, inputs: int) -> None:
        super().__init__(settings, inputs)
        s = settings
        self.multiplier = Multiplier(s.barrier_penalty_initial, s.barrier_penalty_rate, s.barrier_penalty_max)
        self.certificate = mlp(inputs, s.hidden, 1, 1.0)
        self.optimiser = torch.optim.Adam(self.certificate.parameters(), lr=s.learning_rate, fused=True)

    def labeller(self, env: Any) -> BoolArray:
        """(surely safe, unsafe) of each environment now, (n, 2)."""
        state = env.get_state()
        times, s = time_to_collision(*planar_motion(state), state.hazards), self.settings
        if get_task(s.task).level.vases_cost:
            vases = state.vases[:, :, :2]
            times = np.minimum(times, time_to_collision(*planar_motion(state), vases, VASE_KEEP))
        return np.stack([times > s.barrier_safe_seconds, times <= s.barrier_unsafe_seconds], axis=1)

    def _invariant(self) -> tuple[int, float, float, float]:
        s = self.settings
        return s.barrier_steps, s.barrier_rate, s.barrier_margin, s.discount

    def signals(self, rollout: Rollout, networks: Networks, inputs: Tensor, ends: Tensor) -> Signals:
        """PPO's advantages divided by 1 + m, and the penalty m / (1 + m) times the standardised violation."""
        gain, returns = self.estimate("reward", rollout, networks, inputs, ends)
        horizon, n = rollout.rewards.shape
        barrier = forward_in_chunks(self.certificate, inputs).numpy().reshape(horizon + 1, n)
        violation = multi_step_violation(barrier, rollout.ended, *self._invariant())
        self.violation = float(violation.mean())
        self.multiplier.step(self.violation)
        weights = torch.from_numpy(rollout.active.reshape(-1)).float()
        m = self.multiplier.value
        centred = standardise(torch.from_numpy(violation.reshape(-1)), weights, rescale=False)
        spread = ((centred**2 * weights).sum() / weights.sum().clamp(min=1)).sqrt().clamp(min=1e-4)
        penalties = centred / spread * (m / (1 + m))
        return Signals(standardise(gain, weights) / (1 + m), penalties, {"reward": returns})

    def after(self, rollout: Rollout, inputs: Tensor, generator: torch.Generator) -> dict[str, float]:
        """Train the certificate on this epoch, whole time series per minibatch."""
        s = self.settings
        horizon, n = rollout.rewards.shape
        series = inputs.reshape(horizon + 1, n, -1)
        ended = torch.from_numpy(rollout.ended)
        labels = torch.from_numpy(rollout.labels)
        each = max(1, s.minibatch // horizon)
        total, count = 0.0, 0
        for _ in range(s.epochs):
            order = torch.randperm(n, generator=generator)
            for envs in order.split(each):
                barrier = self.certificate(series[:, envs].flatten(0, 1)).reshape(horizon + 1, len(envs))
                safe, unsafe = labels[:, envs, 0], labels[:, envs, 1]
                hinge_safe = ((s.barrier_margin + barrier[:-1]).clamp(min=0) * safe).sum()
                hinge_unsafe = ((s.barrier_margin - barrier[:-1]).clamp(min=0) * unsafe).sum()
                loss = (
                    hinge_safe / safe.sum().clamp(min=1)
                    + hinge_unsafe / unsafe.sum().clamp(min=1)
                    + invariant_loss(barrier, ended[:, envs], *self._invariant())
                )
                self.optimiser.zero_grad(set_to_none=True)
                loss.backward()
                torch.nn.utils.clip_grad_norm_(self.certificate.parameters(), s.max_grad_norm)
                self.optimiser.step()
                total, count = total + loss.item(), count + 1
        return {
            "multiplier": self.multiplier.value,
            "violation": self.violation,
            "certificate_loss": total / count,
        }

    def state_dict(self) -> dict[str, Any]:
        """Certificate, its optimiser, the multiplier."""
        return {
            "certificate": self.certificate.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "multiplier": self.multiplier.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` gave."""
        self.certificate.load_state_dict(state["certificate"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.multiplier.load_state_dict(state["multiplier"])
