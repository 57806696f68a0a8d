"""A guard at other thresholds than it was calibrated with: what a recalibration puts in force.

Where the model gives one action for each measurement, the thresholds of the guard are replaced. Where it
gives candidates, the guard chooses as it was calibrated, and the action that it chose is vetoed (the default
is taken) unless its margin is below the threshold in force: a lower threshold for the choice itself would
choose other candidates, whose labels no log holds.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from safeframe.chance_constraint import validate_threshold
from safeframe.guard.report import GuardCalibration, GuardedActions
from safeframe.guard.ruling import GroupRuling, Steps
from safeframe.guard.safety_guard import SafetyGuard
from safeframe.optimisation.candidates import DEFAULT
from safeframe.service.cuts import Cut, Cuts, whole
from safeframe.tensors import is_tensor, like, to_numpy
from safeframe.types import BoolArray, SafeframeError


def selects(guard: SafetyGuard) -> bool:
    """Whether a guard chooses among candidates, so that it is changed by vetoes only.

    Args:
        guard: calibrated.

    Returns:
        True where its model returns candidates.
    """
    return guard.evidence is not None and guard.evidence.score is not None


@dataclass(frozen=True, eq=False)
class Version:
    """A guard with the thresholds of one calibration; it does not change.

    Attributes:
        number: of the calibration, from 1.
        guard: that acts; for version 1 as it was calibrated.
        cuts: thresholds in force, by r_t and group.
        veto: whether the cuts act after the guard's own choice.
    """

    number: int
    guard: SafetyGuard
    cuts: Cuts
    veto: bool = False

    @property
    def listed(self) -> list[float] | None:
        """The r_t that a budget may have served, at least one; None: all in (0, 1].

        Certificates, prices, vetoes and recalibrated thresholds are those of the listed r_t. Where some
        accept nothing at all they are left out: nothing would ever be learnt there.
        """
        if self.number == 1 and self.guard.settings.delta is None and not selects(self.guard):
            return None
        fine = [r_t for r_t, found in self.cuts.items() if any(cut.tau > -np.inf for cut in found.values())]
        return fine or list(self.cuts)

    def act(self, measurement: Any, r_t: float | None = None, group: Any = None) -> GuardedActions:
        """Actions for a batch of measurements, within these thresholds.

        Args:
            measurement: n cases.
            r_t: one of the thresholds; may be left out if there is only one.
            group: (n,) ids, where the guard is group-conditional.

        Returns:
            What was done.

        Raises:
            SafeframeError: as :meth:`safeframe.guard.safety_guard.SafetyGuard.act`.
        """
        guarded = self.guard.act(measurement, r_t, group)
        if not self.veto:
            return guarded
        kind = measurement if is_tensor(measurement) or isinstance(measurement, Mapping) else None
        return self._vetoed(guarded, kind)

    def _vetoed(self, guarded: GuardedActions, kind: Any) -> GuardedActions:
        """What is left of the guard's choices."""
        if guarded.threshold not in self.cuts:
            raise SafeframeError(
                f"r_t = {guarded.threshold:g} is not among the recalibrated thresholds {list(self.cuts)}"
            )
        margin, accepted = to_numpy(guarded.margin), to_numpy(guarded.accepted)
        tau, bound = to_numpy(guarded.tau).copy(), to_numpy(guarded.bound).copy()
        calibration = dict(guarded.calibration)
        cuts = self.cuts[guarded.threshold]
        for key, cut in cuts.items():
            every = guarded.group is None or whole(cuts)
            mine = np.ones(len(margin), bool) if every else guarded.group == key
            tau[mine] = np.minimum(tau[mine], cut.tau)
            level = _steps(self.cuts, key).level(margin[mine])
            bound[mine] = np.maximum(bound[mine], level)
            calibration[key] = _reported(
                calibration[key], replace(cut, tau=min(cut.tau, calibration[key].tau))
            )
        kept: BoolArray = accepted & (margin < tau)
        action, index = to_numpy(guarded.action).copy(), to_numpy(guarded.index).copy()
        action[accepted & ~kept] = self.guard.default_action
        index[accepted & ~kept] = DEFAULT
        parts = {"action": action, "accepted": kept, "tau": tau, "bound": bound, "index": index}
        made: dict[str, Any] = {name: like(part, kind) for name, part in parts.items()}
        return replace(guarded, calibration=calibration, **made)


