"""From evidence (margins, labels, scores of internal test cases) to the thresholds of a SafetyGuard."""

from __future__ import annotations

import math
import warnings
from collections.abc import Hashable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from safeframe.certificates.cases import (
    Certificate,
    bonferroni,
    cases_needed,
    certify,
    certify_posterior,
    first_failure,
)
from safeframe.guard.report import EVERYTHING, GuardCalibration
from safeframe.guard.settings import GuardSettings
from safeframe.informativeness import block_measured_radius
from safeframe.risk_curve import RiskCurve
from safeframe.selected_risk import SelectedRiskCurve
from safeframe.types import BoolArray, FloatArray, IntArray, LabelArray, SafeframeError

_GRID = 40


class TrainedOnWarning(UserWarning):
    """Cases that the classifier was trained on are left out of a calibration without a given radius."""


@dataclass(frozen=True)
class Evidence:
    """What the models said about the n internal test cases.

    Attributes:
        margin: (n,) margins f_1 - f_0, or (n, c) with candidates.
        label: (n,) or (n, c) 0 safe, 1 unsafe.
        score: (n, c) with candidates, -inf where absent; else None.
        group: (n,) ids, or None.
        trained_on: (n,) bool, whether the classifier was trained on the case.
    """

    margin: FloatArray
    label: LabelArray
    score: FloatArray | None
    group: np.ndarray | None
    trained_on: BoolArray

    def subset(self, index: np.ndarray) -> Evidence:
        """Some of the rows.

        Args:
            index: (k,) positions.

        Returns:
            The evidence of those rows.
        """
        return Evidence(
            self.margin[index],
            self.label[index],
            None if self.score is None else self.score[index],
            None if self.group is None else self.group[index],
            self.trained_on[index],
        )

    @property
    def flat(self) -> tuple[FloatArray, IntArray, IntArray]:
        """(margin, label, row) of every case that is present, one-dimensional."""
        present = np.ones(self.margin.shape, bool) if self.score is None else self.score != -np.inf
        rows = np.broadcast_to(
            np.arange(len(self.margin)).reshape(-1, *[1] * (self.margin.ndim - 1)), self.margin.shape
        )
        return self.margin[present], self.label[present], rows[present]


class GroupCurves:
    """The curves of one group of evidence, and the threshold they give.

    Args:
        evidence: of the cases of the group.
        settings: of the guard.
        radius: xi >= 0, in logit units.
        group: id of the group.

    Raises:
        SafeframeError: where a class is absent, values are not finite, or the settings' prior lacks the
            group.
    """

    def __init__(self, evidence: Evidence, settings: GuardSettings, radius: float, group: Hashable) -> None:
        margin, label, _ = evidence.flat
        prior = settings.prior_of(group)
        self.group, self.radius, self.n_t = group, radius, len(evidence.margin)
        self.prior_given = prior is not None
        self.accepted = RiskCurve(margin, label, prior, radius, settings.form)
        self.selected = (
            None
            if evidence.score is None
            else SelectedRiskCurve(evidence.margin, evidence.score, evidence.label, radius)
        )
        self.ruling = self.accepted if settings.calibrate == "accepted" else self.selected

    def calibration(self, r_t: float, tau: float | None = None) -> GuardCalibration:
        """Calibrate r_t by the ruling curve, or report on a given tau.

        Args:
            r_t: threshold on the probability, in (0, 1].
            tau: threshold on the margin; None: the largest whose bound is at most r_t.

        Returns:
            What that threshold accepts, and the bounds on its risks.

        Raises:
            SafeframeError: on an r_t outside (0, 1].
        """
        assert self.ruling is not None
        if tau is None:
            tau = self.ruling.largest_threshold(r_t).tau
        counted, unsafe = self.ruling.counts(tau)
        acceptance = float(self.accepted.acceptance(tau))
        return GuardCalibration(
            r_t=r_t,
            group=self.group,
            tau=float(tau),
            feasible=tau > -math.inf,
            accepted_risk=float(self.accepted.bound(tau)),
            selected_risk=None if self.selected is None else float(self.selected.bound(tau)),
            acceptance=acceptance,
            selection_rate=acceptance if self.selected is None else float(self.selected.selection_rate(tau)),
            n_accepted=int(counted),
            n_unsafe_accepted=int(unsafe),
            n_t=self.n_t,
            radius=self.radius,
            cases_needed=cases_needed(r_t, 0.05),
        )


