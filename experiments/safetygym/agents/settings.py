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

    steps: environment steps of the whole training. num_envs x horizon steps make one epoch. minibatch:
    cases per gradient step, computed in chunks of `chunk` that fit the cache. hidden: widths of the tanh
    layers (Safety Gym: 256-256; 128-128 reaches the same scores here). learning_rate falls linearly to
    `final_learning_rate` (cleanrl anneals to 0). target_kl: an epoch's policy updates stop beyond 1.5 times
    it (Spinning Up); 0 switches that off. observation_clip: in standard deviations (VecNormalize: 10).

    cost_limit: mean cost per episode of 1,000 steps (Ray et al. 2019: 25). lagrange_*: Ray et al. 2019:
    initial value 1, Adam at .05 on the softplus parameter. barrier_*: Yang et al. 2023 on Safety Gym: rate
    .1, margin .01, 20 steps, penalty at most 2 with rate .01, times to collision 2 s and 1 s. saute_*:
    Sootla et al. 2022: reward once the budget is spent and its discount.

    Raises SafeframeError for values outside their ranges.
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
