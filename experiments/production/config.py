"""Typed configuration of the production-planning experiment (arXiv 2504.20924, production planning)."""

from __future__ import annotations

from dataclasses import dataclass

from experiments.production.demand.series import N_PRODUCTS, check_order, first_target
from experiments.production.records import CALIBRATIONS, CHOICES, CONSTRAINTS, PARTS, SERVICES, SOURCES
from experiments.support import common_settings as common
from experiments.support.config import BaseConfig
from experiments.support.errors import ConfigError
from experiments.support.settings import require_range, section, setting
from experiments.support.tailoring_settings import AnchoredTailoringSettings
from safeframe.types import SafeframeError

_ANY = 2**62  # hours: a series as long as needed
THRESHOLDS = (1e-4, *common.ten_thresholds(3))
"""1e-4 and ten thresholds, equally spaced in logarithms, in [1e-3, 1]."""


@dataclass
class DataConfig:
    """Where demand comes from, and how it is cut into cases."""

    source: str = setting(
        "synthetic",
        "Synthetic demand with a known law, or hourly electricity demand from a file.",
        choices=SOURCES,
    )
    path: str | None = setting(
        None, "The file of hourly demand (.csv, .csv.gz, .csv.xz, .zip, .parquet); source=eia needs it."
    )
    columns: list[str] | None = setting(
        None,
        "The four series of the file, in the order of the products; null takes the four with the largest "
        "share of hours below 3 in the training quarter.",
    )
    lookback: int = setting(24, "Past hours of every product that a network sees: the measurement.", low=1)
    lead: int = setting(24, "Hours between the last one seen and the hour that is planned.", low=1)
    hours_per_quarter: int = setting(8760, "Hours of each of the quarters that time is cut into.", low=1)
    skip_quarters: int = setting(
        0,
        "Quarters at the beginning of a longer file to leave out: later years take the four roles.",
        low=0,
    )
    calendar: bool = setting(
        False, "Give every network the hour, the weekday and the day of the year of the planned hour too."
    )
    order: list[int] = setting(
        [0, 1, 2, 3],
        "The role of each quarter, in order of time: 0 training, 1 internal test for training, 2 validation, "
        "3 internal test for validation, each once or more, -1 left out: more than four for a longer file.",
    )


@dataclass
class ProblemConfig:
    """Constants of the planning problem, in units of demand on its scale from 0 to 10."""

    price: list[float] | None = setting(
        None, "Price p of each product where exactly its demand is made; null is 5, 4.5, 4, 3.5."
    )
    slope: list[float] | None = setting(
        None,
        "How much the price of each product falls per unit made beyond its demand, k > 0; null is 1 for "
        "each.",
    )
    coupling: list[list[float]] | None = setting(
        None, "Matrix A by which a product uses capacity of the others; null is the one of planning.py."
    )
    capacity: list[float] | None = setting(
        None, "Capacity b >= 0 for each product; null is 6.5, 6, 5.75, 5.25."
    )

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
    """Sizes of the networks, which are LSTMs."""

    hidden: int = setting(16, "Units of the demand network and of every baseline.", low=1)
    classifier_hidden: int = setting(8, "Units of the binary classifier (paper: as many, or half).", low=1)
    classifier: str = setting(
        "joined",
        "What the guard's risk is made of: binary, the paper's classifier, trained by the approximate loss; "
        "joined, two heads of one network and how its forecast did lately.",
        choices=("joined", "binary"),
    )
    safety_hidden: int = setting(
        15,
        "Units of the network with two heads; 15 have fewer weights than a demand network of 16.",
        low=1,
    )


@dataclass
class ScoreConfig:
    """What the joined safety score is made of beside two heads, recent errors and roughness of the law."""

    days: int = setting(
        14,
        "Join how far the mean of the same hour of so many last known days lies below 3, in their standard "
        "deviations; 0 joins nothing. The baseline with recent errors is given it too.",
        low=0,
    )


@dataclass
class TrainingConfig:
    """Training of the networks: first supervised, then, for the classifier, by the approximate loss."""

    epochs: int = setting(30, "Passes over the training cases, of every supervised network.", low=1)
    batch: int = setting(128, "Cases of an update, of every supervised network.", low=1)
    learning_rate: float = setting(
        1e-2, "Peak of the one-cycle learning rate, of every supervised network.", above=0
    )
    weight_decay: float = setting(0.01, "Weight decay of AdamW, of every supervised network.", low=0)
    steps: int = setting(200, "Updates by the approximate loss.", low=1)
    tailored_rate: float = setting(1e-3, "Learning rate of the approximate loss.", above=0)
    average: float = common.average(0.98)
    inputs: int = setting(1024, "Hours whose plan an update of the approximate loss looks at.", low=1)
    test_cases: int = setting(
        4096, "Internal test cases that carry the bound in an update of the approximate loss.", low=1
    )
    temperature: float = common.temperature(1.0)
    temperature_output: float = common.temperature_output(1.0)
    penalty: float = common.penalty(0.3, "a product's mean gain")
    perturbation: float = common.perturbation(1.5)
    violation_cost: float = common.violation_cost(
        1.0, "a product that is made in an unsafe hour", "its mean gain"
    )