def usable_evidence(evidence: Evidence, radius: float | Literal["measured"]) -> Evidence:
    """The cases that may calibrate: all with a radius > 0, else the held-out ones, with a warning.

    Args:
        evidence: of all internal test cases.
        radius: xi >= 0 in logit units, or "measured".

    Returns:
        The evidence without cases that were trained on, where these may not count.

    Raises:
        SafeframeError: if the radius is 0 or measured and every case was trained on.
    """
    trained = evidence.trained_on
    if not trained.any() or (radius != "measured" and radius > 0.0):
        return evidence
    if trained.all():
        raise SafeframeError(
            f"all {len(trained)} internal test cases were trained on and radius is {radius!r}: the bound is "
            "a guess. Give held-out cases, or a radius > 0 that covers the difference to fresh data"
        )
    warnings.warn(
        f"{int(trained.sum())} of {len(trained)} internal test cases were trained on; with radius {radius!r} "
        f"only the {int((~trained).sum())} held-out ones are used",
        TrainedOnWarning,
        stacklevel=3,
    )
    return evidence.subset(np.flatnonzero(~trained))


def radius_of(evidence: Evidence, settings: GuardSettings) -> float:
    """The radius as a number: given, or measured over consecutive blocks of the held-out cases.

    Args:
        evidence: of the cases that may calibrate, in the order in which they arose.
        settings: radius, and the number of blocks where it is measured.

    Returns:
        xi, in logit units.

    Raises:
        SafeframeError: where no block can be compared for one of the classes.
    """
    if settings.radius != "measured":
        return settings.radius
    margin, label, row = evidence.flat
    block = row * settings.blocks // len(evidence.margin)
    return block_measured_radius(margin, label, block).radius


