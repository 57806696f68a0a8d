"""Many environments at once: `gymnasium.vector.VectorEnv` with autoreset in the same step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from experiments.safetygym.sim import layout_reference
from experiments.safetygym.sim.robots import ROBOTS, Outcome
from experiments.safetygym.sim.state import State
from experiments.safetygym.sim.task import EPISODE_STEPS, get_task
from safeframe.types import SafeframeError

VASES = ("faithful", "fixed")
LAYOUTS = ("fast", "reference")


@dataclass(frozen=True)
class Branch:
    """Copies of environments after other actions: obs (k, d), reward (k, T), cost (k, T), their state."""

    obs: np.ndarray
    reward: np.ndarray
    cost: np.ndarray
    state: State


class SafetyGymVector(VectorEnv):
    """num_envs copies of a Safety Gym task; see `State` for what one is.

    info of a step: cost (n,) 0 or 1, goal_met (n,), where vases cost cost_hazards and cost_vases (n,), and
    where episodes ended final_obs (n, d) with the mask _final_obs, and final_info, which holds the step's
    own again. An episode ends by truncation: after 1,000 steps, or if a new goal finds no place.

    Args:
        task: its name.
        num_envs: n.
        seed: of the layouts and of everything drawn after them; None: a random one.
        vase: "faithful" (free boxes, MuJoCo where they are in play) or "fixed" (seen by the lidar, touched by
            nobody; not where vases cost).
        layout: "fast" or "reference" (drawn exactly as the original draws with that seed; environment i
            counts from seed + 100,003 i).

    Raises:
        SafeframeError: for an unknown task, vase or layout, actions that are not finite or of another shape,
            or physics that is not finite.
    """

    metadata: ClassVar[dict[str, Any]] = {"autoreset_mode": AutoresetMode.SAME_STEP, "render_modes": []}

    def __init__(
        self,
        task: str = "Safexp-PointGoal1-v0",
        num_envs: int = 1,
        seed: int | None = None,
        vase: str = "faithful",
        layout: str = "fast",
    ):
        self.task = get_task(task)
        if vase not in VASES:
            raise SafeframeError(f"vase={vase!r}; known: {', '.join(VASES)}")
        if vase == "fixed" and self.task.level.vases_cost:
            raise SafeframeError(
                f"vase='fixed': vases cost in {self.task.name}, so they have to be touched; give 'faithful'"
            )
        if layout not in LAYOUTS:
            raise SafeframeError(f"layout={layout!r}; known: {', '.join(LAYOUTS)}")
        if num_envs < 1:
            raise SafeframeError(f"num_envs={num_envs} must be at least 1")
        self.num_envs, self.vase, self.layout = num_envs, vase, layout
        self.single_observation_space = gymnasium.spaces.Box(
            -np.inf, np.inf, (self.task.observation_size,), np.float32
        )
        self.single_action_space = gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        n = num_envs
        self.state = State(
            np.zeros((n, self.task.robot_size)),
            np.zeros((n, 2)),
            np.zeros((n, self.task.level.hazards, 2)),
            np.zeros((n, self.task.level.vases, 13)),
            np.zeros(n, np.int64),
            np.zeros(n, np.uint64),
        )
        self.robot = ROBOTS[self.task.robot](self.task, vase == "faithful", layout == "reference")
        self._obs = np.zeros((n, self.task.observation_size), np.float32)
        self._started = False
        self._seed(seed)

    def _seed(self, seed: int | None) -> None:
        if self.layout == "reference":
            self.state.rng[:] = layout_reference.first_seeds(seed, self.num_envs)
        else:
            self.state.rng[:] = np.random.SeedSequence(seed).generate_state(self.num_envs, np.uint64)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """New episodes everywhere.

        Args:
            seed: as of the class; None goes on with the present random stream.
            options: stagger=True spreads the episodes' clocks over [0, 1000), so that their ends do not
                coincide; reset_mask (n,) bool, as gymnasium has it, restarts only some.

        Returns:
            Observations (n, d), and an info without entries.
        """
        if seed is not None:
            self._seed(seed)
        options = options or {}
        mask = options.get("reset_mask")
        index = np.arange(self.num_envs) if mask is None else np.flatnonzero(mask)
        self.robot.begin(self.state, index, self._obs)
        if options.get("stagger"):
            self.state.step[index] = index * EPISODE_STEPS // self.num_envs
        self._started = True
        return self._obs.copy(), {}

    def step(
        self, actions: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """One control step; actions (n, 2), clipped to [-1, 1]."""
        return self._step(actions, reset=True)

    def _step(self, actions: np.ndarray, reset: bool):
        """Without `reset`, episodes that end stay where they are (for the single environment)."""
        if not self._started:
            raise SafeframeError("step before reset: call reset() or set_state() first")
        actions = _checked(actions, (self.num_envs, 2))
        out = Outcome.into(self._obs, np.zeros_like(self._obs))
        self.robot.advance(self.state, actions, out, reset)
        self._check_finite()
        _, reward, cost, goal_met, truncated, final, vase_cost = out
        info: dict[str, Any] = {"cost": cost, "goal_met": goal_met}
        if self.task.level.vases_cost:
            info |= {"cost": total(out), "cost_hazards": cost, "cost_vases": vase_cost}
        if reset and truncated.any():
            ended = truncated.copy()
            last = {name: np.where(ended, value, 0.0) for name, value in info.items() if name != "goal_met"}
            last["goal_met"] = goal_met & ended
            last |= {f"_{name}": ended.copy() for name in last}
            info |= {"final_obs": final, "_final_obs": ended, "final_info": last, "_final_info": ended.copy()}
        return self._obs.copy(), reward, np.zeros(self.num_envs, np.bool_), truncated, info

    @property
    def last_observation(self) -> np.ndarray:
        """(n, d) float32, what reset, step or set_state last returned; not to be written to."""
        return self._obs

    def get_state(self, indices: np.ndarray | None = None) -> State:
        """A copy of the state of all environments or of `indices`."""
        return self.state.copy() if indices is None else self.state.select(np.asarray(indices))

    def set_state(self, state: State, indices: np.ndarray | None = None) -> np.ndarray:
        """Put environments into the given state.

        Args:
            state: one row per environment.
            indices: of the environments; None: all of them.

        Returns:
            Their observations (with zero action applied).

        Raises:
            SafeframeError: for a state of another robot, number of rows, or with values that are not finite.
        """
        index = np.arange(self.num_envs) if indices is None else np.atleast_1d(np.asarray(indices))
        level = self.task.level
        if state.robot.shape != (len(index), self.task.robot_size):
            raise SafeframeError(
                f"set_state: robot has shape {state.robot.shape}; {self.task.name} needs "
                f"({len(index)}, {self.task.robot_size})"
            )
        objects = (state.hazards.shape[1], state.vases.shape[1])
        if objects != (level.hazards, level.vases):
            raise SafeframeError(
                f"set_state: {objects[0]} hazards and {objects[1]} vases; {self.task.name} has "
                f"{level.hazards} and {level.vases}"
            )
        state.check("set_state")
        self.state.assign(index, state)
        if not self._started:
            self._started = len(index) == self.num_envs
        self.robot.observe(self.state, index, np.zeros((self.num_envs, 2)), self._obs)
        return self._obs[index].copy()

    def branch(self, indices: np.ndarray, actions: np.ndarray) -> Branch:
        """Step copies of environments `indices` (k,) under actions (k, 2) or (k, T, 2); nothing here changes.
        Copies go on past the end of an episode, so that no window is cut short."""
        state = self.get_state(np.atleast_1d(np.asarray(indices)))
        k = len(state)
        plan = np.asarray(actions, dtype=np.float64)
        if plan.ndim == 2:
            plan = plan[:, None]
        plan = _checked(plan, (k, plan.shape[1] if plan.ndim == 3 else 1, 2))
        reward, cost = np.empty((k, plan.shape[1])), np.empty((k, plan.shape[1]))
        obs = np.zeros((k, self.task.observation_size), np.float32)
        for t in range(plan.shape[1]):
            out = Outcome.into(obs, obs)
            self.robot.advance(state, np.ascontiguousarray(plan[:, t]), out, reset=False)
            reward[:, t], cost[:, t] = out.reward, total(out) if self.task.level.vases_cost else out.cost
        if not np.isfinite(obs).all():
            state.check("branch")
            raise SafeframeError("branch: an observation is not finite")
        return Branch(obs, reward, cost, state)

    def _check_finite(self) -> None:
        if not np.isfinite(self._obs).all():
            self.state.check("step")
            row = int(np.argmin(np.isfinite(self._obs).all(axis=1)))
            raise SafeframeError(f"step: the observation of environment {row} is not finite")


def total(out: Outcome) -> np.ndarray:
    """(n,) 0 or 1: what a step cost where vases cost too."""
    return np.maximum(out.cost, out.vase_cost)


def _checked(actions: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    actions = np.ascontiguousarray(actions, dtype=np.float64)
    if actions.shape != shape:
        raise SafeframeError(f"actions have shape {actions.shape}; {shape} is needed")
    if not np.isfinite(actions).all():
        row = int(np.argmin(np.isfinite(actions.reshape(len(actions), -1)).all(axis=1)))
        raise SafeframeError(f"action of environment {row} is not finite")
    return actions
