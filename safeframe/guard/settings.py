"""The choices of a SafetyGuard that its calibration depends on, validated at once."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Literal

from safeframe.chance_constraint import validate_prior, validate_radius, validate_threshold
from safeframe.conservative_testing import PosteriorForm, check_form
from safeframe.coverage.coverage_guard import CoverageSettings
from safeframe.types import SafeframeError

Mode = Literal["accepted", "selected"]
ThresholdRule = Literal["plug-in", "certificate"]


@dataclass(frozen=True)
class GuardSettings:
    """The choices of a guard that its calibration depends on; see SafetyGuard for their meaning.

    Attributes:
        threshold: one r_t in (0, 1] or several.
        prior: P(unsafe), or one per group id (group-conditional only); None: the share in the internal test
            data.
        radius: xi >= 0 in logit units, or "measured".
        calibrate: "accepted" or "selected".
        form: "tight" or "paper".
        certificate_delta: allowed probability in (0, 1) that a certificate fails; None: no certificates.
        rule: "plug-in", or "certificate", which needs ``certificate_delta``.
        group_conditional: calibrate within every group.
        blocks: over which a radius is measured, at least 2.
        seed: of the random choice of cases that certify, and of those held out for coverage.
        coverage: of the test for unlike inputs; None: no such test.

    Raises:
        SafeframeError: on a value that is not allowed.
    """

    threshold: tuple[float, ...]
    prior: float | Mapping[Hashable, float] | None = None
    radius: float | Literal["measured"] = 0.0
    calibrate: Mode = "accepted"
    form: PosteriorForm = "tight"
    certificate_delta: float | None = None
    rule: ThresholdRule = "plug-in"
    group_conditional: bool = False
    blocks: int = 5
    seed: int = 0
    coverage: CoverageSettings | None = None

    def __post_init__(self) -> None:
        if not self.threshold:
            raise SafeframeError("threshold is empty; give at least one r_t in (0, 1]")
        for r_t in self.threshold:
            validate_threshold(r_t, "threshold")
        if self.radius != "measured":
            validate_radius(self.radius)
        if self.calibrate not in ("accepted", "selected"):
            raise SafeframeError(f"calibrate is {self.calibrate!r}; it must be 'accepted' or 'selected'")
        check_form(self.form)
        if self.rule not in ("plug-in", "certificate"):
            raise SafeframeError(f"rule is {self.rule!r}; it must be 'plug-in' or 'certificate'")
        if self.certificate_delta is not None and not 0.0 < self.certificate_delta < 1.0:
            raise SafeframeError(f"certificate_delta is {self.certificate_delta}; it must lie in (0, 1)")
        if self.rule == "certificate" and self.certificate_delta is None:
            raise SafeframeError("rule 'certificate' needs certificate_delta, for example 0.05")
        if self.blocks < 2:
            raise SafeframeError(f"blocks is {self.blocks}; measuring a radius takes at least 2")
        if isinstance(self.prior, Mapping) and not self.group_conditional:
            raise SafeframeError("prior is given per group, but group_conditional is not set")
        given = self.prior.values() if isinstance(self.prior, Mapping) else [self.prior]
        for value in given:
            if value is not None:
                validate_prior(value, 2)

    def prior_of(self, group: Hashable) -> float | None:
        """P(unsafe) of a group.

        Args:
            group: its id.

        Returns:
            The probability; None for the share in the group's cases.

        Raises:
            SafeframeError: where priors are given per group and this group has none.
        """
        if not isinstance(self.prior, Mapping):
            return self.prior
        if group not in self.prior:
            raise SafeframeError(f"prior has no entry for group {group!r}; it has {list(self.prior)}")
        return self.prior[group]