def split_for_certificate(evidence: Evidence, seed: int) -> tuple[Evidence, Evidence]:
    """A random half of the held-out rows certifies, all the rest chooses.

    Args:
        evidence: of the cases that may calibrate.
        seed: of the random half.

    Returns:
        Two parts, the cases that choose and the cases that certify.

    Raises:
        SafeframeError: with fewer than two held-out cases.
    """
    held_out = np.flatnonzero(~evidence.trained_on)
    if len(held_out) < 2:
        raise SafeframeError("a certificate needs held-out internal test cases; all of them were trained on")
    certifying = np.sort(np.random.default_rng(seed).permutation(held_out)[: len(held_out) // 2])
    choosing = np.setdiff1d(np.arange(len(evidence.margin)), certifying)
    return evidence.subset(choosing), evidence.subset(certifying)


def split_groups(evidence: Evidence, settings: GuardSettings) -> dict[Hashable, Evidence]:
    """The evidence per group.

    Args:
        evidence: of any cases.
        settings: whether the guard is group-conditional.

    Returns:
        One part per group id, or all under the one key ``EVERYTHING``.

    Raises:
        SafeframeError: where the guard is group-conditional and the evidence has no groups.
    """
    if not settings.group_conditional:
        return {EVERYTHING: evidence}
    if evidence.group is None:
        raise SafeframeError("group_conditional is set, but the internal test data have no groups")
    keys = np.unique(evidence.group).tolist()
    return {key: evidence.subset(np.flatnonzero(evidence.group == key)) for key in keys}


def certified(
    found: GuardCalibration,
    curves: GroupCurves,
    fresh: Evidence,
    settings: GuardSettings,
    statements: int,
) -> GuardCalibration:
    """Add a certificate from fresh cases; with rule "certificate" also choose tau by fixed-sequence testing.

    The unit is the measurement, so with candidates the certified event is P(unsafe | selected).

    Args:
        found: the plug-in calibration of one r_t.
        curves: of the cases that chose it.
        fresh: evidence of cases that had no part in that.
        settings: of the guard, with its ``certificate_delta``.
        statements: how many certificates shall hold together (Bonferroni).

    Returns:
        The calibration with its certificate; with rule "certificate" also with its own tau, -inf where none
            is certified.
    """
    assert settings.certificate_delta is not None
    delta = bonferroni(settings.certificate_delta, statements)
    if settings.rule == "plug-in":
        return replace(found, certificate=_certificate(found.tau, curves, fresh, delta))
    sequence = _sequence(curves, found.r_t, len(fresh.margin))
    passed = [_certificate(tau, curves, fresh, delta).value <= found.r_t for tau in sequence]
    length = first_failure(np.array(passed, dtype=bool))
    tau = float(sequence[length - 1]) if length else -math.inf
    certificate = _certificate(tau, curves, fresh, delta)
    assumed = certificate.assumed.replace("the threshold was fixed", "the sequence of thresholds was fixed")
    certificate = replace(certificate, value=found.r_t if length else 1.0, assumed=assumed)
    return replace(
        curves.calibration(found.r_t, tau),
        certificate=certificate,
        cases_needed=cases_needed(found.r_t, delta),
    )


def _counts(tau: float, fresh: Evidence) -> tuple[int, int, int, int]:
    """(unsafe chosen, unsafe, safe chosen, safe) among fresh measurements.

    Chosen means accepted, or with candidates selected if any.
    """
    if fresh.score is None:
        chosen, unsafe = fresh.margin < tau, fresh.label == 1
    else:
        score = np.where(fresh.margin < tau, fresh.score, -np.inf)
        row, best = np.arange(len(score)), np.argmax(score, axis=1)
        chosen, unsafe = score[row, best] > -np.inf, fresh.label[row, best] == 1
    return (
        int((chosen & unsafe).sum()),
        int(unsafe.sum()),
        int((chosen & ~unsafe).sum()),
        int((~unsafe).sum()),
    )


def _certificate(tau: float, curves: GroupCurves, fresh: Evidence, delta: float) -> Certificate:
    unsafe_chosen, unsafe, safe_chosen, safe = _counts(tau, fresh)
    if curves.selected is not None:
        return certify(unsafe_chosen + safe_chosen, unsafe_chosen, delta, "P(unsafe | selected)")
    if curves.prior_given:
        return certify_posterior(unsafe_chosen, unsafe, safe_chosen, safe, curves.accepted.prior, delta)
    return certify(unsafe_chosen + safe_chosen, unsafe_chosen, delta)


def _sequence(curves: GroupCurves, r_t: float, n_fresh: int) -> FloatArray:
    """Thresholds to test, from the choosing cases: from where the test is likeliest to pass, upwards."""
    from scipy import stats

    curve = curves.accepted if curves.selected is None else curves.selected
    grid = np.append(curves.accepted.quantile(np.linspace(0.0, 1.0, _GRID)), np.inf)
    counted, unsafe = curve.counts(grid)
    scale = n_fresh / curves.n_t
    expected = stats.binom.cdf(np.ceil(unsafe * scale), np.floor(counted * scale), r_t)
    return grid[int(np.argmin(expected)) :]


def calibrate_evidence(
    evidence: Evidence, settings: GuardSettings
) -> tuple[dict[Hashable, GroupCurves], dict[float, dict[Hashable, GuardCalibration]]]:
    """Calibrate all thresholds of a guard, per group.

    Args:
        evidence: of all internal test cases.
        settings: of the guard.

    Returns:
        Two dictionaries, the curves by group, and the calibrations by r_t and group.

    Raises:
        SafeframeError: where a group lacks a class or cases, scores are missing for "selected", or no case
            may calibrate.
    """
    if settings.calibrate == "selected" and evidence.score is None:
        raise SafeframeError("calibrate='selected' needs a model that returns (candidates, score)")
    usable = usable_evidence(evidence, settings.radius)
    fresh: dict[Hashable, Evidence] = {}
    if settings.certificate_delta is not None:
        usable, certifying = split_for_certificate(usable, settings.seed)
        fresh = split_groups(certifying, settings)
    radius = radius_of(usable, settings)
    curves: dict[Hashable, GroupCurves] = {}
    for key, part in split_groups(usable, settings).items():
        try:
            curves[key] = GroupCurves(part, settings, radius, key)
        except SafeframeError as error:
            raise SafeframeError(f"internal test data, group {key!r}: {error}") from error
    calibrations = {
        r: {key: curve.calibration(r) for key, curve in curves.items()} for r in settings.threshold
    }
    if settings.certificate_delta is not None:
        for found in calibrations.values():
            for key, curve in curves.items():
                if key not in fresh:
                    raise SafeframeError(f"group {key!r} has no held-out case left for its certificate")
                together = len(settings.threshold) * len(curves)
                found[key] = certified(found[key], curve, fresh[key], settings, together)
    return curves, calibrations
