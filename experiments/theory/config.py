"""Typed configuration of the theory experiment. Every part has a section; the truth is known in all of
them.
"""

from __future__ import annotations

from dataclasses import dataclass

from experiments.support.config import BaseConfig
from experiments.support.errors import ConfigError
from experiments.support.settings import section, setting

_DIMENSIONS = 3  # of theorem 3


@dataclass
class Theorem1Config:
    """Theorem 1: the conservative bounds hold for radii from K zeta on; how far below it do they still?"""

    trials: int = setting(200, "Draws of the internal test data for each dimension and kind of data.", low=1)
    line: int = setting(60, "Internal test cases of each state in one dimension.", low=1)
    side_2: int = setting(
        16, "Cells along each axis in two dimensions; each state has side_2 squared cases.", low=2, high=60
    )
    side_8: int = setting(
        2,
        "Cells along each axis in eight dimensions; each state has side_8 to the eighth cases.",
        low=2,
        high=2,
    )
    worst: int = setting(
        400, "Cases of each state, in one dimension, of the grid that is moved as badly as can be.", low=1
    )
    displaced: float = setting(
        0.3, "Longest move of a displaced grid, in lengths of the unit cube's edge.", above=0
    )


@dataclass
class LeakConfig:
    """A classifier that was trained on its own internal test data: what the bounds then are worth."""

    trials: int = setting(40, "Draws of the internal test data for each number of cases.", low=1)
    sides: list[int] = setting(
        [8, 16, 24],
        "Cells along each axis of the plane, one run of trials for each; each state has side squared cases.",
        low=2,
        high=60,
        at_least_one="number of cells",
    )
    features: int = setting(100, "Random Fourier features of the classifier.", low=1)
    ridges: list[float] = setting(
        [1e-4, 1e-1, 10.0],
        "Weights of the classifier's ridge penalty, weak (it learns cases by heart) to strong.",
        above=0,
        at_least_one="penalty",
    )
    fresh: int = setting(2000, "Held-out unsafe cases that the radius xi is measured on.", low=1)


@dataclass
class Theorem2Config:
    """Theorem 2: the approximate loss tends to that of the action taken as beta grows and lambda falls."""

    cases: int = setting(2000, "Random outputs of the classifier for each problem.", low=1)
    penalties: list[float] = setting(
        [0.3, 1.0, 3.0, 10.0, 100.0, 1000.0],
        "Penalties beta on broken constraints.",
        above=0,
        at_least_one="penalty",
    )
    perturbations: list[float] = setting(
        [1.0, 0.3, 0.1, 0.01, 0.001],
        "Weights lambda of the loss in the perturbed minimisation.",
        above=0,
        at_least_one="weight",
    )


@dataclass
class Theorem3Config:
    """Theorem 3: the internal test cases that error probabilities of at most alpha need, by dimension n_y."""

    seeds: int = setting(20, "Independent streams of cases.", low=1)
    largest: float = setting(0.1, "The largest of ten alphas, which are in equal ratios.", above=0, below=1)
    smallest: list[float] = setting(
        [3e-3, 3e-3, 1e-2],
        "The smallest alpha in one, two and three dimensions.",
        above=0,
        at_least_one="alpha",
    )
    cases: list[int] = setting(
        [4096, 131072, 1048576],
        "The most cases that a stream has in one, two and three dimensions.",
        low=1,
        at_least_one="number of cases",
    )
    queries: int = setting(20000, "Points near the boundary on which errors are counted.", low=1)
    steps_per_doubling: int = setting(
        2, "Sizes at which errors are measured while the number of cases doubles.", low=1
    )


@dataclass
class CertificatesConfig:
    """Finite-sample certificates on a known law: how tight, how often they fail, what they accept."""

    trials: int = setting(1000, "Draws of the internal test data for each of the sizes.", low=1)
    repeats: int = setting(20000, "Draws behind the failure rate of a certificate.", low=1)
    cluster_repeats: int = setting(
        1000, "Draws behind the failure rate of a certificate for dependent cases, which takes longer.", low=1
    )
    delta: float = setting(0.1, "Probability delta with which a certificate may fail.", above=0, below=1)
    r_t: float = setting(
        0.01, "Risk threshold r_t that acceptance thresholds are chosen for.", above=0, below=1
    )
    sizes: list[int] = setting(
        [100, 300, 1000, 3000, 10**4, 3 * 10**4, 10**5, 10**6, 10**7],
        "Numbers n_t of internal test cases.",
        low=1,
        at_least_one="number of cases",
    )
    library_cases: int = setting(
        5000, "Cases, give or take a fifth, of a calibration that other libraries do as well.", low=1
    )
    library_repeats: int = setting(100, "Calibrations that are compared with each other library.", low=1)


