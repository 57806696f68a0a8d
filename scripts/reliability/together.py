"""Several processes on one store: two and eight that do the same tasks, stage, run, or write one log."""

from __future__ import annotations

import functools
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from cases import CRASH, SAME, WRONG, Cases, digest


def run(seed: int, count: int) -> Cases:
    """`count` cases of every kind with two and with eight processes."""
    cases = Cases("together", seed)
    for name, work in {"tasks": tasks, "stage": stage, "log": log, "a run of production": whole_run}.items():
        for processes in (2, 8):
            kind = f"{name}, {processes} processes"
            for number, _ in cases.left(kind, 3 if work is whole_run else count):
                with tempfile.TemporaryDirectory() as folder:
                    outcome, detail = work(Path(folder), processes, number)
                cases.add(kind, number, "at once", outcome, detail)
            mine = [row.outcome for row in cases.rows if row.kind == kind]
            print(kind, {one: mine.count(one) for one in (SAME, WRONG, CRASH)}, flush=True)
    return cases


def at_once(processes: int, action: Callable[[int], object]) -> list[int]:
    """Do something in forked processes that begin together; their exit codes."""
    reading, writing = os.pipe()
    children = []
    for number in range(processes):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                os.close(writing)
                os.read(reading, 1)  # until all are there
                action(number)
                code = 0
            except BaseException as error:  # noqa: BLE001 (a child must not return into the campaign)
                print(repr(error), flush=True)
            finally:
                os._exit(code)
        children.append(child)
    os.close(reading)
    os.close(writing)
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


def judged(codes: list[int], wrong: str) -> tuple[str, str]:
    if any(codes):
        return CRASH, f"exit codes {codes}"
    return (WRONG, wrong) if wrong else (SAME, "")


def stage(folder: Path, processes: int, number: int) -> tuple[str, str]:
    """A stage that every process asks for: one computes it, all get the same."""
    from kinds import a_stage, array_to, numbers

    def compute() -> np.ndarray:
        with (folder / "computed").open("a") as file:
            file.write("x")
        return numbers()

    def action(mine: int) -> None:
        value = a_stage(folder).cached(compute, array_to, np.load, ".npy")
        (folder / f"got_{mine}").write_text(digest(value))

    codes = at_once(processes, action)
    got = {path.read_text() for path in folder.glob("got_*")}
    times = len((folder / "computed").read_text())
    return judged(codes, "" if got == {digest(numbers())} and times == 1 else f"computed {times} times")


def tasks(folder: Path, processes: int, number: int) -> tuple[str, str]:
    """Tasks that every process goes through: each is done once."""
    from kinds import TASKS, square, task_store

    def action(mine: int) -> None:
        store, order = task_store(folder), np.random.default_rng([number, mine]).permutation(len(TASKS))
        for at in order:
            with store.claim(TASKS[at], wait=True):
                if not store.done(TASKS[at]):
                    with (folder / f"done_{at}").open("a") as file:
                        file.write("x")
                    store.keep(TASKS[at], square(*TASKS[at].arguments), 0.1)
        assert [digest(store.load(one)) for one in TASKS] == [digest(square(*one.arguments)) for one in TASKS]

    folder.joinpath("tasks").mkdir()
    codes = at_once(processes, action)
    times = [len(path.read_text()) for path in folder.glob("done_*")]
    return judged(codes, "" if times == [1] * len(TASKS) else f"done {times} times")


def log(folder: Path, processes: int, number: int) -> tuple[str, str]:
    """A log that every process writes batches and labels to: all are there, whole and in order."""
    from kinds import a_guard

    from safeframe import GuardLog

    guard, batches, rows = a_guard(), 6, 5
    GuardLog(folder / "log", guard).close()

    def action(mine: int) -> None:
        rng = np.random.default_rng([number, mine])
        with GuardLog(folder / "log", guard) as one:
            for batch in range(batches):
                names = [f"{mine}-{batch}-{row}" for row in range(rows)]
                one.act(rng.normal(size=(rows, 1)), ids=names)
                one.label(names[:3], [0, 1, 0])

    codes = at_once(processes, action)
    with GuardLog(folder / "log", guard) as whole:
        whole.check()
        seqs = [row[0] for row in whole.database.read("SELECT seq FROM decisions ORDER BY seq")]
        labels = whole.database.read("SELECT count(*) FROM labels")[0][0]
        query = "SELECT count(*) FROM (SELECT batch FROM decisions GROUP BY batch HAVING count(*) != ?)"
        mixed = whole.database.read(query, (rows,))[0][0]
    n = processes * batches * rows
    fine = seqs == list(range(1, n + 1)) and labels == processes * batches * 3 and not mixed
    return judged(codes, "" if fine else f"{len(seqs)} decisions, {labels} labels, {mixed} batches mixed")


def whole_run(folder: Path, processes: int, number: int) -> tuple[str, str]:
    """One run that every process is asked for: all see it done, and it is that of a process alone."""
    codes, found = runs_at_once(folder, processes)
    return judged(codes, "" if found == one_run() else "not what one process leaves")


@functools.cache
def one_run() -> dict[str, str]:
    with tempfile.TemporaryDirectory() as folder:
        codes, found = runs_at_once(Path(folder), 1)
    assert codes == [0]
    return found


def runs_at_once(folder: Path, processes: int) -> tuple[list[int], dict[str, str]]:
    from kills import configuration, left

    from experiments.support import registry
    from experiments.support.runs import running

    config = configuration("production", folder / "runs")
    codes = at_once(processes, lambda _: running.perform(registry.get("production"), config))
    return codes, left(folder / "runs", "production")
