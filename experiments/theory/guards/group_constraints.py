"""One constraint over several groups, counted: per group, pooled, and for the worst of them.

Draws of internal test data of groups with known laws are calibrated by the guard's own code, the scale of
risk fitted on a third of them. Kinds of groups:

- unequal: 60, 35 and 5 % of the cases, the smaller the noisier.
- two: one large group, and one of two cases.
- none: 90 % of the README's law, and 10 % that are hardly ever unsafe: mostly without an unsafe case.

What is promised: P(unsafe | accepted) <= r_t in every group (per group, worst group), or over all that is
accepted (pooled). The table has both, whatever is promised. A calibration that stops with an error (a group
without an unsafe case, or without a case that chooses) accepts nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from experiments.theory.config import GroupConstraintsConfig
from experiments.theory.guards.promises import broken_promises, jobs
from experiments.theory.laws.threshold_laws import EDGE, ThresholdLaw, of_risk, unsafe_probability
from safeframe.groups.constraint import Constraint
from safeframe.guard.calibration import calibrate_evidence
from safeframe.guard.evidence import Evidence
from safeframe.guard.report import EVERYTHING
from safeframe.guard.settings import GuardRule, GuardSettings
from safeframe.shrinkage import Shrinkage
from safeframe.types import SafeframeError

RULES = ("plug-in", "conservative", "certified", "shrinkage")
CONSTRAINTS: tuple[Constraint, ...] = ("per_group", "pooled", "worst_group")


@dataclass(frozen=True)
class Group:
    """A group of cases.

    Attributes:
        share: of the cases; or a number of cases, where it is at least 1.
        noise: of its law.
        edge: of y_0, between safe and unsafe cases.
    """

    share: float
    noise: float = 0.3
    edge: float = EDGE

    def risk(self, y: np.ndarray) -> np.ndarray:
        """P(unsafe | y_0)."""
        return unsafe_probability(y - self.edge + EDGE, self.noise)


KINDS: dict[str, dict[str, Group]] = {
    "unequal": {"large": Group(0.6), "middle": Group(0.35, 0.45), "small": Group(0.05, 0.6)},
    "two": {"large": Group(1.0), "two": Group(2, 0.6)},
    "none": {"large": Group(0.9), "quiet": Group(0.1, edge=3.0)},
}
LAWS = {kind: {key: of_risk(group.risk) for key, group in groups.items()} for kind, groups in KINDS.items()}


def run(config: GroupConstraintsConfig, rng: np.random.Generator) -> pd.DataFrame:
    """One row per kind, constraint, rule, n and r_t."""
    rows: list[dict[str, Any]] = []
    for kind in KINDS:
        own = rng.spawn(1)[0]
        for n in config.sizes:
            rows += counted(kind, config, own, n)
    return pd.DataFrame(rows)


def sizes(kind: str, n: int) -> dict[str, int]:
    """Cases of each group."""
    groups = KINDS[kind]
    fixed = sum(int(group.share) for group in groups.values() if group.share > 1)
    return {
        key: int(group.share) if group.share > 1 else round(group.share * (n - fixed))
        for key, group in groups.items()
    }


def drawn(kind: str, rng: np.random.Generator, n: int) -> Evidence:
    """Cases of the groups, in random order."""
    group = rng.permutation(np.repeat(list(KINDS[kind]), list(sizes(kind, n).values())))
    y = rng.normal(size=len(group))
    risk = np.empty(len(group))
    for key, one in KINDS[kind].items():
        risk[group == key] = one.risk(y[group == key])
    label = (rng.random(len(group)) < risk).astype(np.int64)
    return Evidence(y - EDGE, label, None, group, np.zeros(len(group), bool))


def accepted(
    evidence: Evidence,
    rule: GuardRule,
    constraint: Constraint,
    levels: list[float],
    laws: dict[str, ThresholdLaw],
) -> list[dict[str, float]] | None:
    """For each r_t the least margin that each group rejects; None where the calibration stops."""
    settings = GuardSettings(tuple(levels), rule, constraint=constraint)
    try:
        rulings, made = calibrate_evidence(evidence, settings)
    except SafeframeError:
        return None
    scales = next(iter(rulings.values())).scales
    found = []
    for r_t in levels:
        taus = {}
        for key, law in laws.items():
            tau = made[r_t][EVERYTHING if constraint == "pooled" else key].tau
            if constraint != "per_group" and np.isfinite(tau):
                assert scales is not None
                above = scales.log_odds(law.tau, np.full(len(law.tau), key)) >= tau
                tau = float(law.tau[np.argmax(above)]) if above.any() else np.inf
            taus[key] = float(tau)
        found.append(taus)
    return found


def outcome(kind: str, n: int, taus: dict[str, float]) -> tuple[float, float, float]:
    """(largest risk of a group, risk over all that is accepted, acceptance) of thresholds."""
    counts = sizes(kind, n)
    total = sum(counts.values())
    masses = {key: law.masses(np.array(taus[key])) for key, law in LAWS[kind].items() if taus[key] > -np.inf}
    unsafe = sum(counts[key] / total * float(u) for key, (u, _) in masses.items())
    safe = sum(counts[key] / total * float(s) for key, (_, s) in masses.items())
    worst = max((float(u) / max(float(u + s), 1e-300) for u, s in masses.values()), default=0.0)
    return worst, unsafe / max(unsafe + safe, 1e-300), unsafe + safe


def counted(
    kind: str, config: GroupConstraintsConfig, rng: np.random.Generator, n: int
) -> list[dict[str, Any]]:
    """One row per constraint, rule and r_t."""
    levels = sorted(config.r_t)
    every = [*jobs(levels, config.delta), (Shrinkage(), [levels])]
    found = np.zeros((config.repeats, len(CONSTRAINTS), len(RULES), len(levels), 3))
    stopped = np.zeros(found.shape[:4], bool)
    for repeat in range(config.repeats):
        evidence = drawn(kind, rng, n)
        for i, constraint in enumerate(CONSTRAINTS):
            for j, (rule, parts) in enumerate(every):
                at = 0
                for part in parts:
                    taus = accepted(evidence, rule, constraint, part, LAWS[kind])
                    for k in range(len(part)):
                        if taus is None:
                            stopped[repeat, i, j, at] = True
                        else:
                            found[repeat, i, j, at] = outcome(kind, n, taus[k])
                        at += 1
    rows = []
    for i, constraint in enumerate(CONSTRAINTS):
        for j, rule in enumerate(RULES):
            for k, r_t in enumerate(levels):
                worst, pooled, acceptance = found[:, i, j, k].T
                promised = (pooled if constraint == "pooled" else worst) / r_t
                rows.append(
                    {"kind": kind, "constraint": constraint, "rule": rule, "n": n, "r_t": r_t}
                    | broken_promises(promised, config.delta if rule == "certified" else np.nan)
                    | {
                        "worst_ratio": float(worst.mean() / r_t),
                        "pooled_ratio": float(pooled.mean() / r_t),
                        "acceptance": float(acceptance.mean()),
                        "refused": int((acceptance == 0.0).sum()),
                        "stopped": int(stopped[:, i, j, k].sum()),
                    }
                )
    return rows
