"""SafetyGuard: what an engineer wraps around any model.

    guard = SafetyGuard(model, classifier, internal_test, threshold=1e-3, default_action=0.0)
    guard.calibrate()
    guarded = guard.act(measurement)
    guarded.action, guarded.accepted, guarded.explain(0)

No configuration system is involved; NumPy in gives NumPy out, torch in gives torch out.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from safeframe.chance_constraint import validate_threshold
from safeframe.conservative_testing import PosteriorForm, check_logits
from safeframe.coverage.coverage_guard import (
    CoverageGuard,
    CoverageSettings,
    Features,
    fit_coverage,
    flat_features,
)
from safeframe.guard.calibration import Evidence, GroupCurves, calibrate_evidence
from safeframe.guard.files import call, like, load_guard, save_guard, to_numpy
from safeframe.guard.report import EVERYTHING, GuardCalibration, GuardedActions
from safeframe.guard.settings import GuardSettings, Mode, ThresholdRule
from safeframe.internal_test import InternalTestData
from safeframe.margins import margin_of
from safeframe.optimisation.candidates import choose
from safeframe.types import SafeframeError, Status

__all__ = ["GuardedActions", "SafetyGuard"]

_PROBES = 8


class SafetyGuard:
    """A model, a safety classifier and internal test data, joined to act within thresholds.

    Args:
        model: measurement (n, ...) -> action (n, ...); or -> (candidates (n, c, ...), score (n, c)), of which
            the best-scored accepted one is taken (score -inf: absent). Any callable or torch module.
        classifier: measurement -> logits (n, 2), or (n, c, 2) with candidates; class 0 safe, class 1 unsafe.
        internal_test: labelled cases; label (n,), or (n, c) with candidates.
        threshold: one r_t in (0, 1] or several.
        prior: P(unsafe) per case (or per group, as a mapping); None: the share in the internal test data. It
            enters the bound per accepted case, not the one per selected action.
        radius: xi in logit units, or "measured": over ``blocks`` consecutive blocks of the held-out internal
        test data. calibrate: "accepted" bounds P(unsafe | accepted), "selected" P(unsafe | selected), which
        needs candidates. form: "tight" or "paper" posterior bound. default_action: taken where rejected;
        broadcast to one action. certificate_delta: sets half of the held-out cases aside and certifies, all
            thresholds and groups together, with confidence 1 - delta. rule: "plug-in", or "certificate": tau
        from fixed-sequence testing on that half. group_conditional: calibrate within every group of the
        internal test data. classify_actions: call classifier(measurement, action or candidates).
        coverage: epsilon, or CoverageSettings: take the default action too where the measurement lies farther
            from the internal test data than all but a share epsilon of new cases like them do. None: no such
            test. coverage_features: measurement -> (n, d), the space of that distance; default: itself, flat.

    Raises:
        SafeframeError: on any bad setting, at once; on bad outputs of model or classifier, when they appear.
    """

    def __init__(
        self,
        model: Callable[..., Any],
        classifier: Callable[..., Any],
        internal_test: InternalTestData,
        threshold: float | Sequence[float],
        prior: float | Mapping[Hashable, float] | None = None,
        radius: float | Literal["measured"] = 0.0,
        calibrate: Mode = "accepted",
        form: PosteriorForm = "tight",
        default_action: Any = None,
        certificate_delta: float | None = None,
        rule: ThresholdRule = "plug-in",
        group_conditional: bool = False,
        classify_actions: bool = False,
        blocks: int = 5,
        seed: int = 0,
        coverage: float | CoverageSettings | None = None,
        coverage_features: Features = flat_features,
    ) -> None:
        if default_action is None:
            raise SafeframeError(
                "default_action is missing: say which action is taken where none is accepted"
            )
        if internal_test.n_classes != 2:
            raise SafeframeError(f"a guard needs two classes, safe and unsafe; got {internal_test.n_classes}")
        if group_conditional and internal_test.group is None:
            raise SafeframeError("group_conditional is set, but the internal test data have no groups")
        thresholds = tuple(np.atleast_1d(np.asarray(threshold, dtype=np.float64)).tolist())
        self.settings = GuardSettings(
            thresholds,
            prior,
            radius,
            calibrate,
            form,
            certificate_delta,
            rule,
            group_conditional,
            blocks,
            seed,
            CoverageSettings(float(coverage)) if isinstance(coverage, (int, float)) else coverage,
        )
        self.coverage_features = coverage_features
        self.coverage: CoverageGuard | None = None
        self.model, self.classifier, self.internal_test = model, classifier, internal_test
        self.default_action, self.classify_actions = to_numpy(default_action), bool(classify_actions)
        self.evidence: Evidence | None = None
        self.calibrations: dict[float, dict[Hashable, GuardCalibration]] = {}
        self._curves: dict[Hashable, GroupCurves] = {}
        self.probe: Any = None

    def calibrate(self) -> dict[float, dict[Hashable, GuardCalibration]]:
        """Run model and classifier on the internal test data and find tau for every threshold, per group.

        Raises:
            SafeframeError: on logits of a wrong shape or with NaN, on data that were all trained on (radius
                0), and where a class is absent. The guard is then as it was before.
        """
        data = self.internal_test
        if data.measurement is None:
            raise SafeframeError(
                "the internal test data hold no measurements: nothing to run the classifier on"
            )
        action, score, margin = self._look(data.measurement)
        if margin.shape != data.label.shape:
            raise SafeframeError(
                f"the classifier gives margins {margin.shape}, but the labels are {data.label.shape}"
            )
        self._with_default(action, score)
        group = data.group if self.settings.group_conditional else None
        found = None
        if self.settings.coverage is not None:
            features = self.coverage_features(data.measurement)
            found = fit_coverage(features, data.trained_on, self.settings.coverage, self.settings.seed)
        self.adopt(Evidence(margin, data.label, score, group, data.trained_on))
        self.coverage = found
        self.probe = data.measurement[:_PROBES]
        return self.calibrations

    def adopt(self, evidence: Evidence) -> None:
        """Calibrate from evidence that is already there (margins, labels, scores); nothing changes on an
        error.
        """
        curves, calibrations = calibrate_evidence(evidence, self.settings)
        self.evidence, self._curves, self.calibrations = evidence, curves, calibrations

    def act(self, measurement: Any, r_t: float | None = None, group: Any = None) -> GuardedActions:
        """Actions for a batch of measurements (n, ...), the default action where none is accepted.

        Args:
            r_t: one of the thresholds; may be left out if there is only one. Without certificates any other
                r_t in (0, 1] is calibrated on the spot from the same curve (the paper's bias correction).
            group: (n,) ids, where the guard is group-conditional.

        Raises:
            SafeframeError: if not calibrated, on a group without internal test data, or on bad outputs.
        """
        found = self._calibration(r_t)
        action, score, margin = self._look(measurement)
        action, default = self._with_default(action, score)
        n = len(margin)
        ids = self._groups(group, n)
        keys = [EVERYTHING] if ids is None else np.unique(ids).tolist()
        rows = {key: np.ones(n, bool) if ids is None else ids == key for key in keys}
        tau = np.empty(n)
        for key, mine in rows.items():
            tau[mine] = found[key].tau
        if score is None:
            action, score, margin = action[:, None], np.zeros((n, 1)), margin[:, None]
        distance, covered = self._covered(measurement)
        inside = np.ones(n, bool) if covered is None else covered
        decisions = choose((margin < tau[:, None]) & inside[:, None], score)
        chosen = np.where(
            decisions.accepted, decisions.index, np.argmin(np.where(score > -np.inf, margin, np.inf), 1)
        )
        margin = margin[np.arange(n), chosen]
        bound = np.empty(n)
        for key, mine in rows.items():
            ruling = self._curves[key].ruling
            bound[mine] = 1.0 if ruling is None else ruling.level(margin[mine])
        bound[~inside] = 1.0
        status = np.where(tau == -np.inf, Status.INFEASIBLE.value, decisions.status)
        return GuardedActions(
            action=like(decisions.take(action, default), measurement),
            accepted=like(decisions.accepted, measurement),
            bound=like(bound, measurement),
            threshold=next(iter(found.values())).r_t,
            tau=like(tau, measurement),
            margin=like(margin, measurement),
            index=like(decisions.index, measurement),
            status=status,
            group=ids,
            calibration=found,
            distance=None if distance is None else like(distance, measurement),
            covered=None if covered is None else like(covered, measurement),
            coverage_radius=None if self.coverage is None else self.coverage.radius,
        )

    def _covered(self, measurement: Any) -> tuple[np.ndarray | None, np.ndarray | None]:
        """(distances, whether covered) of a batch; None without a coverage guard."""
        if self.coverage is None:
            return None, None
        distance = self.coverage.distance(self.coverage_features(measurement))
        if len(distance) != len(measurement):
            raise SafeframeError(
                f"coverage_features gave {len(distance)} rows for {len(measurement)} measurements"
            )
        return distance, distance <= self.coverage.radius

    def _look(self, measurement: Any) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
        """(actions, scores or None, margins) of a batch, checked."""
        seen = measurement if hasattr(measurement, "shape") else np.asarray(measurement)
        output = call(self.model, seen)
        pair = isinstance(output, tuple)
        if pair and len(output) != 2:
            raise SafeframeError(
                f"the model returned {len(output)} values; expected actions, or (candidates, score)"
            )
        raw = output[0] if pair else output
        action, score = to_numpy(raw), np.asarray(to_numpy(output[1]), np.float64) if pair else None
        logits = check_logits(
            to_numpy(call(self.classifier, *((seen, raw) if self.classify_actions else (seen,)))),
            "the classifier's logits",
        )
        wanted = (len(seen),) if score is None else (len(seen), *action.shape[1:2])
        if logits.shape != (*wanted, 2):
            raise SafeframeError(
                f"the classifier's logits have shape {logits.shape}; expected {(*wanted, 2)}"
            )
        if action.shape[: len(wanted)] != wanted or (score is not None and score.shape != wanted):
            raise SafeframeError(
                f"the model's actions have shape {action.shape}"
                + ("" if score is None else f" and its scores {score.shape}")
                + f"; expected them to begin with {wanted}"
            )
        if np.issubdtype(action.dtype, np.floating) and np.isnan(action).any():
            raise SafeframeError("the model's actions hold NaN")
        if score is not None and (np.isnan(score).any() or (score == np.inf).any()):
            raise SafeframeError("the model's scores hold NaN or +inf; -inf marks an absent candidate")
        return action, score, margin_of(logits)

    def margins(self, measurement: Any) -> np.ndarray:
        """The classifier's margins for a batch: (n,), or (n, c) with candidates."""
        return self._look(measurement)[2]

    def _with_default(self, action: np.ndarray, score: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """(actions, default action) in one type. SafeframeError where the default is no such action."""
        shape = action.shape[1:] if score is None else action.shape[2:]
        try:
            default = np.broadcast_to(self.default_action, shape)
        except ValueError as error:
            raise SafeframeError(
                f"default_action has shape {self.default_action.shape}; one action has shape {shape}"
            ) from error
        if action.dtype.kind in "UO":
            kind = np.result_type(action, default)
            return action.astype(kind), default.astype(kind)
        if default.dtype.kind not in "biuf" or not (default.astype(action.dtype) == default).all():
            exact = default.dtype.kind in "biuf" and action.dtype.kind == "f"
            if not exact:
                raise SafeframeError(
                    f"default_action {default!r} is no value of the actions' type {action.dtype}"
                )
        return action, default.astype(action.dtype)

    def _calibration(self, r_t: float | None) -> dict[Hashable, GuardCalibration]:
        known = list(self.calibrations)
        if not known:
            raise SafeframeError("the guard is not calibrated: call calibrate() first")
        if r_t is None:
            if len(known) > 1:
                raise SafeframeError(
                    f"several thresholds are calibrated ({known}): say which by act(..., r_t=...)"
                )
            r_t = known[0]
        wanted = validate_threshold(r_t)
        if wanted in self.calibrations:
            return self.calibrations[wanted]
        if self.settings.certificate_delta is not None:
            raise SafeframeError(f"r_t = {wanted:g} has no certificate; certified are {known}")
        return {key: curve.calibration(wanted) for key, curve in self._curves.items()}

    def _groups(self, group: Any, n: int) -> np.ndarray | None:
        if not self.settings.group_conditional:
            if group is not None:
                raise SafeframeError("group was given, but the guard is not group-conditional")
            return None
        if group is None:
            raise SafeframeError(
                "the guard is group-conditional: act(..., group=...) needs one id per measurement"
            )
        ids = to_numpy(group)
        if ids.shape != (n,):
            raise SafeframeError(f"group has shape {ids.shape}; expected ({n},)")
        for key in np.unique(ids).tolist():
            if key not in self._curves:
                raise SafeframeError(f"group {key!r} has no internal test data; known: {list(self._curves)}")
        return ids

    def save(self, directory: str | os.PathLike[str]) -> None:
        """Save settings and evidence (not model or classifier) with checksums; atomic. SafeframeError before
        calibrate.
        """
        if self.evidence is None:
            raise SafeframeError("the guard is not calibrated: call calibrate() before save()")
        save_guard(directory, self)

    @classmethod
    def load(
        cls, directory: str | os.PathLike[str], model: Callable[..., Any], classifier: Callable[..., Any],
        check: bool = True, coverage_features: Features = flat_features,
    ) -> SafetyGuard:  # fmt: skip
        """A saved guard around the given model and classifier.

        With ``check`` a few saved measurements must give the saved margins again; leave it out only for
        models that draw at random. ``coverage_features``: as when the guard was made. SafeframeError where a
        file is corrupt, or the classifier or the features are others.
        """
        return load_guard(cls, directory, model, classifier, check, coverage_features)
