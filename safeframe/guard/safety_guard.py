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
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from safeframe.chance_constraint import validate_threshold
from safeframe.coverage.coverage_guard import (
    CoverageGuard,
    CoverageSettings,
    Features,
    flat_features,
)
from safeframe.groups.constraint import Constraint
from safeframe.guard.calibration import AnyRuling, calibrate_evidence
from safeframe.guard.calling import Callables, OnError
from safeframe.guard.deciding import decide, decide_priced, with_default
from safeframe.guard.evidence import Evidence
from safeframe.guard.features import features_of
from safeframe.guard.files import SavedGuard, load_guard, save_guard
from safeframe.guard.judging import coverage_of, judged, look_with_bar
from safeframe.guard.report import EVERYTHING, GuardCalibration, GuardedActions
from safeframe.guard.ruling import GroupRuling
from safeframe.guard.settings import GuardPrior, GuardRule, GuardScale, GuardSettings, Priced, modern
from safeframe.inputs import rows
from safeframe.internal_test import InternalTestData
from safeframe.risk_scale import RiskScale
from safeframe.tensors import all_like, as_tensor, is_tensor, like, to_numpy
from safeframe.threshold_rule import Conservative, Event
from safeframe.types import SafeframeError, numbers

__all__ = ["GuardedActions", "SafetyGuard"]

_PROBES = 8
_CONSERVATIVE = Conservative()


