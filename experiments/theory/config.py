"""Typed configuration of the theory experiment. Every part has a section; the truth is known in all of
them.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields

from experiments.support.config import BaseConfig, require_range
from experiments.support.errors import ConfigError


@dataclass
class Theorem1Config:
    """trials: draws of the internal test data. line: cases per state in 1-D; side_2, side_8: cells per axis
    in 2 and 8 dimensions (cases per state: side**d). worst: cases per state of the displaced grid in 1-D.
    """

    trials: int = 200
    line: int = 60
    side_2: int = 16
    side_8: int = 2
    worst: int = 400
    displaced: float = 0.3


@dataclass
class LeakConfig:
    """trials: draws. sides: cells per axis in 2-D (cases per state: side**2). features: random Fourier
    features of the trained classifier; ridges: its regularisation, weak to strong. fresh: held-out cases per
    state from which the radius is measured.
    """

    trials: int = 40
    sides: list[int] = field(default_factory=lambda: [8, 16, 24])
    features: int = 100
    ridges: list[float] = field(default_factory=lambda: [1e-4, 1e-1, 10.0])
    fresh: int = 2000


@dataclass
class Theorem2Config:
    """cases: random outputs per problem. penalties (beta) and perturbations (lambda): every pair is taken."""

    cases: int = 2000
    penalties: list[float] = field(default_factory=lambda: [0.3, 1.0, 3.0, 10.0, 100.0, 1000.0])
    perturbations: list[float] = field(default_factory=lambda: [1.0, 0.3, 0.1, 0.01, 0.001])


@dataclass
class Theorem3Config:
    """seeds: independent streams of cases. alphas are geometric from `largest` to `smallest`; cases: the most
    that a stream has in 1, 2 and 3 dimensions; queries: test points near the boundary.
    """

    seeds: int = 20
    largest: float = 0.1
    smallest: list[float] = field(default_factory=lambda: [3e-3, 3e-3, 1e-2])
    cases: list[int] = field(default_factory=lambda: [4096, 131072, 1048576])
    queries: int = 20000
    steps_per_doubling: int = 2


@dataclass
class CertificatesConfig:
    """trials: draws per n_t. repeats: Monte Carlo draws behind every failure rate; clusters: those of the
    cluster bounds. delta: allowed probability of failure. r_t: of the thresholds that are chosen.
    """

    trials: int = 1000
    repeats: int = 20000
    cluster_repeats: int = 1000
    delta: float = 0.1
    r_t: float = 0.01
    sizes: list[int] = field(
        default_factory=lambda: [100, 300, 1000, 3000, 10**4, 3 * 10**4, 10**5, 10**6, 10**7]
    )
    library_cases: int = 5000
    library_repeats: int = 100


@dataclass
class CoverageConfig:
    """cases: internal test cases and training cases each. fresh: cases that every share is counted on.
    epsilon, delta: of the guard. repeats: draws of held-out cases behind the failure rate of its certificate.
    """

    cases: int = 10000
    fresh: int = 20000
    epsilon: float = 0.01
    delta: float = 0.05
    r_t: float = 0.01
    steps: int = 400
    repeats: int = 200


@dataclass
class SensitivityConfig:
    """trials: draws of the internal test data per setting. n_t: cases of each where it is not what varies."""

    trials: int = 200
    n_t: int = 20000
    r_t: float = 0.01
    episodes: int = 4000
    horizon: int = 200


@dataclass
class QualityConfig:
    """trials: draws. side: cells per axis in 2-D; n_t = side**2 per state."""

    trials: int = 40
    side: int = 20


@dataclass
class TheoryConfig(BaseConfig):
    """python run.py experiment=theory seed=5"""

    theorem_1: Theorem1Config = field(default_factory=Theorem1Config)
    leak: LeakConfig = field(default_factory=LeakConfig)
    theorem_2: Theorem2Config = field(default_factory=Theorem2Config)
    theorem_3: Theorem3Config = field(default_factory=Theorem3Config)
    certificates: CertificatesConfig = field(default_factory=CertificatesConfig)
    coverage: CoverageConfig = field(default_factory=CoverageConfig)
    sensitivity: SensitivityConfig = field(default_factory=SensitivityConfig)
    quality: QualityConfig = field(default_factory=QualityConfig)

    def validate(self) -> None:
        super().validate()
        for part in fields(self):
            section = getattr(self, part.name)
            if (
                not part.name.islower()
                or not hasattr(section, "__dataclass_fields__")
                or part.name == "tracking"
            ):
                continue
            for item in fields(section):
                key, value = f"{part.name}.{item.name}", getattr(section, item.name)
                if isinstance(value, list) and not value:
                    raise ConfigError(f"{key} must hold at least one number")
                for one in value if isinstance(value, list) else [value]:
                    require_range(key, one, low=1 if isinstance(one, int) else 1e-12)
        for key in ("certificates.delta", "certificates.r_t", "coverage.epsilon", "coverage.delta",
                    "coverage.r_t", "sensitivity.r_t", "theorem_3.largest"):  # fmt: skip
            section, name = key.split(".")
            require_range(key, getattr(getattr(self, section), name), high=0.999)
        three = self.theorem_3
        if len(three.cases) != 3 or len(three.smallest) != 3:
            raise ConfigError(
                "theorem_3.cases and theorem_3.smallest must hold three numbers each: n_y = 1, 2, 3"
            )
        if max(three.smallest) >= three.largest:
            raise ConfigError(f"theorem_3.smallest={three.smallest} must lie below largest={three.largest}")
        for key, value in (("theorem_1.side_2", self.theorem_1.side_2), ("quality.side", self.quality.side),
                           *(("leak.sides", side) for side in self.leak.sides)):  # fmt: skip
            require_range(key, value, low=2, high=60)
        require_range("theorem_1.side_8", self.theorem_1.side_8, low=2, high=2)


SCHEMA = TheoryConfig
