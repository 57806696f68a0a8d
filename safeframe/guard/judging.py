"""What a calibration begins with: all cases seen by the models, and coverage fitted on them."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import numpy as np

from safeframe.coverage.coverage_guard import CoverageGuard, fit_coverage, flat_features
from safeframe.guard.calibration import usable_evidence
from safeframe.guard.calling import Callables
from safeframe.guard.evidence import Evidence, split_for_certificate
from safeframe.guard.looked import Looked
from safeframe.guard.settings import GuardSettings
from safeframe.inputs import length
from safeframe.types import IntArray, SafeframeError


class UnjudgedWarning(UserWarning):
    """Internal test cases that cannot be judged are left out of a calibration."""


def look_with_bar(callables: Callables, measurement: Any) -> Looked:
    """What the models say of all cases, with a bar after two seconds where they are passed in parts.

    Args:
        callables: model and classifier.
        measurement: the cases.

    Returns:
        Actions, scores, margins and errors.

    Raises:
        SafeframeError: on outputs of wrong shapes or types.
    """

    def some(few: Looked) -> None:
        if few.action is None:  # a model that fails on every case would be called twice for each
            judged(few)

    if callables.batch_size is None:
        return callables.look(measurement, where_raised=some)
    from tqdm import tqdm

    with tqdm(total=length(measurement), desc="calibrate", delay=2.0) as bar:
        return callables.look(measurement, lambda done: bar.update(done - bar.n), some)


def judged(looked: Looked) -> IntArray:
    """Which cases can be judged; a warning names the others.

    Args:
        looked: what the models said.

    Returns:
        (k,) their positions.

    Raises:
        SafeframeError: if there are none.
    """
    if looked.error is None:
        return np.arange(len(looked.margin))
    bad = np.flatnonzero(looked.error != "")
    if len(bad) == len(looked.margin):
        raise SafeframeError(f"no internal test case can be judged; the first: {looked.error[0]}")
    warnings.warn(
        f"{len(bad)} of {len(looked.margin)} internal test cases cannot be judged and are left out; the "
        f"first, case {bad[0]}: {looked.error[bad[0]]}",
        UnjudgedWarning,
        stacklevel=3,
    )
    return np.flatnonzero(looked.error == "")


def coverage_of(features: Any, evidence: Evidence, settings: GuardSettings) -> tuple[CoverageGuard, Evidence]:
    """The test for unlike inputs, fitted without the cases that certify.

    Args:
        features: (n, ...) of all cases.
        evidence: of the same cases.
        settings: of the guard, with its coverage.

    Returns:
        The coverage guard, and the evidence with what it says of the cases where some certify.

    Raises:
        SafeframeError: on another number of rows, too few cases, or features that are not finite.
    """
    assert settings.coverage is not None
    table, trained_on = flat_features(features), evidence.trained_on
    if len(table) != len(evidence.margin):
        raise SafeframeError(
            f"coverage: {len(table)} rows of features for {len(evidence.margin)} internal test cases"
        )
    if settings.delta is None:
        return fit_coverage(table, trained_on, settings.coverage, settings.seed), evidence
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the calibration itself warns of cases that are left out
        usable = usable_evidence(replace(evidence, block=np.arange(len(table))), settings)
    assert usable.block is not None
    certifying = usable.block[split_for_certificate(usable, settings.seed)[1]]
    choosing = np.setdiff1d(np.arange(len(table)), certifying)
    found = fit_coverage(table[choosing], trained_on[choosing], settings.coverage, settings.seed)
    found.rows = table
    return found, replace(evidence, covered=found.covers(table))
