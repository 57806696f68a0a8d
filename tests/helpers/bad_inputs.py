"""Random calls of the public names of safeframe in which one argument, or a part of one, is bad.

Each must raise SafeframeError, or answer as for a good one: a bound is a number that is no NaN, and what
could not be judged takes the default action.
"""

from __future__ import annotations

import math
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import safeframe as sf

N, G, C = 60, 30, 3
DEFAULT = -99.0
harmless = False
"""Whether nothing is spoilt: then every call must be answered."""
SCALARS: list[Any] = [
    math.nan, math.inf, -math.inf, -1.0, 0.0, 1.0, 2.0, 1e308, -1e-300, None, "0.1", "", b"x", [], [0.1], {},
    (0.3, 0.1), True, 1 + 2j, object(), np.nan, np.float32(0.1), np.array([0.1, 0.2]), np.int8(-5), 10**400,
]  # fmt: skip
"""What stands in the place of a number or a setting."""


def spoilt(rng: np.random.Generator, good: Any) -> Any:
    """Something bad in the place of a good argument."""
    if harmless:
        return good
    if not isinstance(good, np.ndarray) or rng.random() < 0.25:
        return SCALARS[int(rng.integers(len(SCALARS)))]
    bad, at = good.copy(), int(rng.integers(good.size))
    kind = int(rng.integers(12))
    if kind < 3 and bad.dtype.kind == "f":
        bad.reshape(-1)[at] = (math.nan, math.inf, -math.inf)[kind]
    elif kind == 3:
        bad = bad[: int(rng.integers(len(bad)))]
    elif kind == 4:
        bad = bad.reshape(-1, 1, *bad.shape[1:])
    elif kind == 5:
        bad = bad.reshape(-1)[0]
    elif kind == 6:
        bad = bad.astype(object)
        bad.reshape(-1)[at] = SCALARS[int(rng.integers(len(SCALARS)))]
    elif kind == 7:
        bad = bad.astype(str)
    elif kind == 8:
        bad = bad.astype(complex)
    elif kind == 9:
        bad = np.full_like(bad, int(rng.integers(-2, 4)))
    elif kind == 10:
        bad = bad.astype(np.float32) * np.float32(1e38)
    else:
        bad = bad.tolist()
    return bad


def cases(rng: np.random.Generator) -> dict[str, np.ndarray]:
    label = (rng.random(N) < 0.4).astype(int)
    label[:2] = 0, 1
    return {"margin": rng.normal(size=N) + label, "label": label, "group": rng.integers(0, 2, N)}


def candidates(rng: np.random.Generator) -> dict[str, np.ndarray]:
    label = (rng.random((G, C)) < 0.4).astype(int)
    label[0, :2] = 0, 1
    return {"margin": rng.normal(size=(G, C)) + label, "score": rng.normal(size=(G, C)), "label": label}


def called(rng: np.random.Generator, call: Callable[..., Any], good: dict[str, Any]) -> Any:
    """A call with one bad argument; now and then with none, so that what comes after it is reached."""
    if rng.random() < 0.3:
        return call(**good)
    name = list(good)[int(rng.integers(len(good)))]
    return call(**(good | {name: spoilt(rng, good[name])}))


def sane(*values: Any, most: float = math.inf) -> None:
    """Whether answers are numbers of at least 0 that are no NaN."""
    for value in values:
        array = np.asarray(value, float)
        assert not np.isnan(array).any(), f"NaN in {array}"
        assert (array >= 0).all(), f"below 0: {array}"
        assert (array <= most).all(), f"above {most}: {array}"


def risk_curve(rng: np.random.Generator) -> None:
    data = cases(rng)
    good = {
        "margin": data["margin"],
        "label": data["label"],
        "prior": 0.3,
        "radius": 0.1,
        "form": "tight",
        "slack": 0.01,
    }
    curve = called(rng, sf.RiskCurve, good)
    found = curve.largest_threshold(0.2)
    sane(found.bound, found.acceptance, curve.bound([-1.0, 0.0, 1.0]))


