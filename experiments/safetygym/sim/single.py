"""One environment: `gymnasium.Env` over a `SafetyGymVector` of one."""

from __future__ import annotations

from typing import Any, ClassVar

import gymnasium
import numpy as np

from experiments.safetygym.sim import render
from experiments.safetygym.sim.state import State
from experiments.safetygym.sim.task import FRAMESKIP
from experiments.safetygym.sim.vector import SafetyGymVector
from safeframe.types import SafeframeError


class SafetyGymEnv(gymnasium.Env):
    """One Safety Gym task; arguments as `SafetyGymVector`, and render_mode None or "rgb_array".

    info of a step: cost (0.0 or 1.0), goal_met (bool), where vases cost cost_hazards and cost_vases. The
    episode ends by truncation after 1,000 steps; a further step raises SafeframeError until reset.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["rgb_array"], "render_fps": 50}

    def __init__(
        self,
        task: str = "Safexp-PointGoal1-v0",
        render_mode: str | None = None,
        seed: int | None = None,
        vase: str = "faithful",
        layout: str = "fast",
    ):
        if render_mode not in (None, "rgb_array"):
            raise SafeframeError(f"render_mode={render_mode!r}; known: None, 'rgb_array'")
        self.vector = SafetyGymVector(task, num_envs=1, seed=seed, vase=vase, layout=layout)
        self.task, self.render_mode = self.vector.task, render_mode
        self.metadata = {**type(self).metadata, "render_fps": round(1 / (FRAMESKIP * self.task.timestep))}
        self.observation_space = self.vector.single_observation_space
        self.action_space = self.vector.single_action_space
        self._ended = False
        self._cost = 0.0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """A new episode; options as `SafetyGymVector.reset`."""
        super().reset(seed=seed)
        obs, _ = self.vector.reset(seed=seed, options=options)
        self._ended, self._cost = False, 0.0
        return obs[0], {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """One control step under action (2,), clipped to [-1, 1]."""
        if self._ended:
            raise SafeframeError("step after the end of an episode: call reset() first")
        action = np.asarray(action)
        if action.shape != (2,):
            raise SafeframeError(f"action has shape {action.shape}; (2,) is needed")
        obs, reward, _, truncated, info = self.vector._step(action[None], reset=False)
        self._ended, self._cost = bool(truncated[0]), float(info["cost"][0])
        single: dict[str, Any] = {name: float(info[name][0]) for name in info if name.startswith("cost")}
        single["goal_met"] = bool(info["goal_met"][0])
        return obs[0], float(reward[0]), False, self._ended, single

    def get_state(self) -> State:
        """A copy of the state, one row."""
        return self.vector.get_state()

    def set_state(self, state: State) -> np.ndarray:
        """Take over a state of one row; returns the observation (with zero action applied)."""
        self._ended, self._cost = False, 0.0
        return self.vector.set_state(state)[0]

    def render(self) -> np.ndarray | None:
        """The scene from above, (480, 480, 3) uint8, in mode "rgb_array"; else None."""
        if self.render_mode is None:
            return None
        return render.draw(render.Frame.of(self.vector, 0, cost=self._cost))
