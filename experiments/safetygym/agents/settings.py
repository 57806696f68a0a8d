"""What an agent is trained with: one frozen dataclass for all methods, checked when it is made."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, get_type_hints

from safeframe.types import SafeframeError

METHODS = ("ppo", "ppo_lag", "ppo_barrier", "saute")
POLICIES = ("categorical", "gaussian")


@dataclass(frozen=True)
class AgentSettings:
    """Hyper-parameters; where a source gives one, it stands beside ours.

    Attributes:
        task: a Safety Gym task.
        method: one of METHODS.
        policy: one of POLICIES.
        steps: environment steps of the whole training.
        seed: of everything drawn.
        num_envs: environments; num_envs x horizon steps make one epoch.
        horizon: steps of each environment in an epoch.
        epochs: passes of updates over an epoch's steps.
        minibatch: cases per gradient step.
        chunk: cases computed at once, so many as fit the cache.
        hidden: widths of the tanh layers (Safety Gym: 256-256; 128-128 reaches the same scores here).
        learning_rate: at the start; it falls linearly.
        final_learning_rate: at the end (cleanrl anneals to 0).
        adam_epsilon: of Adam.
        discount: of the reward.
        gae_lambda: of the reward's advantages.
        clip: of the surrogate.
        entropy: weight of the policy's entropy.
        max_grad_norm: largest norm of the gradient.
        target_kl: an epoch's policy updates stop beyond 1.5 times it (Spinning Up); 0 switches that off.
        observation_clip: in standard deviations (VecNormalize: 10).
        route_room: m from the edges of hazards that a route to the goal keeps; the agent sees its goal where
            the route begins (`perception/route`). 0: it sees the goal.
        initial_log_std: of the Gaussian policy.
        cost_limit: mean cost per episode of 1,000 steps (Ray et al. 2019: 25).
        cost_discount: of the cost.
        cost_gae_lambda: of the cost's advantages.
        lagrange_initial: multiplier at the start (Ray et al. 2019: 1).
        lagrange_rate: Adam on the softplus parameter (Ray et al. 2019: .05).
        barrier_rate: of the barrier condition (Yang et al. 2023 on Safety Gym, as all barrier_*: .1).
        barrier_margin: of the barrier condition (.01).
        barrier_steps: that it looks ahead (20).
        barrier_penalty_rate: how fast the penalty moves (.01).
        barrier_penalty_initial: penalty at the start.
        barrier_penalty_max: largest penalty (2).
        barrier_safe_seconds: time to collision from which a state is safe (2).
        barrier_unsafe_seconds: time to collision below which it is unsafe (1).
        saute_unsafe_reward: reward once the budget is spent (Sootla et al. 2022).
        saute_discount: of the budget (Sootla et al. 2022).

    Raises:
        SafeframeError: for values outside their ranges.
    """

    task: str = "Safexp-PointGoal1-v0"
    method: str = "ppo"
    policy: str = "categorical"
    steps: int = 10_000_000
    seed: int = 0
    num_envs: int = 128
    horizon: int = 256
    epochs: int = 6
    minibatch: int = 8192
    chunk: int = 2048
    hidden: tuple[int, ...] = (128, 128)
    learning_rate: float = 1e-3
    final_learning_rate: float = 1e-4
    adam_epsilon: float = 1e-5
    discount: float = 0.99
    gae_lambda: float = 0.95
    clip: float = 0.2
    entropy: float = 0.0
    max_grad_norm: float = 0.5
    target_kl: float = 0.02
    observation_clip: float = 10.0
    route_room: float = 0.0
    initial_log_std: float = -0.5
    cost_limit: float = 25.0
    cost_discount: float = 0.99
    cost_gae_lambda: float = 0.95
    lagrange_initial: float = 1.0
    lagrange_rate: float = 0.05
    barrier_rate: float = 0.1
    barrier_margin: float = 0.01
    barrier_steps: int = 20
    barrier_penalty_rate: float = 0.01
    barrier_penalty_initial: float = 1.0
    barrier_penalty_max: float = 2.0
    barrier_safe_seconds: float = 2.0
    barrier_unsafe_seconds: float = 1.0
    saute_unsafe_reward: float = -0.1
    saute_discount: float = 1.0

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise SafeframeError(f"method is {self.method!r}; it must be one of {', '.join(METHODS)}")
        if self.policy not in POLICIES:
            raise SafeframeError(f"policy is {self.policy!r}; it must be one of {', '.join(POLICIES)}")
        for name in _POSITIVE:
            if not getattr(self, name) > 0:
                raise SafeframeError(f"{name} is {getattr(self, name)}; it must be > 0")
        for name in _NOT_NEGATIVE:
            if not getattr(self, name) >= 0:
                raise SafeframeError(f"{name} is {getattr(self, name)}; it must be >= 0")
        for name in _SHARES:
            if not 0 < getattr(self, name) <= 1:
                raise SafeframeError(f"{name} is {getattr(self, name)}; it must lie in (0, 1]")
        if not self.hidden or any(width < 1 for width in self.hidden):
            raise SafeframeError(f"hidden is {self.hidden}; it must name at least one width, each >= 1")
        if self.minibatch > self.num_envs * self.horizon:
            raise SafeframeError(
                f"minibatch is {self.minibatch}, more than the {self.num_envs * self.horizon} steps of one"
                " epoch (num_envs x horizon); make it smaller"
            )
        if self.method == "saute" and not self.cost_limit > 0:
            raise SafeframeError("saute divides by its budget: cost_limit must be > 0")

    @property
    def epoch_steps(self) -> int:
        """Environment steps of one epoch."""
        return self.num_envs * self.horizon

    @property
    def total_epochs(self) -> int:
        """Epochs until at least `steps` environment steps are done."""
        return -(-self.steps // self.epoch_steps)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as JSON takes them."""
        return dataclasses.asdict(self) | {"hidden": list(self.hidden)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> AgentSettings:
        """The settings that `as_dict` wrote; SafeframeError for a key that does not exist."""
        known = {field.name for field in dataclasses.fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise SafeframeError(f"unknown setting {unknown[0]!r}; known are {', '.join(sorted(known))}")
        return cls(**values | ({"hidden": tuple(values["hidden"])} if "hidden" in values else {}))

    @classmethod
    def parse(cls, texts: dict[str, str]) -> AgentSettings:
        """Settings from text (`steps=1e7`, `hidden=64,64`); SafeframeError says which value is wrong."""
        hints = get_type_hints(cls)
        values: dict[str, Any] = {}
        for key, text in texts.items():
            kind = hints.get(key)
            try:
                if key == "hidden":
                    values[key] = tuple(int(part) for part in text.split(","))
                elif kind is int:
                    if float(text) != int(float(text)):
                        raise ValueError("not a whole number")
                    values[key] = int(float(text))
                else:
                    values[key] = text if kind in (str, None) else kind(text)
            except (ValueError, OverflowError) as error:
                raise SafeframeError(f"{key}={text}: {error}") from error
        return cls.from_dict(values)


_POSITIVE = [
    "steps",
    "num_envs",
    "horizon",
    "epochs",
    "minibatch",
    "chunk",
    "learning_rate",
    "adam_epsilon",
    "clip",
    "max_grad_norm",
    "observation_clip",
    "barrier_steps",
    "barrier_penalty_max",
    "barrier_safe_seconds",
]
_NOT_NEGATIVE = [
    "seed",
    "final_learning_rate",
    "entropy",
    "route_room",
    "target_kl",
    "cost_limit",
    "lagrange_initial",
    "lagrange_rate",
    "barrier_margin",
    "barrier_penalty_rate",
    "barrier_penalty_initial",
    "barrier_unsafe_seconds",
]
_SHARES = ["discount", "gae_lambda", "cost_discount", "cost_gae_lambda", "barrier_rate", "saute_discount"]
