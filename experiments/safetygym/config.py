"""Typed configuration of the Safety Gym experiment (arXiv 2504.20924, section 5.2)."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path

from experiments.safetygym.learning_settings import LearningSettings
from experiments.support.config import BaseConfig, require_choice, require_range, require_threshold
from experiments.support.errors import ConfigError
from experiments.support.files import REPOSITORY

TASKS = ("Safexp-PointGoal1-v0", "Safexp-CarGoal1-v0")
LABELS = ("backup", "branched", "logged")
CLASSIFIERS = ("path", "logits")
MODES = ("selected", "accepted", "candidate")
REFERENCE = "experiments/safetygym/reference"
"""Agents that come with the repository: <robot>_<name>.safetensors."""
THRESHOLDS = tuple(round(10 ** (-5 + 5 * k / 9), 10) for k in range(10))
"""Ten thresholds, equally spaced in logarithms, in [1e-5, 1]."""


@dataclass
class AgentConfig:
    """name: the reference agent that the guard is put around ("ours", trained under a guard; "ppo";
    "ppo_lag"). path: a file of one's own instead. baselines: reference agents that run without a guard beside
    it, "all" for every one."""

    name: str = "ours"
    path: str | None = None
    baselines: list[str] = field(default_factory=lambda: ["ppo", "ppo_lag_0", "ppo_lag_25"])


@dataclass
class InternalTestConfig:
    """n_t: labelled (state, candidate) cases that thresholds are calibrated on. train_cases: at most so many
    more for the classifier (never more than n_t). rounds: of collecting under the guard of the round before;
    0 keeps to the unguarded agent. label, window: see `collection`. every: control steps between states.
    vase: as it is labelled."""

    n_t: int = 1_000_000
    train_cases: int = 600_000
    rounds: int = 1
    label: str = "backup"
    window: int = 60
    every: int = 10
    vase: str = "faithful"


@dataclass
class ClassifierConfig:
    """kind: "path" (braking paths against decoded hazards) or "logits" (the paper's half-size network).
    tailored: go on with the approximate loss after the warm-up."""

    kind: str = "path"
    hidden: list[int] = field(default_factory=lambda: [128, 128])
    tailored: bool = True


@dataclass
class EvaluationConfig:
    """thresholds r_t that are validated, each over `steps` steps (`steps_at_r_t` at the configured r_t, which
    joins them). xi: "paper" (10^5 / n_t), "measured", or a number of logits. calibrate: the event, an unsafe
    "selected" action, an "accepted" candidate, or every "candidate" by itself (`calibration`,
    `candidate_calibration`). judge_every: the true label of every judge_every-th step's action is looked
    up."""

    thresholds: list[float] = field(default_factory=lambda: list(THRESHOLDS))
    steps: int = 200_000
    steps_at_r_t: int = 1_000_000
    baseline_steps: int = 500_000
    xi: str = "paper"
    calibrate: str = "selected"
    judge_every: int = 10
    vase: str = "faithful"


@dataclass
class SafetyGymConfig(BaseConfig):
    """name: the method's name in tables (an ablation gives its own)."""

    r_t: float = 1e-4
    task: str = TASKS[0]
    name: str = "ours"
    agent: AgentConfig = field(default_factory=AgentConfig)
    internal_test: InternalTestConfig = field(default_factory=InternalTestConfig)
    classifier: ClassifierConfig = field(default_factory=ClassifierConfig)
    learning: LearningSettings = field(default_factory=LearningSettings)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)

    @property
    def robot(self) -> str:
        """ "point" or "car"."""
        return "point" if "Point" in self.task else "car"

    def agent_file(self, name: str) -> Path:
        """File of a reference agent."""
        return REPOSITORY / REFERENCE / f"{self.robot}_{name}.safetensors"

    def reference_agents(self) -> list[str]:
        """Names of all reference agents of the task."""
        prefix = f"{self.robot}_"
        found = sorted((REPOSITORY / REFERENCE).glob(f"{prefix}*.safetensors"))
        return [path.stem.removeprefix(prefix) for path in found]

    def baselines(self) -> list[str]:
        """Names of the agents that run without a guard."""
        if self.agent.baselines == ["all"]:
            return [name for name in self.reference_agents() if name != "ours"]
        return self.agent.baselines

    def fixed_radius(self) -> float | None:
        """xi as a number; None if it is measured."""
        if self.evaluation.xi == "paper":
            return 1e5 / self.internal_test.n_t
        return None if self.evaluation.xi == "measured" else float(self.evaluation.xi)

    def validate(self) -> None:
        """Raises ConfigError naming key, value and what is allowed."""
        super().validate()
        test, evaluation = self.internal_test, self.evaluation
        require_choice("task", self.task, TASKS)
        for key, value, allowed in (
            ("internal_test.label", test.label, LABELS),
            ("internal_test.vase", test.vase, ("faithful", "fixed")),
            ("classifier.kind", self.classifier.kind, CLASSIFIERS),
            ("evaluation.calibrate", evaluation.calibrate, MODES),
            ("evaluation.vase", evaluation.vase, ("faithful", "fixed")),
        ):
            require_choice(key, value, allowed)
        for key, value, low in (
            ("internal_test.n_t", test.n_t, 100),
            ("internal_test.train_cases", test.train_cases, 100),
            ("internal_test.rounds", test.rounds, 0),
            ("internal_test.window", test.window, 1),
            ("internal_test.every", test.every, 1),
            ("evaluation.steps", evaluation.steps, 1000),
            ("evaluation.steps_at_r_t", evaluation.steps_at_r_t, 1000),
            ("evaluation.baseline_steps", evaluation.baseline_steps, 1000),
            ("evaluation.judge_every", evaluation.judge_every, 1),
            ("learning.steps", self.learning.steps, 1),
            ("learning.batch", self.learning.batch, 1),
            ("learning.tailored_steps", self.learning.tailored_steps, 0),
        ):
            require_range(key, value, low=low)
        for r_t in evaluation.thresholds:
            require_threshold("evaluation.thresholds", r_t)
        if not self.classifier.hidden or min(self.classifier.hidden) < 1:
            raise ConfigError(
                f"classifier.hidden={self.classifier.hidden}: name at least one width, each >= 1"
            )
        if evaluation.xi not in ("paper", "measured"):
            try:
                require_range("evaluation.xi", float(evaluation.xi), low=0.0, high=sys.float_info.max)
            except ValueError as error:
                raise ConfigError(
                    f"evaluation.xi={evaluation.xi!r} must be 'paper', 'measured' or a number >= 0"
                ) from error
        if test.label != "backup" and evaluation.calibrate == "selected":
            raise ConfigError(
                f"internal_test.label={test.label!r} labels one candidate a state: give"
                " evaluation.calibrate=accepted (or candidate)"
            )
        known = self.reference_agents()
        for name in [*self.baselines(), *([] if self.agent.path else [self.agent.name])]:
            if name not in known:
                raise ConfigError(f"agent: no reference agent {name!r} for {self.robot}; there are {known}")

    def inputs(self) -> dict[str, str]:
        """The guarded agent's file."""
        return {"agent.path": self.agent.path or str(self.agent_file(self.agent.name))}

    def reads(self) -> list[Path]:
        """The baselines' files."""
        return [self.agent_file(name) for name in self.baselines()]


SCHEMA = SafetyGymConfig
