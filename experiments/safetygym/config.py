"""Typed configuration of the Safety Gym experiment (arXiv 2504.20924, section 5.2)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from experiments.safetygym import references
from experiments.safetygym.learning_settings import ChoiceSettings, LearningSettings, PathErrorSettings
from experiments.support import common_settings as common
from experiments.support.config import BaseConfig
from experiments.support.errors import ConfigError
from experiments.support.settings import section, setting
from experiments.support.tailoring_settings import AnchoredTailoringSettings

TASKS = tuple(references.PREFIXES)
LABELS = ("backup", "branched", "logged")
CLASSIFIERS = ("path", "logits")
MODES = ("selected", "accepted", "candidate")
RULES = ("conservative", "plug_in")
VASES = ("faithful", "fixed")
THRESHOLDS = common.ten_thresholds(5)
"""Ten thresholds, equally spaced in logarithms, in [1e-5, 1]."""


@dataclass
class AgentConfig:
    """The agent that the guard is put around, and those that run without one beside it."""

    name: str = setting(
        "ours", "Reference agent behind the guard: ours (trained behind one), ppo, ppo_lag_25 and others."
    )
    path: str | None = setting(None, "File of an agent of one's own, in the place of the reference agent.")
    baselines: list[str] = setting(
        ["ppo", "ppo_lag_0", "ppo_lag_25"],
        "Reference agents that run without a guard; [all] is every one that was trained without "
        "and sees its goal as it is, [] none.",
    )


@dataclass
class AgentsConfig:
    """Which training of the reference agents a run is about, behind the guard and beside it."""

    training_seed: int = setting(
        0,
        "Training 0 is the first of every method; k takes <robot>_<name>_seed<k>.safetensors, whose training "
        "differs in its seeds alone.",
        low=0,
    )


@dataclass
class InternalTestConfig:
    """Labelled (state, candidate action) cases, for the classifier and for its thresholds."""

    n_t: int = setting(1_000_000, "Cases n_t that thresholds are calibrated on.", low=100)
    train_cases: int = setting(
        600_000, "Cases of each round that the classifier is trained on; never more than n_t.", low=100
    )
    rounds: int = setting(
        1, "Rounds of collecting behind the guard of the round before; 0 keeps to the unguarded agent.", low=0
    )
    label: str = setting(
        "backup",
        "What makes a case unsafe: backup, the candidate and then braking enters a hazard; branched, the "
        "candidate "
        "and then the agent does within the window; logged, the agent did within the window (the paper's).",
        choices=LABELS,
    )
    window: int = setting(60, "Control steps that branched and logged labels look ahead.", low=1)
    every: int = setting(10, "Control steps between two states of an episode that are taken.", low=1)
    vase: str = setting(
        "faithful",
        "The vase while data are collected: faithful can be pushed as in Safety Gym, fixed is seen and "
        "touched by nobody, which is faster.",
        choices=VASES,
    )


@dataclass
class ClassifierConfig:
    """The safety classification model."""

    kind: str = setting(
        "path",
        "What it predicts: path, braking paths that are held against decoded hazards; logits, a pair of "
        "logits for each candidate (the paper's).",
        choices=CLASSIFIERS,
    )
    hidden: list[int] = setting(
        [128, 128], "Widths of the network's hidden layers, in units.", low=1, at_least_one="width"
    )
    tailored: bool = setting(True, "Go on with the approximate loss after the warm-up (label=backup only).")


@dataclass
class EvaluationConfig:
    """Calibration, and the episodes in which entries into hazards are counted."""

    thresholds: list[float] = common.thresholds(THRESHOLDS, numbered=False)
    steps: int = setting(200_000, "Control steps at each of the thresholds.", low=1000)
    steps_at_r_t: int = setting(1_000_000, "Control steps at the run's own r_t.", low=1000)
    baseline_steps: int = setting(500_000, "Control steps of each agent without a guard.", low=1000)
    rule: str = setting(
        "conservative",
        "From internal test data to thresholds where xi is given: conservative counts one unsafe case more "
        "than was seen; plug_in is the paper's, xi and nothing else. With a measured xi it is always "
        "conservative, with the mass that the radius leaves out.",
        choices=RULES,
    )
    xi: str = common.xi("paper", ("paper", "measured"), "paper is 10^5 / n_t, ")
    calibrate: str = setting(
        "selected",
        "Event that r_t is the limit of: an unsafe action that is selected, an unsafe candidate that is "
        "accepted (the paper's), or that for each candidate by itself.",
        choices=MODES,
    )
    judge_every: int = setting(
        10, "Control steps between two actions whose true label is looked up in the simulator.", low=1
    )
    vase: str = setting(
        "faithful", "The vase while episodes are counted; as internal_test.vase.", choices=VASES
    )


@dataclass
class SafetyGymConfig(BaseConfig):
    """python run.py experiment=safetygym r_t=1e-4"""

    r_t: float = common.r_t(1e-4)
    task: str = setting(
        TASKS[0],
        "Safety Gym's task, which names the robot, Point or Car, and the level: 1, or 2 with more hazards "
        "and vases that cost.",
        choices=TASKS,
    )
    name: str = setting("ours", "Name of the method in tables; an ablation gives its own.")
    agent: AgentConfig = section(AgentConfig)
    internal_test: InternalTestConfig = section(InternalTestConfig)
    classifier: ClassifierConfig = section(ClassifierConfig)
    learning: LearningSettings = section(LearningSettings)
    evaluation: EvaluationConfig = section(EvaluationConfig)
    tailoring: AnchoredTailoringSettings = section(AnchoredTailoringSettings, later=True)
    path_error: PathErrorSettings = section(PathErrorSettings, later=True)
    agents: AgentsConfig = section(AgentsConfig, later=True)
    choice: ChoiceSettings = section(ChoiceSettings, later=True)

    @property
    def robot(self) -> str:
        """ "point" or "car"."""
        return "point" if "Point" in self.task else "car"

    @property
    def vases_cost(self) -> bool:
        """Whether a step costs in which a vase is touched or moves."""
        return "Goal2" in self.task

    @property
    def agents_of(self) -> str:
        """What the names of the task's reference agents begin with."""
        return references.PREFIXES[self.task]

    def agent_file(self, name: str) -> Path:
        """File of a reference agent of the run's training."""
        return references.agent_file(self.agents_of, name, self.agents.training_seed)

    def reference_agents(self) -> list[str]:
        """Names of all reference agents of the task that there are of the run's training."""
        there = references.trainings(self.agents_of)
        return [name for name, seeds in there.items() if self.agents.training_seed in seeds]

    def baselines(self) -> list[str]:
        """Names of the agents that run without a guard."""
        if self.agent.baselines == ["all"]:
            alone = (name for name in self.reference_agents() if not name.startswith("ours"))
            return [name for name in alone if references.ROUTED not in name]
        return self.agent.baselines

    def fixed_radius(self) -> float | None:
        """xi as a number; None if it is measured."""
        if self.evaluation.xi == "paper":
            return 1e5 / self.internal_test.n_t
        return common.fixed_radius(self.evaluation.xi)

    def validate(self) -> None:
        super().validate()
        if self.path_error.quantile and self.classifier.kind != "path":
            raise ConfigError(
                f"path_error.quantile={self.path_error.quantile} needs paths: give classifier.kind=path"
            )
        vases = {"internal_test": self.internal_test.vase, "evaluation": self.evaluation.vase}
        fixed = [f"{name}.vase" for name, vase in vases.items() if vase == "fixed"]
        if fixed and self.vases_cost:
            raise ConfigError(
                f"{fixed[0]}=fixed: vases cost in {self.task}, so they have to be touched: give faithful"
            )
        measured = self.fixed_radius() is None
        if self.choice.rule == "priced" and (self.evaluation.calibrate != "selected" or measured):
            raise ConfigError(
                "choice.rule=priced is calibrated for the action that is selected, at a given radius: give "
                "evaluation.calibrate=selected and evaluation.xi=paper or a number"
            )
        label = self.internal_test.label
        if label != "backup" and self.evaluation.calibrate == "selected":
            raise ConfigError(
                f"internal_test.label={label!r} labels one candidate a state: give"
                " evaluation.calibrate=accepted (or candidate)"
            )
        if self.agent.path and self.agents.training_seed:
            raise ConfigError(
                f"agents.training_seed={self.agents.training_seed} chooses among the reference agents, "
                f"agent.path={self.agent.path!r} is none of them: give one of the two"
            )
        for name in [*self.baselines(), *([] if self.agent.path else [self.agent.name])]:
            references.require(self.agents_of, name, self.agents.training_seed)

    def inputs(self) -> dict[str, str]:
        """The guarded agent's file."""
        return {"agent.path": self.agent.path or str(self.agent_file(self.agent.name))}

    def reads(self) -> list[Path]:
        """The baselines' files."""
        return [self.agent_file(name) for name in self.baselines()]


SCHEMA = SafetyGymConfig