@dataclass
class CoverageConfig:
    """The coverage guard, which refuses inputs unlike the internal test data, where inputs change."""

    cases: int = setting(10000, "Training cases of the classifier, and as many internal test cases.", low=1)
    fresh: int = setting(20000, "Fresh cases that every share is counted on.", low=1)
    epsilon: float = setting(
        0.01, "Share of inputs like the internal test data that may be refused.", above=0, below=1
    )
    delta: float = setting(
        0.05, "Probability with which the guard may refuse more than epsilon.", above=0, below=1
    )
    r_t: float = setting(0.01, "Risk threshold r_t of the safety guard.", above=0, below=1)
    steps: int = setting(400, "Training steps of the classifier.", low=1)
    repeats: int = setting(200, "Draws of held-out cases behind the failure rate of the certificate.", low=1)


@dataclass
class SensitivityConfig:
    """What the guarantee is sensitive to: prior, labels, radius, data, many constraints, dependent steps."""

    trials: int = setting(200, "Draws of the internal test data for each value that is tried.", low=1)
    n_t: int = setting(20000, "Internal test cases n_t of a draw, where they are not what varies.", low=1)
    r_t: float = setting(
        0.01, "Risk threshold r_t that acceptance thresholds are chosen for.", above=0, below=1
    )
    episodes: int = setting(4000, "Episodes for each correlation between their steps.", low=1)
    horizon: int = setting(200, "Steps of an episode.", low=1)


@dataclass
class QualityConfig:
    """As many internal test cases, diverse or repetitive."""

    trials: int = setting(40, "Draws of each kind of internal test data.", low=1)
    side: int = setting(
        20, "Cells along each axis of the plane; each state has side squared cases.", low=2, high=60
    )


@dataclass
class PromisesConfig:
    """Which guarantee a guard gives: broken promises, counted on small draws of known laws."""

    repeats: int = setting(
        300, "Draws of the internal test data for each way of use and number of cases.", low=2
    )
    sizes: list[int] = setting(
        [50, 200, 1000], "Numbers n_t of internal test cases.", low=10, at_least_one="number of cases"
    )
    r_t: list[float] = setting(
        [1e-4, 1e-3, 1e-2, 0.1], "Risk thresholds r_t.", threshold=True, at_least_one="threshold"
    )
    large: int = setting(20000, "Internal test cases of the one large draw, of the plain law.", low=10)
    large_r_t: float = setting(1e-3, "Risk threshold r_t of the large draw.", threshold=True)
    delta: float = setting(
        0.05, "Probability delta with which the certified rule may fail.", above=0, below=1
    )
    epsilon: float = setting(
        0.05, "Share of inputs that the coverage test may refuse, where there is one.", above=0, below=1
    )
    points: int = setting(
        4096, "Measurements on which the risk of covered cases is computed, a power of 2.", low=2
    )


@dataclass
class MonitorConfig:
    """Labels until a monitor sees that the risk is above r_t, and how often it is wrong."""

    streams: int = setting(200, "Streams of labels for each r_t and risk.", low=2)
    false_streams: int = setting(
        2000,
        "Streams whose risk is r_t, on which false alarms are counted; MAPIE sees as many as of others.",
        low=2,
    )
    r_t: list[float] = setting(
        [1e-3, 1e-2, 0.1], "Risk thresholds r_t.", threshold=True, at_least_one="threshold"
    )
    multiples: list[float] = setting(
        [1.0, 1.5, 2.0, 3.0, 10.0],
        "Risks of the streams, in r_t; those of 1 or more are left out.",
        above=0,
        at_least_one="risk",
    )
    alpha: float = setting(0.05, "Probability alpha of a false alarm, ever.", above=0, below=1)
    horizon: float = setting(100.0, "Labels of a stream, in 1 / r_t.", above=0)
    updates: int = setting(20000, "Updates behind the time of one.", low=1)
    histories: list[int] = setting(
        [1000, 10000], "Labels counted before the update that is timed.", low=1, at_least_one="number"
    )


@dataclass
class ShrinkageConfig:
    """The shrinkage bound: broken promises where its model is right, where it is wrong, and under drift."""

    repeats: int = setting(
        200, "Draws of the internal test data for each state of the model and number of cases.", low=2
    )
    sizes: list[int] = setting(
        [50, 200, 1000], "Numbers n_t of internal test cases.", low=10, at_least_one="number of cases"
    )
    r_t: list[float] = setting(
        [1e-4, 1e-3, 1e-2, 0.1], "Risk thresholds r_t.", threshold=True, at_least_one="threshold"
    )
    delta: float = setting(
        0.05, "Probability delta with which the certified rule may fail.", above=0, below=1
    )