class SafetyGuard:
    """A model, a safety classifier and internal test data, joined to act within thresholds.

    Args:
        model: measurement (n, ...) -> action (n, ...); or -> (candidates (n, c, ...), score (n, c)), of which
            the best-scored accepted one is taken (score -inf: absent). Any callable, torch module, or object
            with ``predict``.
        classifier: measurement -> logits (n, 2), or (n, c, 2) with candidates, class 0 safe and class 1
            unsafe; or one score or probability per case (or candidate), any monotone number, higher is
            riskier; or an output with ``.logits``; or an estimator with ``decision_function`` or
            ``predict_proba``.
        internal_test: labelled cases; label (n,), or (n, c) with candidates.
        threshold: one r_t in (0, 1] or several.
        default_action: taken where rejected; broadcast to one action. It must be given.
        rule: how thresholds are found: :class:`safeframe.threshold_rule.Conservative` (the default),
            :class:`safeframe.threshold_rule.PlugIn` (the paper's, which promises nothing with few cases),
            :class:`safeframe.guard.settings.Certified` (by finite-sample certificates) or
            :class:`safeframe.shrinkage.Shrinkage` (borrows from the scale of risk, under its assumptions).
        event: "accepted" bounds P(unsafe | accepted), "selected" P(unsafe | selected), the action that is
            taken; None: "selected" where the model returns candidates, else "accepted".
        prior: P(unsafe); (low, high), of which the upper end rules; "observed", the largest share among the
            blocks of the data; a mapping of these per group; None: the share in the internal test data.
        constraint: over the groups of the internal test data: "per_group", each with a threshold (and radius)
            of its own; "pooled", r_t over all that is accepted, by one threshold on a common scale of risk;
            "worst_group", the largest such threshold at which every group is within r_t
            (:mod:`safeframe.groups.constraint`). None: groups do not count.
        scale: the scale of risk, for the last two and for rule Shrinkage: "logistic" or "isotonic", fitted on
            cases that are not counted (:mod:`safeframe.groups.scales`); a callable from margins to
            probabilities, or a scale fitted elsewhere; or a mapping of these per group.
        scale_share: of the internal test cases (those that choose), in (0, 1), which fit the scale.
        certificate_delta: in (0, 1); sets half of the held-out cases aside and certifies what the rule chose,
            all thresholds and groups together, with confidence 1 - delta. None: no certificates.
        coverage: epsilon, or CoverageSettings: take the default action too where the measurement lies farther
            from the internal test data than all but a share epsilon of new cases like them do. None: no such
            test.
        coverage_features: measurement -> (n, d), the space of that distance; default: itself, flat.
        classify_actions: call classifier(measurement, action or candidates).
        unsafe_label: the unsafe class of the classifier: its position among logits or its name
            (:class:`safeframe.guard.calling.Callables`).
        batch_size: so many cases are passed to the models at once; None: all of them.
        on_error: "default": a row that cannot be judged takes the default action; "raise": stop.
        blocks: runs of consecutive cases that alternate between the two halves of a measured radius, where
            the data have no block ids.
        seed: of the random choice of cases that certify, of those held out for coverage, and of those that
            fit a risk scale.
        choice: "gated": the best-scored candidate among those whose margin is below one threshold. "priced"
            or :class:`safeframe.guard.settings.Priced`: the candidate of largest reward (its score) less the
            price of its risk, and the default action where that is worth more; then P(unsafe | acted) is what
            is bounded, and an r_t that is not listed is served by the next stricter one that is.
        **former: keywords of version 0.2 (radius, calibrate, form) and 0.3 (group_conditional), with a
            warning.

    Raises:
        SafeframeError: on any bad setting, at once; on bad outputs of model or classifier, when they appear.
    """

    def __init__(
        self,
        model: Callable[..., Any],
        classifier: Callable[..., Any],
        internal_test: InternalTestData,
        threshold: float | Sequence[float],
        default_action: Any = None,
        *,
        rule: GuardRule | str = _CONSERVATIVE,
        event: Event | None = None,
        prior: GuardPrior = None,
        constraint: Constraint | None = None,
        scale: GuardScale = "logistic",
        scale_share: float = 1.0 / 3.0,
        certificate_delta: float | None = None,
        coverage: float | CoverageSettings | None = None,
        coverage_features: Features = flat_features,
        classify_actions: bool = False,
        unsafe_label: Any = 1,
        batch_size: int | None = None,
        on_error: OnError = "default",
        blocks: int = 20,
        seed: int = 0,
        choice: Literal["gated", "priced"] | Priced = "gated",
        **former: Any,
    ) -> None:
        if default_action is None:
            raise SafeframeError(
                "default_action is missing: say which action is taken where none is accepted"
            )
        if internal_test.n_classes != 2:
            raise SafeframeError(f"a guard needs two classes, safe and unsafe; got {internal_test.n_classes}")
        thresholds = tuple(np.atleast_1d(numbers(threshold, "threshold")).reshape(-1).tolist())
        chosen: dict[str, Any] = {
            "event": event,
            "certificate_delta": certificate_delta,
            "constraint": constraint,
        }
        self.settings = GuardSettings(
            thresholds,
            modern(former, rule, chosen),
            prior=prior,
            scale=scale,
            scale_share=scale_share,
            coverage=CoverageSettings(float(coverage)) if isinstance(coverage, int | float) else coverage,
            blocks=blocks,
            seed=seed,
            choice=Priced() if choice == "priced" else choice,
            **chosen,
        )
        if self.settings.constraint is not None and internal_test.group is None:
            raise SafeframeError(
                f"constraint is {self.settings.constraint!r}, but the internal test data have no groups"
            )
        self.coverage_features = coverage_features
        self.coverage: CoverageGuard | None = None
        self.callables = Callables(
            model, classifier, bool(classify_actions), unsafe_label, batch_size, on_error
        )
        self.internal_test, self.default_action = internal_test, to_numpy(default_action)
        self.evidence: Evidence | None = None
        self.calibrations: dict[float, dict[Hashable, GuardCalibration]] = {}
        self._rulings: dict[Hashable, AnyRuling] = {}
        self.probe: Any = None

    @property
    def model(self) -> Any:
        """What proposes actions."""
        return self.callables.model

    @property
    def classifier(self) -> Any:
        """What tells safe from unsafe."""
        return self.callables.classifier

    def calibrate(self) -> dict[float, dict[Hashable, GuardCalibration]]:
        """Run model and classifier on the internal test data and find tau for every threshold, per group.

        Cases that cannot be judged (a model fails on them or gives NaN) are left out, with a warning.

        Returns:
            The calibrations by r_t and group id (``EVERYTHING`` without groups).

        Raises:
            SafeframeError: on logits of a wrong shape, where no case can be judged, on data without
                measurements or all trained on (radius 0 or measured), and where a class is absent. The guard
                is then as it was before.
        """
        data = self.internal_test
        if data.measurement is None:
            raise SafeframeError(
                "the internal test data hold no measurements: nothing to run the classifier on"
            )
        looked = look_with_bar(self.callables, data.measurement)
        if looked.action is not None and looked.margin.shape != data.label.shape:
            raise SafeframeError(
                f"the classifier gives margins {looked.margin.shape}, but the labels are {data.label.shape}"
            )
        kept = judged(looked)
        assert looked.action is not None
        _, default = with_default(self.default_action, looked.action, looked.score)
        group = data.group if self.settings.constraint is not None else None
        evidence = Evidence(
            looked.margin, data.label, looked.score, group, data.trained_on, data.block
        ).subset(kept)
        found, measurement = None, data.measurement
        if len(kept) < len(data):
            measurement = rows(measurement, kept)
        if self.settings.coverage is not None:
            found, evidence = coverage_of(self.coverage_features(measurement), evidence, self.settings)
        self.adopt(evidence)
        self.coverage = found
        self.default_action = np.broadcast_to(self.default_action, default.shape).copy()
        self.probe = rows(measurement, slice(0, _PROBES))
        return self.calibrations

    def adopt(self, evidence: Evidence) -> None:
        """Calibrate from evidence that is already there; nothing changes on an error.

        Args:
            evidence: margins, labels and scores of the internal test cases.

        Raises:
            SafeframeError: where a class is absent, or no case may calibrate.
        """
        rulings, calibrations = calibrate_evidence(evidence, self.settings)
        self.evidence, self._rulings, self.calibrations = evidence, rulings, calibrations

    def act(self, measurement: Any, r_t: float | None = None, group: Any = None) -> GuardedActions:
        """Actions for a batch of measurements, the default action where none is accepted.

        With ``on_error="default"`` a row that cannot be judged (its action, score or margin is NaN or
        infinite, or a model raises on it) takes the default action with status "error" and disturbs no other.

        Args:
            measurement: n cases, as :mod:`safeframe.inputs` describes them.
            r_t: one of the thresholds; may be left out if there is only one. Without certificates any other
                r_t in (0, 1] is served too (the paper's bias correction).
            group: (n,) ids, where there is a constraint over groups.

        Returns:
            The actions with what decided on them; tensors where the measurements are tensors.

        Raises:
            SafeframeError: if not calibrated, on a group without internal test data, on outputs of wrong
                shapes, or with ``on_error="raise"`` on a row that cannot be judged.
        """
        found = self._calibration(r_t)
        looked = self.callables.look(measurement)
        n, error = len(looked.margin), looked.error
        ids = self._groups(group, n)
        distance = inside = None
        if self.coverage is not None:
            distance, inside, error = self._covered(measurement, n, error)
        first = next(iter(found.values()))
        parts: list[tuple[Hashable, Any]] = [(EVERYTHING, slice(None))]
        tau = np.full(n, first.tau)
        ruling = next(iter(self._rulings.values()))
        if self.settings.on_common_scale and isinstance(ruling, GroupRuling):
            assert ruling.scales is not None
            looked = replace(looked, margin=ruling.scales.log_odds(looked.margin, ids))
        if ids is not None and self.settings.constraint != "pooled":
            parts = [(key, ids == key) for key in np.unique(ids).tolist()]
            for key, mine in parts:
                tau[mine] = found[key].tau
        priced, bound = None, np.full(n, np.inf)
        if first.priced is not None:
            terms = [(found[key].priced, mine) for key, mine in parts]
            decided, priced = decide_priced(looked, self.default_action, terms, inside)
            bound = bound if priced is None else priced.bound
        else:
            decided = decide(looked, self.default_action, tau, inside)
            for key, mine in parts:
                bound[mine] = self._rulings[key].level(decided.margin[mine])
        if inside is not None:
            bound[~inside] = np.inf
        if error is not None:
            bound[error != ""] = np.inf
        kind = measurement if is_tensor(measurement) or isinstance(measurement, Mapping) else None
        action, accepted, bounds, taus, margin, index = all_like(
            [decided.action, decided.accepted, bound, tau, decided.margin, decided.index], kind
        )
        return GuardedActions(
            action=action,
            accepted=accepted,
            bound=bounds,
            threshold=first.r_t,
            tau=taus,
            margin=margin,
            index=index,
            group=ids,
            calibration=found,
            distance=None if distance is None else like(distance, kind),
            covered=None if inside is None else like(inside, kind),
            coverage_radius=None if self.coverage is None else self.coverage.radius,
            error=error,
            priced=priced,
        )

    def _covered(
        self, measurement: Any, n: int, error: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """(distances, whether covered, errors) of a batch; rows without features are in error."""
        assert self.coverage is not None
        features, reason = features_of(
            self.coverage_features, measurement, n, self.callables.on_error == "raise"
        )
        if reason is None:
            distance = self.coverage.distance(features)
            return distance, distance <= self.coverage.radius, error
        distance, good = np.full(n, np.inf), reason == ""
        if good.any():
            distance[good] = self.coverage.distance(features[good])
        joined = reason if error is None else np.where(error == "", reason, error)
        return distance, distance <= self.coverage.radius, joined

    def margins(self, measurement: Any) -> np.ndarray:
        """The classifier's margins for a batch.

        Args:
            measurement: n cases.

        Returns:
            (n,) margins f_1 - f_0, or (n, c) with candidates; +inf in rows that cannot be judged.

        Raises:
            SafeframeError: on outputs of wrong shapes.
        """
        return self.callables.look(measurement).margin

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
        if self.settings.delta is not None:
            raise SafeframeError(f"r_t = {wanted:g} has no certificate; certified are {known}")
        return {key: ruling.calibration(wanted, brief=True) for key, ruling in self._rulings.items()}

    def _groups(self, group: Any, n: int) -> np.ndarray | None:
        if self.settings.constraint is None:
            if group is not None:
                raise SafeframeError("group was given, but the guard has no constraint over groups")
            return None
        if group is None:
            raise SafeframeError(
                f"the guard's constraint is {self.settings.constraint!r}: act(..., group=...) needs one id "
                "per measurement"
            )
        ids = to_numpy(group)
        if ids.shape != (n,):
            raise SafeframeError(f"group has shape {ids.shape}; expected ({n},)")
        first = next(iter(self._rulings.values()))
        known: Mapping[Hashable, Any] = self._rulings
        if self.settings.constraint == "pooled" and isinstance(first, GroupRuling):
            known = first.members
        for key in np.unique(ids).tolist():
            if key not in known:
                raise SafeframeError(f"group {key!r} has no internal test data; known: {list(known)}")
        return ids

    def save(self, directory: str | os.PathLike[str]) -> None:
        """Save settings and evidence (not model or classifier) with checksums; atomic.

        Args:
            directory: where; made if it does not exist.

        Raises:
            SafeframeError: before calibrate, or where groups, default action or measurements are Python
                objects.
        """
        if self.evidence is None:
            raise SafeframeError("the guard is not calibrated: call calibrate() before save()")
        # Frames and mappings are not kept: load() cannot recognise the classifier by them.
        probe, coverage = self.probe, self.coverage
        if not (is_tensor(probe) or isinstance(probe, np.ndarray | list)):
            probe = None
        saved = SavedGuard(
            self.settings,
            self.evidence,
            self.default_action,
            self.callables.classify_actions,
            self._taus(),
            None if probe is None else to_numpy(probe),
            is_tensor(probe),
            None if coverage is None else coverage.rows,
            None if coverage is None else coverage.radius,
            self.callables.unsafe_label,
        )
        save_guard(directory, saved)

    def _taus(self) -> list[list[float]]:
        first = [(r, next(iter(found.values()))) for r, found in self.calibrations.items()]
        return [[r, one.tau if one.priced is None else one.priced.price] for r, one in first]

    @classmethod
    def load(
        cls, directory: str | os.PathLike[str], model: Callable[..., Any], classifier: Callable[..., Any],
        check: bool = True, coverage_features: Features = flat_features, batch_size: int | None = None,
        on_error: OnError = "default",
        scale: GuardScale | RiskScale | Callable[[Any], Any] | None = None,
    ) -> SafetyGuard:  # fmt: skip
        """A saved guard around the given model and classifier.

        Args:
            directory: where it was saved.
            model: as when the guard was made.
            classifier: as when the guard was made.
            check: whether a few saved measurements must give the saved margins again; leave it out only for
                models that draw at random.
            coverage_features: as when the guard was made.
            batch_size: so many cases are passed to the models at once; None: all of them.
            on_error: "default" or "raise".
            scale: as when the guard was made, where it was not "logistic" or "isotonic": a scale of your own
                is not saved, neither that of groups nor that of prices.

        Returns:
            The guard, calibrated.

        Raises:
            SafeframeError: where a file is missing or corrupt, or the classifier or the features are others,
                or the guard had a scale of its own and none is given.
        """
        saved = load_guard(directory, scale)
        evidence, settings = saved.evidence, saved.settings
        data = InternalTestData(
            None, evidence.label, evidence.group, trained_on=evidence.trained_on, block=evidence.block
        )
        guard = cls(
            model,
            classifier,
            data,
            default_action=saved.default_action,
            classify_actions=saved.classify_actions,
            unsafe_label=saved.unsafe_label,
            batch_size=batch_size,
            on_error=on_error,
            coverage_features=coverage_features,
            **vars(settings),
        )
        if saved.coverage is not None and settings.coverage is not None:
            guard.coverage, evidence = coverage_of(saved.coverage, evidence, settings)
            if not np.isclose(guard.coverage.radius, saved.coverage_radius or 0.0, rtol=1e-4, atol=1e-6):
                raise SafeframeError(
                    f"the guard in {directory} gives another coverage radius than when saved; calibrate it "
                    "again"
                )
        guard.adopt(evidence)
        if guard._taus() != saved.tau:
            raise SafeframeError(
                f"the guard in {directory} gives other thresholds than when saved; calibrate it again"
            )
        if saved.probe is not None:
            guard.probe = as_tensor(saved.probe) if saved.probe_is_torch else saved.probe
            if check:
                guard._recognise(saved)
        return guard

    def _recognise(self, saved: SavedGuard) -> None:
        """SafeframeError where classifier or coverage features say otherwise than those saved."""
        seen = self.margins(self.probe)
        margin = saved.evidence.margin[: len(seen)]
        # Relative to the spread of all margins: a classifier of small ones is recognised as well.
        if seen.shape != margin.shape or not _alike(seen, margin, float(np.ptp(saved.evidence.flat[0]))):
            raise SafeframeError(
                "the classifier gives other margins than the calibrated one: calibrate again, or "
                "pass the classifier that was saved with the guard"
            )
        if saved.coverage is not None:
            same = flat_features(self.coverage_features(self.probe))
            kept = saved.coverage[: len(same)]
            if same.shape != kept.shape or not _alike(same, kept, np.ptp(saved.coverage, axis=0)):
                raise SafeframeError(
                    "coverage_features gives other features than those calibrated: pass the function "
                    "that the guard was made with"
                )


def _alike(a: np.ndarray, b: np.ndarray, spread: np.ndarray | float) -> bool:
    """Whether values differ by at most a thousandth of their spread."""
    return bool((np.abs(a - b) <= 1e-3 * spread + 1e-12 * np.abs(b)).all())
