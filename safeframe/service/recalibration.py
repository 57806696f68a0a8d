"""New thresholds from the newest labelled cases of a log, put in force while the guard acts.

    found = recalibrate(log, window=20_000)
    print(found)
    restore(log, version=1)

The rule is the guard's own. With ``Conservative()``, ``PlugIn()`` or ``Shrinkage()`` it is applied to the
labelled cases of the window. With ``Certified(delta)`` thresholds of a fixed list are tested by e-processes
(:mod:`safeframe.service.looks`): all recalibrations of a log together, however many, break their promise
with probability at most delta; delta is spent on the starts of windows and not on looks. The guard's first
calibration has its own delta.

A given prior does not enter: the share of unsafe cases in the window stands in its place, times ``odds``.

So is the constraint over groups: every group has its own threshold, or all that is accepted in any group is
counted together (``pooled``), or one threshold serves all groups (``worst_group``,
:mod:`safeframe.service.common_threshold`). With the last two, and with ``Shrinkage()``, margins go through a
scale of risk. It was fitted when the guard was calibrated and stays as it is: logged margins keep their
meaning, the rule that a window judges is fixed before its cases are seen, and only thresholds move. Where the
scale itself has become wrong, make the guard anew.
"""

from __future__ import annotations

import json
import math
from collections.abc import Hashable
from dataclasses import dataclass
from datetime import datetime, timedelta

from safeframe.guard.settings import Certified
from safeframe.service.cuts import Cut
from safeframe.service.log import GuardLog
from safeframe.service.storage.encoding import seconds
from safeframe.service.thresholds import new_cuts
from safeframe.service.versions import Version
from safeframe.service.window import Span, Unlabelled, newest, read_cases
from safeframe.types import SafeframeError


@dataclass(frozen=True)
class Recalibration:
    """What a recalibration found.

    Attributes:
        version: number of the calibration that is in force now.
        changed: whether a threshold changed, so that there is a new calibration.
        cuts: thresholds in force now, by r_t and group, each with a verdict and the reason.
        span: which decisions the window holds.
        n_labelled: cases of the window that counted.
        n_unlabelled: accepted cases without a label.
        n_left_out: labelled cases that were rejected and no audits, so that they do not count.
    """

    version: int
    changed: bool
    cuts: dict[float, dict[Hashable, Cut]]
    span: Span
    n_labelled: int
    n_unlabelled: int
    n_left_out: int

    def __str__(self) -> str:
        lines = [
            f"calibration {self.version} is {'new' if self.changed else 'still'} in force",
            f"decisions {self.span.first:,} to {self.span.last:,}: {self.n_labelled:,} cases count; "
            f"{self.n_unlabelled:,} accepted ones have no label; "
            f"{self.n_left_out:,} labels of rejected cases are left out",
        ]
        for r_t, found in self.cuts.items():
            for group, cut in found.items():
                where = f"r_t = {r_t:g}, group {group!r}"
                lines.append(f"{where}: accept margin < {cut.tau:.6g} ({cut.verdict}: {cut.why})")
                lines += [f"  group {key!r}: {share}" for key, share in cut.members.items()]
        return "\n".join(lines)


def recalibrate(
    log: GuardLog,
    window: int | timedelta,
    *,
    until: float | datetime | None = None,
    unlabelled: Unlabelled = "left out",
    odds: float = 1.0,
) -> Recalibration:
    """Find thresholds on the newest labelled cases and put them in force, for all threads and processes.

    Every batch is decided by one calibration: those that have begun end with theirs. A threshold rises only
    where audited cases (``GuardLog(audit=...)``) allow it; with candidates never above the guard's own.
    A window that cannot calibrate (no unsafe case, too few cases) leaves the threshold in force as it is,
    unless it speaks against it, and then nothing is accepted. The report says which.

    Args:
        log: whose guard acts.
        window: how many decisions, labelled or not, or how long. A log of a guard with ``Certified`` keeps to
            one window, and its windows start at every half of their length only.
        until: leave out what was decided later, because its labels may not have come; None: nothing.
        unlabelled: what accepted cases without a label are: "left out" (right where it does not depend on a
            case whether it is labelled by now) or "unsafe".
        odds: factor by which the odds of an unsafe case may rise after the window, which the new thresholds
            are to stand.

    Returns:
        What was found.

    Raises:
        SafeframeError: where there is no decision, another window was used before with ``Certified``, another
            process recalibrates at the same time, or on a bad argument.
    """
    if unlabelled not in ("left out", "unsafe"):
        raise SafeframeError(f"unlabelled is {unlabelled!r}; it must be 'left out' or 'unsafe'")
    if not 0.0 < odds < math.inf:
        raise SafeframeError(f"odds is {odds}; expected a factor above 0")
    certified = isinstance(log.guard.settings.rule, Certified)
    span = newest(log.database, window, None if until is None else seconds(until), certified)
    if certified:
        _keep_to(log, window, odds)
    former, cases = log.version(), read_cases(log.database, span)
    counted = cases.counted(unlabelled)
    found = new_cuts(log.guard, former.cuts, counted, span.start, odds)
    changed = any(
        found[r_t][group].tau != cut.tau
        for r_t, groups in former.cuts.items()
        for group, cut in groups.items()
    )
    version = former.number
    left_out = int((~cases.accepted & ~cases.audit & (cases.unsafe >= 0)).sum())
    unknown = int((cases.accepted & (cases.unsafe < 0)).sum())
    if changed:
        report = f"decisions {span.first} to {span.last}"
        reason = f"recalibrated on {report}"
        version = log.calibrations.put_in_force(reason, former.number, found, report=report)
    return Recalibration(version, changed, found, span, len(counted.margin), unknown, left_out)


def restore(log: GuardLog, version: int, reason: str = "restored") -> Version:
    """Put an earlier calibration in force again, also after a restart; the newer ones stay in the log.

    Args:
        log: whose guard acts.
        version: number of the calibration; 1 is the guard's own.
        reason: in words, for the log.

    Returns:
        The version that is in force now.

    Raises:
        SafeframeError: on a number that the log does not hold, or where another process has put a calibration
            in force at the same time.
    """
    wanted = log.version(version)
    log.calibrations.put_in_force(reason, log.version().number, number=version)
    return wanted


def _keep_to(log: GuardLog, window: int | timedelta, odds: float) -> None:
    """SafeframeError where a log whose promise counts windows has been given another one before."""
    length = (
        {"seconds": window.total_seconds()} if isinstance(window, timedelta) else {"decisions": int(window)}
    )
    text = json.dumps({**length, "odds": float(odds)})
    with log.database.write() as connection:
        connection.execute("INSERT OR IGNORE INTO facts VALUES ('window', ?)", (text,))
        kept = connection.execute("SELECT value FROM facts WHERE name = 'window'").fetchone()[0]
    if kept != text:
        raise SafeframeError(
            f"this log was recalibrated with {kept} before, and now with {text}: delta is spent on the "
            "windows of one length and odds; keep to them, or begin another log"
        )
