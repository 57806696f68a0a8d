"""A monitor of the risk in service: labels until its alarm, and how often the alarm is false.

Streams of independent labels whose risk is a multiple of r_t. Beside ours, where it is installed, MAPIE's
`RiskMonitoring` (1.6) on the same streams: a time-uniform lower limit by an empirical Bernstein bound
(Podkopaev & Ramdas, arXiv 2110.06177), which holds for any bounded loss. It is asked twice:

- "MAPIE": as a user calls it, with test_level = alpha and the threshold r_t given. Half of test_level is kept
  for a reference set that is then not there, and its bound halves the rest once more.
- "MAPIE at alpha": with test_level = 4 alpha, so that its one-sided bound has level alpha as ours.

RiskMonitoring computes its bounds for the whole history at every update, so that a stream label by label
would take the square of its length. The bound at a label depends on the labels before it only and can rise at
unsafe labels only; so its own function is asked at these, until it is above r_t, which is exactly the label
at which RiskMonitoring would say so if it were asked after each (`agrees` holds it to the class itself). Both
are thus looked at after every label.
"""

from __future__ import annotations

import time
import warnings
from importlib.util import find_spec
from typing import Any

import numpy as np
import pandas as pd

from experiments.theory.config import MonitorConfig
from safeframe.certificates.cases import clopper_pearson_lower, clopper_pearson_upper
from safeframe.service.monitor import RiskMonitor

OURS, AS_CALLED, MATCHED = "betting", "MAPIE", "MAPIE at alpha"
COLUMNS = ["method", "r_t", "multiple", "risk", "alpha", "labels", "streams", "alarms", "share", "share_low",
           "share_high", "median", "median_low", "median_high", "quarter", "three_quarters",
           "limit_above"]  # fmt: skip


def available() -> dict[str, bool]:
    """Whether MAPIE (with what it needs) can be imported here."""
    return {"mapie": all(find_spec(one) is not None for one in ("mapie", "sklearn"))}


def levels(alpha: float) -> dict[str, float]:
    """MAPIE's test_level under each of its names; none where it is not installed."""
    return {AS_CALLED: alpha, MATCHED: min(4.0 * alpha, 0.999)} if available()["mapie"] else {}


def run(config: MonitorConfig, rng: np.random.Generator) -> pd.DataFrame:
    """One row per method, r_t and risk."""
    rows: list[dict[str, Any]] = []
    for r_t in config.r_t:
        for multiple in config.multiples:
            if r_t * multiple < 1.0:
                rows += cell(config, rng.spawn(1)[0], r_t, multiple)
    return pd.DataFrame(rows, columns=COLUMNS)


def cell(
    config: MonitorConfig, rng: np.random.Generator, r_t: float, multiple: float
) -> list[dict[str, Any]]:
    """The rows of one r_t and risk."""
    labels, risk = round(config.horizon / r_t), r_t * multiple
    streams = max(config.streams, config.false_streams) if multiple == 1.0 else config.streams
    theirs = levels(config.alpha)
    found: dict[str, list[int | None]] = {name: [] for name in (OURS, *theirs)}
    above = 0
    for stream in range(streams):
        unsafe = np.flatnonzero(rng.random(labels) < risk)
        mine = np.zeros(labels, dtype=np.int8)
        mine[unsafe] = 1
        monitor = RiskMonitor(r_t, config.alpha)
        monitor.update(mine)
        found[OURS].append(monitor.alarm_at)
        above += monitor.lower > risk
        if stream < config.streams:
            for name, level in theirs.items():
                found[name].append(mapie_alarm(unsafe, r_t, level))
    where = {"r_t": r_t, "multiple": multiple, "risk": risk, "alpha": config.alpha, "labels": labels}
    return [
        {"method": name, **where, **counted(at), "limit_above": above if name == OURS else np.nan}
        for name, at in found.items()
    ]