@dataclass
class GroupConstraintsConfig:
    """One constraint over several groups: per group, pooled, and for the worst of them."""

    repeats: int = setting(
        100, "Draws of the internal test data for each kind of groups and number of cases.", low=2
    )
    sizes: list[int] = setting(
        [200, 1000, 5000], "Numbers n_t of internal test cases.", low=40, at_least_one="number of cases"
    )
    r_t: list[float] = setting([1e-2, 0.1], "Risk thresholds r_t.", threshold=True, at_least_one="threshold")
    delta: float = setting(
        0.05, "Probability delta with which the certified rule may fail.", above=0, below=1
    )


@dataclass
class PricedConfig:
    """Risk priced instead of gated: reward at equal risk, and the promise counted, on a known law."""

    repeats: int = setting(
        20, "Draws of the internal test data for each classifier and number of candidates.", low=2
    )
    cases: int = setting(5000, "Measurements of the internal test data of a draw.", low=10)
    candidates: list[int] = setting(
        [2, 4, 16], "Numbers of candidates of a measurement.", low=1, at_least_one="number of candidates"
    )
    r_t: list[float] = setting(
        [3e-3, 1e-2, 3e-2], "Risk thresholds r_t.", threshold=True, at_least_one="threshold"
    )
    sample: int = setting(5000, "Measurements on which true reward and risk are computed.", low=10)
    delta: float = setting(
        0.05, "Probability delta with which the certified rule may fail.", above=0, below=1
    )


@dataclass
class TailoringConfig:
    """Tailored training on a law that is known, by classifiers of three capacities."""

    repeats: int = setting(10, "Draws of the training cases, with a classifier trained on each.", low=2)
    cases: list[int] = setting(
        [1000, 16000], "Training cases of a draw.", low=100, at_least_one="number of cases"
    )
    r_t: list[float] = setting([1e-3, 1e-2], "Risk thresholds r_t.", threshold=True, at_least_one="threshold")
    warm_steps: int = setting(600, "Updates by cross-entropy before.", low=2)
    steps: int = setting(60, "Updates of every method after that.", low=4)
    inputs: int = setting(256, "Cases of an update that are decided on.", low=1)
    tests: int = setting(
        1024, "Internal test cases that carry the bound in an update, from the other half.", low=2
    )
    alpha: float = setting(
        0.1, "Probability with which a checkpoint that is no better may be taken.", above=0, below=1
    )
    swaps: int = setting(199, "Random swaps of a comparison of checkpoints, at most.", low=1)
    why_cases: int = setting(4000, "Training cases where one cause of harm at a time is taken away.", low=100)
    judge: int = setting(30_000, "Cases of the sample that true acceptance is computed on.", low=1000)


@dataclass
class TheoryConfig(BaseConfig):
    """python run.py experiment=theory seed=5"""

    theorem_1: Theorem1Config = section(Theorem1Config)
    leak: LeakConfig = section(LeakConfig)
    theorem_2: Theorem2Config = section(Theorem2Config)
    theorem_3: Theorem3Config = section(Theorem3Config)
    certificates: CertificatesConfig = section(CertificatesConfig)
    coverage: CoverageConfig = section(CoverageConfig)
    sensitivity: SensitivityConfig = section(SensitivityConfig)
    quality: QualityConfig = section(QualityConfig)
    promises: PromisesConfig = section(PromisesConfig)
    monitor: MonitorConfig = section(MonitorConfig)
    shrinkage: ShrinkageConfig = section(ShrinkageConfig)
    group_constraints: GroupConstraintsConfig = section(GroupConstraintsConfig)
    priced: PricedConfig = section(PricedConfig)
    tailoring: TailoringConfig = section(TailoringConfig)

    def validate(self) -> None:
        super().validate()
        three = self.theorem_3
        if len(three.cases) != _DIMENSIONS or len(three.smallest) != _DIMENSIONS:
            raise ConfigError(
                "theorem_3.cases and theorem_3.smallest must hold three numbers each: n_y = 1, 2, 3"
            )
        if max(three.smallest) >= three.largest:
            raise ConfigError(f"theorem_3.smallest={three.smallest} must lie below largest={three.largest}")


SCHEMA = TheoryConfig
