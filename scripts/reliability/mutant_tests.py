"""A plugin of pytest: pass the tests once, then run for each mutant those that call what it changes."""

from __future__ import annotations

import os
import resource
import select
import signal
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from mutants import Mutant, called_by, functions, graft

LEAST_SECONDS, TIMES = 20, 10  # the limit: so many processor seconds more than ten times the tests


class MutantTests:
    """Replaces pytest's loop over the tests.

    Args:
        module: of the mutants.
        mutants: to try.
        note: called with each mutant, its outcome, the test that killed it, and the seconds.
    """

    def __init__(
        self, module: str, mutants: Sequence[Mutant], note: Callable[[Mutant, str, str, float], None]
    ) -> None:
        self.module, self.mutants, self.note = module, mutants, note
        self.ready = False
        self.failed: list[str] = []
        self.kills: Counter[str] = Counter()

    def pytest_configure(self, config: pytest.Config) -> None:
        """A failure is enough: Hypothesis need not find the smallest example, nor be quick."""
        import hypothesis

        phases = (hypothesis.Phase.explicit, hypothesis.Phase.generate)
        hypothesis.settings.register_profile("mutants", phases=phases, deadline=None, database=None)
        hypothesis.settings.load_profile("mutants")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.failed.append(report.nodeid)

    def pytest_report_teststatus(self, report: pytest.TestReport) -> tuple[str, str, str]:
        return report.outcome, "", ""

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        if session.testsfailed:
            return True
        calls: dict[str, set] = {}
        seconds: dict[str, float] = {}
        for item in session.items:
            started = time.process_time()
            calls[item.nodeid] = called_by(lambda item=item: perform(item), {self.module})
            seconds[item.nodeid] = time.process_time() - started
        if self.failed:
            print("\n".join(self.failed), file=sys.stderr)
            return True
        file = str(sys.modules[self.module].__file__)
        line_of = {
            name: function.__code__.co_firstlineno
            for name, function in functions(vars(sys.modules[self.module]), self.module)
        }
        by_function: dict[str, list[pytest.Item]] = defaultdict(list)
        for name, line in line_of.items():
            by_function[name] = [item for item in session.items if (file, line) in calls[item.nodeid]]
        unchanged = replace(self.mutants[0], function="", source=Path(file).read_text(encoding="utf-8"))
        self.ready = (
            self.one(unchanged, session.items, LEAST_SECONDS + TIMES * sum(seconds.values()))[0] == "survived"
        )
        if not self.ready:
            return True
        killers: dict[str, Counter[str]] = defaultdict(Counter)
        for mutant in self.mutants:
            items = by_function.get(known_function(mutant.function, line_of), session.items)
            mine = killers[mutant.function]
            ordered = sorted(
                items,
                key=lambda item: (-mine[item.nodeid], -min(self.kills[item.nodeid], 3), seconds[item.nodeid]),
            )
            limit = LEAST_SECONDS + TIMES * sum(seconds[item.nodeid] for item in ordered)
            started = time.perf_counter()
            outcome, by = self.one(mutant, ordered, limit)
            if outcome == "killed":
                self.kills[by] += 1
                mine[by] += 1
            self.note(mutant, outcome, by, time.perf_counter() - started)
        return True

    def one(self, mutant: Mutant, items: Sequence[pytest.Item], limit: float) -> tuple[str, str]:
        """The outcome of one mutant, and which test killed it."""
        if not items:
            return "survived", "no test calls it"
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reading)
            code = 1
            try:
                resource.setrlimit(resource.RLIMIT_CPU, (int(limit), int(limit) + 1))
                resource.setrlimit(resource.RLIMIT_AS, (12 << 30, 12 << 30))
                quiet()
                code = self.in_child(mutant, items, writing)
            finally:
                os._exit(code)
        os.close(writing)
        told = b""
        until = time.monotonic() + 6 * limit  # the machine may do other things
        while time.monotonic() < until:
            if select.select([reading], [], [], 1.0)[0]:
                part = os.read(reading, 4096)
                if not part:
                    break
                told += part
        else:
            os.kill(child, signal.SIGKILL)
        os.close(reading)
        status = os.waitpid(child, 0)[1]
        if os.WIFSIGNALED(status):
            return "killed", "time" if os.WTERMSIG(status) in (signal.SIGXCPU, signal.SIGKILL) else "crash"
        if os.WEXITSTATUS(status) == 3:
            return "survived", f"{len(items)} tests"
        return "killed", told.decode() or "import"

    def in_child(self, mutant: Mutant, items: Sequence[pytest.Item], writing: int) -> int:
        graft(mutant)
        for item in items:
            perform(item)
            if self.failed:
                os.write(writing, self.failed[0].encode())
                return 1
        return 3


def known_function(name: str, known: dict[str, int]) -> str:
    """The function of the module, or of a class, that holds what may be an inner function."""
    while name and name not in known:
        name = name.rpartition(".")[0]
    return name


def perform(item: pytest.Item) -> None:
    item.config.hook.pytest_runtest_protocol(item=item, nextitem=None)


def quiet() -> None:
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)
    os.dup2(nothing, 2)
