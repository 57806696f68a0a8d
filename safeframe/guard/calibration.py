"""From evidence (margins, labels, scores of internal test cases) to the thresholds of a SafetyGuard."""

from __future__ import annotations

import warnings
from collections.abc import Hashable
from dataclasses import replace

import numpy as np

from safeframe.certificates.cases import bonferroni
from safeframe.groups.scales import GroupScales
from safeframe.guard.certifying import certified, certified_jointly
from safeframe.guard.evidence import Evidence, split_for_certificate, split_for_scale, split_groups
from safeframe.guard.pricing import PricedRuling
from safeframe.guard.report import GuardCalibration
from safeframe.guard.ruling import GroupRuling, join
from safeframe.guard.settings import Certified, GuardSettings, Priced
from safeframe.types import SafeframeError

AnyRuling = GroupRuling | PricedRuling


class TrainedOnWarning(UserWarning):
    """Cases that the classifier was trained on are left out of a calibration without a given radius."""


def usable_evidence(evidence: Evidence, settings: GuardSettings) -> Evidence:
    """The cases that may calibrate: all with a radius > 0, else the held-out ones, with a warning.

    Args:
        evidence: of all internal test cases.
        settings: of the guard.

    Returns:
        The evidence without cases that were trained on, where these may not count.

    Raises:
        SafeframeError: if the radius is 0 or measured and every case was trained on.
    """
    trained, rule = evidence.trained_on, settings.rule
    radius = "measured" if isinstance(rule, Certified) else rule.radius
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


def on_scale(evidence: Evidence, scales: GroupScales, settings: GuardSettings) -> Evidence:
    """Evidence with calibrated probabilities; their log odds are the margins where groups share a threshold.

    Args:
        evidence: of cases that the scales were not fitted on.
        scales: of risk.
        settings: of the guard.

    Returns:
        The same cases.
    """
    margin, score = evidence.margin, evidence.score
    if score is not None:  # absent candidates may have any margin
        margin = np.where(score == -np.inf, np.inf, margin)
    risk = scales.probability(margin, evidence.group)
    margin = scales.log_odds(margin, evidence.group) if settings.on_common_scale else evidence.margin
    return replace(evidence, margin=margin, risk=risk)


def _scales(evidence: Evidence, settings: GuardSettings) -> tuple[GroupScales, Evidence]:
    """Scales of risk, and the cases of the evidence that they were not fitted on, on them."""
    fitting, counted = split_for_scale(evidence, settings)
    if settings.scale not in ("logistic", "isotonic"):  # given, fitted elsewhere
        fitting = counted = np.arange(len(evidence.margin))
    margin, label, row = evidence.subset(fitting).flat
    group = None if evidence.group is None else evidence.group[fitting][row]
    try:
        scales = GroupScales(settings.scale, np.asarray(margin, np.float64), label, group)
    except SafeframeError as error:
        raise SafeframeError(
            f"scale of risk, from {len(fitting)} of {len(evidence.margin)} internal test cases: {error}"
        ) from error
    return scales, on_scale(evidence.subset(counted), scales, settings)


def calibrate_evidence(
    evidence: Evidence, settings: GuardSettings
) -> tuple[dict[Hashable, AnyRuling], dict[float, dict[Hashable, GuardCalibration]]]:
    """Calibrate all thresholds of a guard, per group.

    Args:
        evidence: of all internal test cases.
        settings: of the guard.

    Returns:
        Two dictionaries, the rulings by group, and the calibrations by r_t and group.

    Raises:
        SafeframeError: where a group lacks a class or cases, scores are missing for event "selected", no case
            may calibrate or fit a scale, or a certificate is asked of event "accepted" with candidates.
    """
    if settings.delta is not None and evidence.score is not None and settings.event == "accepted":
        raise SafeframeError(
            "event is 'accepted', but a certificate needs independent cases, and the candidates of one "
            "measurement are none: take event='selected' (the default with candidates), which is certified "
            "per measurement, or no certificate (certificate_delta=None and another rule than Certified)"
        )
    usable = usable_evidence(evidence, settings)
    apart: Evidence | None = None
    if settings.delta is not None:
        choosing, certifying = split_for_certificate(usable, settings.seed)
        usable, apart = usable.subset(choosing), usable.subset(certifying)
    scales = None
    if settings.scaled:
        scales, usable = _scales(usable, settings)
        apart = None if apart is None else on_scale(apart, scales, settings)
    fresh = {} if apart is None else split_groups(apart, settings)
    lost: set[Hashable] = set()
    if evidence.group is not None and usable.group is not None:
        lost = set(evidence.group.tolist()) - set(usable.group.tolist())
    if settings.constraint is not None and lost:
        raise SafeframeError(
            f"group {min(lost, key=str)!r} has no held-out case left to choose a threshold from: join it "
            "with another group, or give more cases"
        )
    rulings: dict[Hashable, AnyRuling] = {}
    for key, part in split_groups(usable, settings).items():
        try:
            rulings[key] = _ruling(part, settings, key)
        except SafeframeError as error:
            raise SafeframeError(f"internal test data, group {key!r}: {error}") from error
    levels = sorted(set(settings.threshold))
    certifies = isinstance(settings.rule, Certified)
    gated = {key: one for key, one in rulings.items() if isinstance(one, GroupRuling)}
    for one in gated.values():
        one.scales = scales
    if settings.constraint == "worst_group":
        join(gated, levels)
    for key in rulings:
        if settings.delta is not None and key not in fresh:
            raise SafeframeError(f"group {key!r} has no held-out case left for its certificate")
    by_group: dict[Hashable, list[GuardCalibration]] = {}
    if settings.delta is not None and certifies and settings.constraint == "worst_group":
        by_group = certified_jointly(gated, fresh, levels, bonferroni(settings.delta, len(levels)))
    for key, ruling in rulings.items() if not by_group else ():
        if settings.delta is None:
            by_group[key] = [ruling.calibration(r_t) for r_t in levels]
            continue
        delta = bonferroni(settings.delta, len(levels) * len(rulings))
        if isinstance(ruling, PricedRuling):
            by_group[key] = ruling.certified(fresh[key], levels, delta, certifies)
        else:
            by_group[key] = certified(ruling, fresh[key], levels, delta, certifies)
    order = dict.fromkeys(settings.threshold)
    return rulings, {r_t: {key: found[levels.index(r_t)] for key, found in by_group.items()} for r_t in order}


def _ruling(part: Evidence, settings: GuardSettings, key: Hashable) -> AnyRuling:
    if isinstance(settings.choice, Priced):
        return PricedRuling(part, settings, key)
    return GroupRuling(part, settings, key)