def version_of(number: int, guard: SafetyGuard, cuts: Cuts) -> Version:
    """The guard with the thresholds of one calibration.

    Args:
        number: of the calibration; 1 is the guard's own.
        guard: as it was calibrated; it is not changed, and later changes of it do not count.
        cuts: thresholds, by r_t and group.

    Returns:
        The version.

    Raises:
        SafeframeError: where the guard has other thresholds or groups than the calibration.
    """
    own = copy.copy(guard)
    if number == 1:
        return Version(number, own, cuts)
    wanted = {(r_t, key) for r_t, found in guard.calibrations.items() for key in found}
    if wanted != {(r_t, key) for r_t, found in cuts.items() for key in found}:
        raise SafeframeError(
            f"calibration {number} of the log has other thresholds or groups than the guard: {sorted(cuts)} "
            f"instead of {sorted(guard.calibrations)}"
        )
    if selects(guard):
        return Version(number, own, cuts, veto=True)
    own.calibrations = {
        r_t: {key: _reported(one, cuts[r_t][key]) for key, one in found.items()}
        for r_t, found in guard.calibrations.items()
    }
    own._rulings = {}
    for key, ruling in guard._rulings.items():
        assert isinstance(ruling, GroupRuling)  # where risk is priced there are candidates
        reports = {r_t: found[key] for r_t, found in own.calibrations.items()}
        own._rulings[key] = _Recut(ruling, _steps(cuts, key), reports)
    return Version(number, own, cuts)


class _Recut(GroupRuling):
    """What rules in a group after a recalibration: its scale stays, thresholds and reports are new."""

    def __init__(self, former: GroupRuling, ruling: Steps, reports: Mapping[float, GuardCalibration]) -> None:
        vars(self).update(vars(former))
        self.ruling, self._reports = ruling, reports

    def calibration(self, r_t: float, tau: float | None = None, brief: bool = False) -> GuardCalibration:
        """That of the listed r_t that serves, the next stricter one; below all of them there is none."""
        validate_threshold(r_t)
        below = [level for level in self._reports if level <= r_t]
        if below:
            return replace(self._reports[max(below)], r_t=r_t)
        why = f"recalibrated are {', '.join(f'{level:g}' for level in sorted(self._reports))}, all looser"
        strictest = _reported(self._reports[min(self._reports)], Cut(-math.inf, "refused", why, 1.0))
        return replace(strictest, r_t=r_t, refused=why)


def _steps(cuts: Cuts, key: Hashable) -> Steps:
    levels = sorted(cuts)
    return Steps(levels, [cuts[r_t][key].tau for r_t in levels])


def _reported(calibration: GuardCalibration, cut: Cut) -> GuardCalibration:
    """A calibration as it is reported with the threshold of a cut."""
    if cut.tau == calibration.tau and cut.n_window == 0:
        return calibration
    here = replace(
        calibration, tau=cut.tau, feasible=cut.tau > -np.inf, certificate=None, parts={}, refused=""
    )
    share = cut.n / cut.n_window if cut.n_window else 0.0
    risk = 1.0 if math.isnan(cut.bound) else cut.bound
    return replace(
        here, accepted_risk=risk, selected_risk=None if calibration.selected_risk is None else risk,
        acceptance=share, n_accepted=cut.n, n_unsafe_accepted=cut.k, n_t=cut.n_window,
        binding=cut.binding, members=dict(cut.members),
    )  # fmt: skip
