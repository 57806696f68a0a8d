"""Several monitors at once (products, sites, categories), with their e-values combined.

One ``update`` is one round: the labels of all groups that arrived together. Three answers, of different
reach:

- ``alarm``: the mean of the groups' wealths, at the ends of rounds, passed 1 / alpha. H0 of all groups
  together: it wins where several groups are a little too risky. Labels of one round may depend on one another
  across groups in any way; each must be unsafe with probability at most its r_t given all earlier rounds and
  the labels before it of its own group in the round. (A mean of e-processes is one, whatever their
  dependence: Vovk & Wang 2021, doi:10.1214/20-AOS2020.)
- ``alarmed``: the groups whose own wealth ever passed G / alpha (Bonferroni over the G groups). Any of them
  is false with probability at most alpha, under any dependence within and across rounds: each group needs its
  own past only.
- ``suspects``: the groups that e-BH names now (Wang & Ramdas 2022, doi:10.1111/rssb.12489): of those named,
  at most a share alpha is false on average. It names more than ``alarmed`` where many groups are too risky;
  assumptions as for ``alarm``, at a round chosen in any way, once.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from safeframe.service.monitor import ALTERNATIVES, RiskMonitor
from safeframe.service.monitoring.bets import open_unit
from safeframe.service.monitoring.entries import checked_labels, restoring
from safeframe.service.monitoring.report import MonitorReport
from safeframe.tensors import to_numpy
from safeframe.types import SafeframeError

_FORMAT = 1


@dataclass(frozen=True)
class GroupsReport:
    """What monitors of several groups have found.

    Attributes:
        groups: the report of each, by its id.
        e_value: the mean of the groups' wealths now.
        alarm_at: the round that raised the combined alarm; None without one.
        behind: the group with the largest wealth at that round; None without an alarm.
        alarmed: the groups with an alarm of their own (Bonferroni).
        suspects: the groups that e-BH names now.
    """

    groups: dict[Hashable, MonitorReport]
    e_value: float
    alarm_at: int | None
    behind: Hashable | None
    alarmed: list[Hashable]
    suspects: list[Hashable]

    def __str__(self) -> str:
        head = (
            "no combined alarm"
            if self.alarm_at is None
            else f"combined alarm in round {self.alarm_at}, mostly by group {self.behind!r}"
        )
        return f"{head}; e-value {self.e_value:.3g}; alarms of groups: {self.alarmed}; e-BH: {self.suspects}"


class RiskMonitors:
    """One :class:`safeframe.service.monitor.RiskMonitor` for each group.

    Args:
        r_t: the risk that was promised, by group id; or one for all of ``groups``.
        groups: their ids (texts or integers), where ``r_t`` is one number. All are named beforehand: how many
            there are is part of every promise.
        alpha: probability of a false combined alarm, ever; of any false alarm of a group; the share of e-BH.
        alternatives: multiples of r_t that are bet on.

    Raises:
        SafeframeError: without groups, on ids twice or of another type, on a setting outside its range.
    """

    def __init__(
        self,
        r_t: float | Mapping[Any, float],
        groups: Sequence[Any] | None = None,
        alpha: float = 0.05,
        alternatives: Sequence[float] = ALTERNATIVES,
    ) -> None:
        self.alpha = open_unit(alpha, "alpha")
        if isinstance(r_t, Mapping):
            if groups is not None:
                raise SafeframeError("groups are named twice: by r_t and by groups; leave groups out")
            levels = dict(r_t)
        else:
            ids = [] if groups is None else list(groups)
            if len(set(ids)) < len(ids):
                raise SafeframeError(f"the ids of groups {ids} are not distinct")
            levels = dict.fromkeys(ids, r_t)
        if not levels:
            raise SafeframeError("there are no groups to monitor: name them by groups, or r_t by group")
        for key in levels:
            if not isinstance(key, str | int) or isinstance(key, bool):
                raise SafeframeError(f"group id {key!r} is neither a text nor an integer")
        each = self.alpha / len(levels)
        self.monitors: dict[Any, RiskMonitor] = {
            key: RiskMonitor(level, each, alternatives) for key, level in levels.items()
        }
        self.rounds = 0
        self.alarm_at: int | None = None
        self.behind: Any = None

    def update(self, label: Any, group: Any = None, accepted: Any = None) -> bool:
        """Count the labels of a round.

        Args:
            label: (n,) in the order of arrival, each 0 safe or 1 unsafe, with their groups in ``group``; or a
                mapping from group id to its labels.
            group: (n,) ids, or one id for all; None with a mapping.
            accepted: (n,) bool, which labels belong to accepted decisions; None: all do.

        Returns:
            Whether there has been a combined alarm.

        Raises:
            SafeframeError: on labels that are missing or neither 0 nor 1, unknown groups, or shapes that
                differ; nothing is counted then.
        """
        for key, labels in self._by_group(label, group, accepted).items():
            self.monitors[key].update(labels)
        self.rounds += 1
        if self.alarm_at is None and self.log_e_value >= -math.log(self.alpha):
            self.alarm_at = self.rounds
            self.behind = max(self.monitors, key=lambda key: self.monitors[key].log_e_value)
        return self.alarm_at is not None

    def _by_group(self, label: Any, group: Any, accepted: Any) -> dict[Any, Any]:
        if isinstance(label, Mapping):
            if group is not None or accepted is not None:
                raise SafeframeError("labels by group come without group= and accepted=: leave others out")
            self._known(label)
            return {key: checked_labels(labels) for key, labels in label.items()}
        labels = checked_labels(label)
        if group is None:
            raise SafeframeError("which group the labels are of is missing: update(label, group=...)")
        ids = np.atleast_1d(to_numpy(group))
        ids = np.broadcast_to(ids, labels.shape) if ids.size == 1 else ids
        if ids.shape != labels.shape:
            raise SafeframeError(f"group has shape {ids.shape}; expected one id, or {labels.shape}")
        kept = np.ones(len(labels), bool) if accepted is None else np.atleast_1d(to_numpy(accepted))
        checked_labels(label, accepted)
        present = np.unique(ids).tolist()
        self._known(present)
        return {key: labels[kept & (ids == key)] for key in present}

    def _known(self, keys: Any) -> None:
        for key in keys:
            if key not in self.monitors:
                raise SafeframeError(f"group {key!r} is not monitored; known: {list(self.monitors)}")

    @property
    def log_e_value(self) -> float:
        """Logarithm of the mean of the groups' wealths now."""
        logs = [monitor.log_e_value for monitor in self.monitors.values()]
        return float(np.logaddexp.reduce(logs)) - math.log(len(logs))

    @property
    def alarm(self) -> bool:
        """Whether the mean of the wealths has passed 1 / alpha at the end of a round."""
        return self.alarm_at is not None

    @property
    def alarmed(self) -> list[Hashable]:
        """The groups whose own wealth has ever passed G / alpha."""
        return [key for key, monitor in self.monitors.items() if monitor.alarm]

    @property
    def suspects(self) -> list[Hashable]:
        """The groups that e-BH names now.

        Those of the k largest wealths, for the largest k at which all of these are at least G / (k alpha).
        """
        logs = {key: monitor.log_e_value for key, monitor in self.monitors.items()}
        order = sorted(logs, key=lambda key: -logs[key])
        bars = [math.log(len(order) / (k * self.alpha)) for k in range(1, len(order) + 1)]
        enough = [k for k, (key, bar) in enumerate(zip(order, bars, strict=True), 1) if logs[key] >= bar]
        named = set(order[: max(enough, default=0)])
        return [key for key in self.monitors if key in named]

    def report(self) -> GroupsReport:
        """What was found so far.

        Returns:
            The report of all groups. The statements in a group's own hold with confidence 1 - alpha / G, so
                that those of all groups hold together with 1 - alpha.
        """
        log = self.log_e_value
        return GroupsReport(
            {key: monitor.report() for key, monitor in self.monitors.items()},
            math.exp(log) if log < 709.0 else math.inf, self.alarm_at, self.behind, self.alarmed,
            self.suspects,
        )  # fmt: skip

    def restart(self) -> None:
        """Forget all labels: a new test with an alpha of its own."""
        for monitor in self.monitors.values():
            monitor.restart()
        self.rounds, self.alarm_at, self.behind = 0, None, None

    def state(self) -> dict[str, Any]:
        """All that has to be kept to go on equally.

        Returns:
            Settings and counts, fit for JSON.
        """
        return {
            "kind": "RiskMonitors",
            "format": _FORMAT,
            "alpha": self.alpha,
            "groups": [[key, monitor.state()] for key, monitor in self.monitors.items()],
            "rounds": self.rounds,
            "alarm_at": self.alarm_at,
            "behind": self.behind,
        }

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> RiskMonitors:
        """Monitors that go on from a state.

        Args:
            state: of :meth:`state`.

        Returns:
            The monitors.

        Raises:
            SafeframeError: on what is no state of monitors, or of another format.
        """
        with restoring(state, "RiskMonitors", _FORMAT, "monitors"):
            parts = {key: RiskMonitor.from_state(part) for key, part in state["groups"]}
            found = cls({key: part.r_t for key, part in parts.items()}, alpha=state["alpha"])
            found.monitors = parts
            found.rounds, found.alarm_at, found.behind = state["rounds"], state["alarm_at"], state["behind"]
        return found