@dataclass
class EvaluationConfig:
    """Calibration on the last internal test quarter, and what is counted on the validation quarter."""

    n_t: int | None = setting(
        None, "Hours n_t of the last internal test quarter to calibrate on; null is all of them.", low=100
    )
    xi: str = common.xi("measured", ("measured",))
    xi_mass: float = common.xi_mass(0.5)
    xi_trim: float = setting(
        0.01, "Mass of margins left out where the radius of training is measured.", low=0, high=0.5
    )
    constraint: str = setting(
        "worst_product",
        "What the guard promises: per_product, every product's share, with thresholds of their own; "
        "worst_product, the same with one threshold for all; pooled, the share of all products together.",
        choices=CONSTRAINTS,
    )
    choice: str = setting(
        "gated",
        "How products are chosen: behind thresholds on their risk, or priced by it (which promises the share "
        "of all products together).",
        choices=CHOICES,
    )
    calibration: str = setting(
        "static",
        "Thresholds of the guard: static, for the largest share of unsafe hours of any known quarter; or "
        "weekly, counted anew from labels that came a day late (service.renew, service.delay).",
        choices=CALIBRATIONS,
    )
    rule: str = setting(
        "strict",
        "From cases to a bound: the shrinkage bound with z = 1.645 and dispersion 8 (strict) or 1 and 4, the "
        "conservative rule, or the share that was seen.",
        choices=("strict", "shrinkage", "conservative", "plug_in"),
    )
    crossed: bool = setting(
        True,
        "Both halves of the calibration quarter fit the risk of the other and bear thresholds; false: odd "
        "weeks fit, even weeks bear.",
    )
    parts: list[str] = setting(
        list(PARTS),
        "What is measured: guard, ours under every constraint; binary, the paper's classifier with the "
        "ablations of its parts; baselines, the paper's and strong ones.",
        choices=PARTS,
        at_least_one="part",
    )
    delta: float = common.delta(0.05)
    thresholds: list[float] = common.thresholds(THRESHOLDS, at_least_one="threshold")
    penalties: list[float] = setting(
        [1.0, 3.0, 10.0, 30.0, 100.0, 300.0],
        "Penalties on unsafe amounts, one end-to-end network for each.",
        low=0,
        at_least_one="penalty",
    )


@dataclass
class ServiceConfig:
    """A guard in service through the validation quarter, hour by hour, instead of figure 2's methods."""

    methods: list[str] = setting(
        [],
        "Guards in service; none runs figure 2. The validation quarter should be the last one: "
        "data.order=[0,1,3,2].",
        choices=SERVICES,
    )
    renew: int = setting(168, "Hours between two renewals of the thresholds.", low=1)
    delay: int = setting(24, "Hours from a planned hour until its demand is known.", low=0)
    window: int | None = setting(
        8760, "Newest known hours that a renewal counts; null is all since the calibration quarter.", low=100
    )
    alpha: float = setting(0.05, "Probability of a false alarm of a monitor.", above=0, below=1)


@dataclass
class ProductionConfig(BaseConfig):
    """python run.py experiment=production r_t=1e-3 data=synthetic preset=laptop"""

    data: DataConfig = section(DataConfig)
    problem: ProblemConfig = section(ProblemConfig)
    model: ModelConfig = section(ModelConfig)
    training: TrainingConfig = section(TrainingConfig)
    evaluation: EvaluationConfig = section(EvaluationConfig)
    service: ServiceConfig = section(ServiceConfig)
    tailoring: AnchoredTailoringSettings = section(AnchoredTailoringSettings, later=True)
    score: ScoreConfig = section(ScoreConfig, later=True)

    def validate(self) -> None:
        super().validate()
        data, evaluation = self.data, self.evaluation
        if evaluation.choice == "priced" and evaluation.constraint != "pooled":
            raise ConfigError(
                f"evaluation.choice=priced promises the share of all products together: it needs "
                f"evaluation.constraint=pooled, not {evaluation.constraint}"
            )
        if data.source == "eia" and not data.path:
            raise ConfigError(
                "data.path is missing: data=eia needs data.path=/path/to/demand.csv.gz "
                "(docs/experiments/production.md has the format)"
            )
        if data.skip_quarters and data.source != "eia":
            raise ConfigError(
                f"data.skip_quarters={data.skip_quarters}: synthetic demand has four, none to leave out"
            )
        try:
            first_target(_ANY, data.lookback, data.lead, data.hours_per_quarter)
            check_order(data.order)
        except SafeframeError as error:
            raise ConfigError(f"data: {error}") from error
        self.problem.validate()
        for index, value in enumerate(evaluation.penalties):
            if value in evaluation.penalties[:index]:
                raise ConfigError(f"evaluation.penalties[{index}]={value} is there already: give each once")
        if evaluation.n_t is not None:
            require_range("evaluation.n_t", evaluation.n_t, high=data.hours_per_quarter)

    def fixed_radius(self) -> float | None:
        """The configured xi, or None where it is to be measured."""
        return common.fixed_radius(self.evaluation.xi)

    def inputs(self) -> dict[str, str]:
        return {"data.path": self.data.path} if self.data.source == "eia" and self.data.path else {}


SCHEMA = ProductionConfig