def counted(found: list[int | None]) -> dict[str, float]:
    """Share of streams with an alarm, and quantiles of the labels until it (inf where it did not come in the
    stream), the median with the exact 95 % interval of order statistics.
    """
    from scipy import stats

    at = np.sort([np.inf if one is None else one for one in found])
    n, alarms = len(at), int(np.isfinite(at).sum())
    low = int(stats.binom.ppf(0.025, n, 0.5))
    quantile = {name: at[min(int(q * n), n - 1)] for name, q in
                (("median", 0.5), ("quarter", 0.25), ("three_quarters", 0.75))}  # fmt: skip
    return {
        "streams": n,
        "alarms": alarms,
        "share": alarms / n,
        "share_low": clopper_pearson_lower(alarms, n, 0.025),
        "share_high": clopper_pearson_upper(alarms, n, 0.025),
        **quantile,
        "median_low": at[max(low - 1, 0)],
        "median_high": at[min(n - low, n - 1)],
    }


def mapie_alarm(unsafe: np.ndarray, r_t: float, test_level: float) -> int | None:
    """Labels after which MAPIE's lower limit is above r_t; None where it never is.

    Args:
        unsafe: (k,) ascending positions of the unsafe labels.
        r_t: MAPIE's threshold.
        test_level: of MAPIE.
    """
    from mapie.exchangeability_testing.bounds import GammaExponentialMixtureBound

    online = test_level / 2.0
    bound = GammaExponentialMixtureBound(v_opt=1, c=1, alpha_opt=online / 2.0)
    spread = _spread(unsafe)
    needed = 0.0  # the bound grows with the spread, so an earlier one is too small for a later label
    for k, (position, v) in enumerate(zip(unsafe.tolist(), spread.tolist(), strict=True), 1):
        n = position + 1
        if k - r_t * n <= needed:
            continue
        needed = float(bound(v=v, alpha=online / 2.0))
        if k / n - needed / n > r_t:
            return n
    return None


def _spread(unsafe: np.ndarray) -> np.ndarray:
    """MAPIE's spread at each unsafe label: the labels' squared distances to the mean before each, summed."""
    n = int(unsafe[-1]) + 1 if len(unsafe) else 0
    labels = np.zeros(n)
    labels[unsafe] = 1.0
    before = np.append(0.5, (np.cumsum(labels) / np.arange(1, n + 1))[:-1]) if n else labels
    return np.cumsum((labels - before) ** 2)[unsafe]


def risk_monitoring(r_t: float, test_level: float) -> Any:
    """MAPIE's class, with the risk P(label = 1)."""
    from mapie.exchangeability_testing import RiskMonitoring
    from mapie.risk_control import BinaryRisk

    unsafe = BinaryRisk(
        risk_occurrence=lambda y_true, y_pred: y_true == 1,
        risk_condition=lambda y_true, y_pred: y_pred == 1,
        higher_is_better=False,
    )
    return RiskMonitoring(unsafe, test_level=test_level, threshold=r_t, warn=False)


def agrees(labels: np.ndarray, r_t: float, test_level: float) -> bool:
    """Whether `mapie_alarm` finds the first label at which the class itself detects a shift."""
    monitor = risk_monitoring(r_t, test_level)
    monitor.update(labels, np.ones(len(labels), dtype=int))
    over = np.flatnonzero(monitor.online_risk_lower_bound_sequence_history > r_t)
    return mapie_alarm(np.flatnonzero(labels), r_t, test_level) == (int(over[0]) + 1 if over.size else None)


def times(config: MonitorConfig, rng: np.random.Generator) -> pd.DataFrame:
    """One row per method and history: CPU time of an update with one label, at the smallest r_t and as many
    unsafe labels as it allows.
    """
    r_t, rows = min(config.r_t), []
    for history in config.histories:
        past = (rng.random(history) < r_t).astype(int)
        monitor = RiskMonitor(r_t, config.alpha)
        monitor.update(past)
        new = (rng.random(config.updates) < r_t).astype(int).tolist()
        start = time.process_time_ns()
        for label in new:
            monitor.update(label)
        rows.append({"method": OURS, "history": history, "updates": config.updates, "r_t": r_t,
                     "ns": (time.process_time_ns() - start) / config.updates})  # fmt: skip
        if not available()["mapie"]:
            continue
        few = 3
        other = risk_monitoring(r_t, config.alpha)
        other.update(past, np.ones(history, dtype=int))
        start = time.process_time_ns()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for label in new[:few]:
                other.update(np.array([label]), np.ones(1, dtype=int))
        rows.append({"method": AS_CALLED, "history": history, "updates": few, "r_t": r_t,
                     "ns": (time.process_time_ns() - start) / few})  # fmt: skip
    return pd.DataFrame(rows, columns=["method", "history", "updates", "r_t", "ns"])
