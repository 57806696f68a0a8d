"""Certificates of a SafetyGuard, from cases that had no part in the choice of its thresholds."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from safeframe.certificates.cases import (
    Certificate,
    cases_needed,
    certify,
    certify_posterior,
    first_failure,
)
from safeframe.guard.evidence import Evidence
from safeframe.guard.report import GuardCalibration
from safeframe.guard.ruling import GroupRuling, Steps
from safeframe.risk_curve import RiskCurve
from safeframe.types import FloatArray

_GRID = 40


def certified(
    ruling: GroupRuling, fresh: Evidence, levels: Sequence[float], delta: float, choose: bool
) -> list[GuardCalibration]:
    """Calibrations of one group with certificates from fresh cases.

    The unit is the measurement, so with candidates the certified event is P(unsafe | selected). Where there
    is a test for unlike inputs, only covered cases count, and the event says so.

    Args:
        ruling: of the cases that chose.
        fresh: evidence of cases that had no part in that.
        levels: ascending r_t.
        delta: allowed probability of failure of each certificate.
        choose: also choose tau by fixed-sequence testing; the ruling is then that of the certified
            thresholds.

    Returns:
        One calibration per level.
    """
    if not choose:
        found = [ruling.calibration(r_t) for r_t in levels]
        return [replace(one, certificate=certificate(one.tau, ruling, fresh, delta)) for one in found]
    chosen = []
    for r_t in levels:
        sequence = _sequence([ruling], r_t, [len(fresh.margin)])
        passed = [certificate(tau, ruling, fresh, delta).value <= r_t for tau in sequence]
        length = first_failure(np.array(passed, dtype=bool))
        chosen.append(float(sequence[length - 1]) if length else -np.inf)
    taus = np.maximum.accumulate(chosen)  # what holds at a stricter r_t holds at a looser one
    ruling.ruling = Steps(levels, taus.tolist())
    return _reports(ruling, fresh, levels, taus.tolist(), delta)


def _reports(
    ruling: GroupRuling, fresh: Evidence, levels: Sequence[float], taus: list[float], delta: float
) -> list[GuardCalibration]:
    """Calibrations at thresholds that were certified."""
    found = []
    for r_t, tau in zip(levels, taus, strict=True):
        made = certificate(tau, ruling, fresh, delta)
        assumed = made.assumed.replace("the threshold was fixed", "the sequence of thresholds was fixed")
        made = replace(made, value=r_t if tau > -np.inf else 1.0, assumed=assumed)
        one = ruling.calibration(r_t, tau)
        found.append(replace(one, certificate=made, event=made.event, cases_needed=cases_needed(r_t, delta)))
    return found


def certified_jointly(
    rulings: Mapping[Hashable, GroupRuling],
    fresh: Mapping[Hashable, Evidence],
    levels: Sequence[float],
    delta: float,
) -> dict[Hashable, list[GuardCalibration]]:
    """One threshold for several groups by fixed-sequence testing: within r_t in every group.

    The hypothesis of each test is that *some* group's risk is above r_t. It is rejected where each group's
    own test at level delta rejects (an intersection-union test, Berger (1982), doi:10.2307/2683790): the
    probability of a false rejection is that of one group's test, at most delta, and is not shared out.

    Args:
        rulings: of the groups on a common scale; they are then those of the certified thresholds.
        fresh: of each group, evidence of cases that had no part in that.
        levels: ascending r_t.
        delta: allowed probability that a threshold's promise fails in any group.

    Returns:
        By group, one calibration per level.
    """
    sizes = [len(fresh[key].margin) for key in rulings]
    chosen = []
    for r_t in levels:
        sequence = _sequence(list(rulings.values()), r_t, sizes)
        passed = [
            all(certificate(tau, one, fresh[key], delta).value <= r_t for key, one in rulings.items())
            for tau in sequence
        ]
        length = first_failure(np.array(passed, dtype=bool))
        chosen.append(float(sequence[length - 1]) if length else -np.inf)
    taus = np.maximum.accumulate(chosen).tolist()
    found = {}
    for key, one in rulings.items():
        one.ruling = Steps(levels, taus)
        found[key] = _reports(one, fresh[key], levels, taus, delta)
    return found


def _counts(tau: float, fresh: Evidence) -> tuple[int, int, int, int]:
    """(unsafe chosen, unsafe, safe chosen, safe) among fresh measurements.

    Chosen means covered and accepted, or with candidates selected if any.
    """
    if fresh.score is None:
        chosen, unsafe = fresh.margin < tau, fresh.label == 1
    else:
        score = np.where(fresh.margin < tau, fresh.score, -np.inf)
        row, best = np.arange(len(score)), np.argmax(score, axis=1)
        chosen, unsafe = score[row, best] > -np.inf, fresh.label[row, best] == 1
    if fresh.covered is not None:
        chosen = chosen & fresh.covered
    return (
        int((chosen & unsafe).sum()),
        int(unsafe.sum()),
        int((chosen & ~unsafe).sum()),
        int((~unsafe).sum()),
    )


def certificate(tau: float, ruling: GroupRuling, fresh: Evidence, delta: float) -> Certificate:
    """An upper limit on the risk at one threshold.

    Args:
        tau: threshold on the margin, chosen without the fresh cases.
        ruling: of the cases that chose.
        fresh: evidence of cases that had no part in that.
        delta: allowed probability of failure, in (0, 1).

    Returns:
        The certificate, which names its event.
    """
    unsafe_chosen, unsafe, safe_chosen, safe = _counts(tau, fresh)
    event = "selected" if ruling.candidates else "accepted"
    event = f"P(unsafe | {event}{'' if fresh.covered is None else ' and covered'})"
    if ruling.prior.given and not ruling.candidates:
        made = certify_posterior(unsafe_chosen, unsafe, safe_chosen, safe, ruling.prior.high, delta)
        return replace(made, event=event)
    return certify(unsafe_chosen + safe_chosen, unsafe_chosen, delta, event)


def _sequence(rulings: Sequence[GroupRuling], r_t: float, n_fresh: Sequence[int]) -> FloatArray:
    """Thresholds to test, from the choosing cases: from where the tests are likeliest to pass, upwards."""
    from scipy import stats

    shares = np.linspace(0.0, 1.0, _GRID)
    quantiles = []
    for ruling in rulings:
        assert isinstance(ruling.accepted, RiskCurve)
        quantiles.append(ruling.accepted.quantile(shares))
    grid = np.append(np.unique(quantiles) if len(quantiles) > 1 else quantiles[0], np.inf)
    expected = np.zeros(len(grid))
    for ruling, fresh in zip(rulings, n_fresh, strict=True):
        counts = ruling.rule.plain_selected.counts if ruling.candidates else ruling.accepted.counts
        counted, unsafe = counts(grid)
        scale = fresh / ruling.n_t
        own = stats.binom.cdf(np.ceil(unsafe * scale), np.floor(counted * scale), r_t)
        expected = np.maximum(expected, own)  # each of them must pass
    return grid[int(np.argmin(expected)) :]