def query(rng: np.random.Generator) -> None:
    data = cases(rng)
    curve = sf.RiskCurve(data["margin"], data["label"])
    method = ("bound", "acceptance", "level", "largest_thresholds", "largest_threshold")[int(rng.integers(5))]
    good: Any = 0.3 if method == "largest_threshold" else np.linspace(0.05, 1.0, 7)
    found = getattr(curve, method)(spoilt(rng, good))
    sane(found.bound if method.startswith("largest") else found)


def grouped(rng: np.random.Generator) -> None:
    good = cases(rng) | {"prior": 0.3, "radius": 0.1}
    found = called(rng, sf.GroupedRiskCurve, good).largest_threshold(0.2)
    sane([one.bound for one in found.values()])


def selected(rng: np.random.Generator) -> None:
    good = candidates(rng) | {"radius": 0.1, "slack": 0.01, "odds": 1.5}
    curve = called(rng, sf.SelectedRiskCurve, good)
    sane(curve.bound([-1.0, 0.0, np.inf]), curve.largest_threshold(0.2).bound)


def priced(rng: np.random.Generator) -> None:
    data = candidates(rng)
    good = {
        "margin": data["margin"],
        "reward": data["score"],
        "label": data["label"],
        "r_t": 0.1,
        "default_reward": 0.0,
        "gate": 1.0,
        "radius": 0.1,
        "slack": 0.01,
        "odds": 1.5,
    }
    scale = sf.fit_risk_scale("logistic", data["margin"].ravel(), data["label"].ravel())
    curve = called(rng, lambda **named: sf.PricedRiskCurve(scale=scale, **named), good)
    sane(curve.bound([0.0, 1.0, 100.0]))


def rule(rng: np.random.Generator) -> None:
    data = cases(rng)
    good = {
        "margin": data["margin"],
        "label": data["label"],
        "odd": np.arange(N) % 2 == 1,
        "event": "accepted",
        "prior": 0.3,
        "block": data["group"],
    }
    found = called(rng, lambda **named: sf.ThresholdRule(rule=sf.Conservative(), **named), good).calibrate(
        0.2
    )
    sane(found.threshold.bound, most=1.0)


def rules(rng: np.random.Generator) -> None:
    kind = (sf.PlugIn, sf.Conservative, sf.Certified, sf.Shrinkage, sf.Priced, sf.CoverageSettings)[
        int(rng.integers(6))
    ]
    good = {"epsilon": 0.1} if kind is sf.CoverageSettings else {}
    fields = [name for name in kind.__dataclass_fields__ if kind.__dataclass_fields__[name].init]
    kind(**good)
    if not harmless:
        kind(**good | {fields[int(rng.integers(len(fields)))]: spoilt(rng, 0.1)})


def scale(rng: np.random.Generator) -> None:
    data = cases(rng)
    kind = ("logistic", "isotonic")[int(rng.integers(2))]
    found = called(
        rng,
        sf.fit_risk_scale,
        {"kind": kind, "score": data["margin"], "label": data["label"], "weight": np.ones(N)},
    )
    sane(found.probability(np.linspace(-3, 3, 5)), most=1.0)


def margins(rng: np.random.Generator) -> None:
    found = sf.margin_of(spoilt(rng, rng.normal(size=(N, 2))))
    assert not np.isnan(np.asarray(found, float)).any()


def model(y: np.ndarray) -> np.ndarray:
    return np.asarray(y)[:, 0] * 2.0


def classifier(y: np.ndarray) -> np.ndarray:
    return np.asarray(y)[:, 0]


def data_of(rng: np.random.Generator) -> dict[str, np.ndarray]:
    y = rng.normal(size=(400, 2))
    return {"measurement": y, "label": (y[:, 0] + 0.3 * rng.normal(size=400) > 0.5).astype(int)}


def guard_of(rng: np.random.Generator) -> sf.SafetyGuard:
    guard = sf.SafetyGuard(model, classifier, sf.InternalTestData(**data_of(rng)), 0.1, DEFAULT)
    guard.calibrate()
    return guard


def internal_data(rng: np.random.Generator) -> None:
    called(rng, sf.InternalTestData, data_of(rng))


