"""Typed configuration of the production-planning experiment (arXiv 2504.20924, production planning)."""

from __future__ import annotations

from dataclasses import dataclass, field

from experiments.production.demand.series import N_PRODUCTS, check_order, first_target
from experiments.production.records import SOURCES
from experiments.support.config import (
    BaseConfig,
    measured_or_radius,
    require_choice,
    require_range,
    require_threshold,
)
from experiments.support.errors import ConfigError
from safeframe.types import SafeframeError

_ANY = 2**62  # hours: a series as long as needed
THRESHOLDS = (1e-4, *(round(10 ** (-3 + 3 * k / 9), 10) for k in range(10)))
"""1e-4 and ten thresholds, equally spaced in logarithms, in [1e-3, 1]."""


@dataclass
class DataConfig:
    """Where demand comes from and how it is cut.

    path, columns: for eia. calendar: give every network the hour, weekday and day of year of the target hour
    too. order: the role of each consecutive quarter of time (0 training, 1 internal test for training, 2
    validation, 3 internal test for validation).
    """

    source: str = "synthetic"
    path: str | None = None
    columns: list[str] | None = None
    lookback: int = 24
    lead: int = 24
    hours_per_quarter: int = 8760
    calendar: bool = False
    order: list[int] = field(default_factory=lambda: [0, 1, 2, 3])


@dataclass
class ProblemConfig:
    """Constants of the planning problem; None keeps the default of `planning.ProductionProblem`."""

    price: list[float] | None = None
    slope: list[float] | None = None
    coupling: list[list[float]] | None = None
    capacity: list[float] | None = None

    def validate(self) -> None:
        """Raises ConfigError for constants that make no problem of four products."""
        given = {name: value for name, value in vars(self).items() if value is not None}
        if not given:
            return
        from experiments.production.planning import ProductionProblem  # heavy: only where needed

        try:
            products = ProductionProblem(**given).n_products
        except SafeframeError as error:
            raise ConfigError(f"problem.{error}") from error
        if products != N_PRODUCTS:
            raise ConfigError(f"problem.price names {products} products; the data have {N_PRODUCTS}")


@dataclass
class ModelConfig:
    """Sizes of the LSTMs: the demand network and every baseline; the classifier (paper: the same or half)."""

    hidden: int = 16
    classifier_hidden: int = 8


@dataclass
class TrainingConfig:
    """epochs, batch, learning_rate, weight_decay: of every supervised network. The rest is of the approximate
    loss:

    steps, tailored_rate, average: updates, step size, decay of the averaged weights. inputs, test_cases:
    sizes of the batches.
    temperature, temperature_output: of the relaxed indicators and output, in margin units. penalty (beta) and
    violation_cost (in L) in units of a product's mean gain; perturbation: lambda.
    """

    epochs: int = 30
    batch: int = 128
    learning_rate: float = 1e-2
    weight_decay: float = 0.01
    steps: int = 200
    tailored_rate: float = 1e-3
    average: float = 0.98
    inputs: int = 1024
    test_cases: int = 4096
    temperature: float = 1.0
    temperature_output: float = 1.0
    penalty: float = 0.3
    perturbation: float = 1.5
    violation_cost: float = 1.0


@dataclass
class EvaluationConfig:
    """n_t: hours of the last internal test quarter to calibrate on, None = all. xi: "measured" or a number >=
    0.

    xi_mass: mass left out when the radius is measured, in units of r_t; it is added to the bound. xi_trim:
    mass trimmed when the radius of tailored training is measured. thresholds: r_t validated at (the run's
    own r_t is added).
    delta: 1 - confidence of the certified thresholds.
    """

    n_t: int | None = None
    xi: str = "measured"
    xi_mass: float = 0.5
    xi_trim: float = 0.01
    delta: float = 0.05
    thresholds: list[float] = field(default_factory=lambda: list(THRESHOLDS))
    penalties: list[float] = field(default_factory=lambda: [1.0, 3.0, 10.0, 30.0, 100.0, 300.0])


@dataclass
class ProductionConfig(BaseConfig):
    """python run.py experiment=production r_t=1e-3 data=synthetic preset=laptop"""

    data: DataConfig = field(default_factory=DataConfig)
    problem: ProblemConfig = field(default_factory=ProblemConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)

    def validate(self) -> None:
        super().validate()
        require_choice("data.source", self.data.source, SOURCES)
        if self.data.source == "eia" and not self.data.path:
            raise ConfigError(
                "data.path is missing: data=eia needs data.path=/path/to/demand.csv.gz "
                "(docs/experiments/production.md has the format)"
            )
        for key in ("lookback", "lead", "hours_per_quarter"):
            require_range(f"data.{key}", getattr(self.data, key), low=1)
        try:
            first_target(_ANY, self.data.lookback, self.data.lead, self.data.hours_per_quarter)
            check_order(self.data.order)
        except SafeframeError as error:
            raise ConfigError(f"data: {error}") from error
        self.problem.validate()
        for section, keys in (
            ("model", ("hidden", "classifier_hidden")),
            ("training", ("epochs", "batch", "steps")),
        ):
            for key in keys:
                require_range(f"{section}.{key}", getattr(getattr(self, section), key), low=1)
        for key in ("inputs", "test_cases"):
            require_range(f"training.{key}", getattr(self.training, key), low=1)
        positive = (
            "learning_rate",
            "tailored_rate",
            "temperature",
            "temperature_output",
            "penalty",
            "perturbation",
        )
        for key in positive:
            require_range(f"training.{key}", getattr(self.training, key), low=1e-9)
        require_range("training.weight_decay", self.training.weight_decay, low=0)
        require_range("training.violation_cost", self.training.violation_cost, low=0)
        require_range("training.average", self.training.average, low=0, high=0.999999)
        if not self.evaluation.thresholds or not self.evaluation.penalties:
            raise ConfigError(
                "evaluation.thresholds and evaluation.penalties must hold at least one number each"
            )
        for index, r_t in enumerate(self.evaluation.thresholds):
            require_threshold(f"evaluation.thresholds[{index}]", r_t)
        for index, value in enumerate(self.evaluation.penalties):
            require_range(f"evaluation.penalties[{index}]", value, low=0)
            if value in self.evaluation.penalties[:index]:
                raise ConfigError(f"evaluation.penalties[{index}]={value} is there already: give each once")
        if self.evaluation.n_t is not None:
            require_range("evaluation.n_t", self.evaluation.n_t, low=100, high=self.data.hours_per_quarter)
        require_range("evaluation.delta", self.evaluation.delta, low=1e-12, high=0.5)
        require_range("evaluation.xi_mass", self.evaluation.xi_mass, low=0, high=1)
        require_range("evaluation.xi_trim", self.evaluation.xi_trim, low=0, high=0.5)
        self.fixed_radius()

    def fixed_radius(self) -> float | None:
        """The configured xi, or None where it is to be measured."""
        return measured_or_radius("evaluation.xi", self.evaluation.xi)

    def inputs(self) -> dict[str, str]:
        return {"data.path": self.data.path} if self.data.source == "eia" and self.data.path else {}


SCHEMA = ProductionConfig
