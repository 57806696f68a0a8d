"""From evidence (margins, labels, scores of internal test cases) to the thresholds of a SafetyGuard."""

from __future__ import annotations

import warnings
from collections.abc import Hashable

import numpy as np

from safeframe.certificates.cases import bonferroni
from safeframe.guard.certifying import certified
from safeframe.guard.evidence import Evidence, split_for_certificate, split_groups
from safeframe.guard.pricing import PricedRuling
from safeframe.guard.report import GuardCalibration
from safeframe.guard.ruling import GroupRuling
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
        SafeframeError: where a group lacks a class or cases, scores are missing for event "selected", or no
            case may calibrate.
    """
    usable = usable_evidence(evidence, settings)
    fresh: dict[Hashable, Evidence] = {}
    if settings.delta is not None:
        choosing, certifying = split_for_certificate(usable, settings.seed)
        usable, fresh = usable.subset(choosing), split_groups(usable.subset(certifying), settings)
    rulings: dict[Hashable, AnyRuling] = {}
    for key, part in split_groups(usable, settings).items():
        try:
            rulings[key] = _ruling(part, settings, key)
        except SafeframeError as error:
            raise SafeframeError(f"internal test data, group {key!r}: {error}") from error
    levels = sorted(set(settings.threshold))
    by_group: dict[Hashable, list[GuardCalibration]] = {}
    for key, ruling in rulings.items():
        if settings.delta is None:
            by_group[key] = [ruling.calibration(r_t) for r_t in levels]
            continue
        if key not in fresh:
            raise SafeframeError(f"group {key!r} has no held-out case left for its certificate")
        delta = bonferroni(settings.delta, len(levels) * len(rulings))
        choose = isinstance(settings.rule, Certified)
        if isinstance(ruling, PricedRuling):
            by_group[key] = ruling.certified(fresh[key], levels, delta, choose)
        else:
            by_group[key] = certified(ruling, fresh[key], levels, delta, choose)
    order = dict.fromkeys(settings.threshold)
    return rulings, {r_t: {key: found[levels.index(r_t)] for key, found in by_group.items()} for r_t in order}


def _ruling(part: Evidence, settings: GuardSettings, key: Hashable) -> AnyRuling:
    if isinstance(settings.choice, Priced):
        return PricedRuling(part, settings, key)
    return GroupRuling(part, settings, key)