def guard(rng: np.random.Generator) -> None:
    good = {
        "threshold": 0.1,
        "default_action": DEFAULT,
        "prior": 0.3,
        "rule": sf.Conservative(),
        "certificate_delta": None,
        "event": "accepted",
        "batch_size": 100,
    }
    made = called(
        rng,
        lambda **named: sf.SafetyGuard(model, classifier, sf.InternalTestData(**data_of(rng)), **named),
        good,
    )
    made.calibrate()
    done = made.act(rng.normal(size=(5, 2)))
    sane(done.bound, most=1.0)


def act(rng: np.random.Generator) -> None:
    """A bad measurement, or a model or classifier that gives bad answers: an error, or the default action."""
    made, y = guard_of(rng), rng.normal(size=(7, 2))
    where = int(rng.integers(3))
    if where == 0:
        y = spoilt(rng, y)
    else:
        bad = spoilt(rng, rng.normal(size=7))

        def wrong(_: Any) -> Any:
            return bad

        first, second = (wrong, classifier) if where == 1 else (model, wrong)
        made = sf.SafetyGuard(
            first, second, sf.InternalTestData(**data_of(rng)), 0.1, DEFAULT, rule=sf.PlugIn()
        )
        calibrated = guard_of(rng)
        made.__dict__.update({k: v for k, v in calibrated.__dict__.items() if k != "callables"})
    done = made.act(y)
    accepted, margin = np.asarray(done.accepted, bool), np.asarray(done.margin, float)
    sane(np.asarray(done.bound, float)[accepted], most=1.0)
    assert not np.isnan(margin[accepted]).any(), "accepted without a margin"
    assert (margin[accepted] < np.asarray(done.tau, float)[accepted]).all(), "accepted above the threshold"
    for action, taken in zip(np.asarray(done.action, object), accepted, strict=True):
        assert taken or np.all(np.asarray(action, complex) == DEFAULT), (
            f"{action} instead of the default action"
        )


def monitor(rng: np.random.Generator) -> None:
    made = called(rng, sf.RiskMonitor, {"r_t": 0.1, "alpha": 0.05})
    made.update(spoilt(rng, np.zeros(6, int)))


def budget(rng: np.random.Generator) -> None:
    own = guard_of(rng)
    good = {"r_t": 0.1, "reserve": 5.0, "per": "accepted", "late": 0, "recover_after": 7, "strictest": 0.01}
    made = called(rng, lambda **named: sf.LongRunBudget(own, **named), good)
    done = made.act(rng.normal(size=(4, 2)))
    made.learn(spoilt(rng, np.array(done.ids)), np.zeros(4, int))


def log(rng: np.random.Generator) -> None:
    with tempfile.TemporaryDirectory() as folder, sf.GuardLog(Path(folder) / "log", guard_of(rng)) as made:
        good = {
            "measurement": rng.normal(size=(4, 2)),
            "ids": np.arange(4),
            "time": 5.0,
            "audit": np.zeros(4, bool),
            "r_t": 0.1,
        }
        before = len(made)
        try:
            done = called(rng, made.act, good)
        except sf.SafeframeError:
            assert len(made) == before, "an error, but something was recorded"
            raise
        called(
            rng, made.label, {"ids": np.array(done.ids), "unsafe": np.zeros(len(done.ids), int), "time": 9e9}
        )
        made.check()


CALLS: dict[str, Callable[[np.random.Generator], None]] = {
    one.__name__: one
    for one in (
        risk_curve, query, grouped, selected, priced, rule, rules, scale, margins, internal_data, guard, act,
        monitor, budget, log,
    )
}  # fmt: skip


def tried(name: str, rng: np.random.Generator) -> tuple[str, str]:
    """What becomes of one call: "refused", "answered" or "wrong", and why."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            CALLS[name](rng)
        except sf.SafeframeError as error:
            return ("refused", str(error)) if str(error).strip() else ("wrong", "an error without a message")
        except Exception as error:  # noqa: BLE001 (any other one is a finding)
            return "wrong", f"{type(error).__name__}: {error}"
    return "answered", ""
