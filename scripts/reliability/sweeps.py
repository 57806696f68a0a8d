"""Sweeps on Ray that are killed (kill -9) and begun again: is the result that of a serial sweep left alone?

A case is one sweep of an experiment's smallest preset over seeds. It is killed several times, each time in a
stage of a job that is drawn among those that a serial sweep goes through, at a random moment of it: half the
time the command itself (then the same command is typed again), half the time a worker of Ray that does a job
(then Ray begins the job again, and the command goes on). Then it may finish: its exit code must be 0, its
record must say that every job is done, and what all runs left must be the same bytes as after a serial sweep.

Ray's processes end by themselves once their command is dead; what is left of them after some seconds is
killed too, before the command is typed again.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from cases import BUILD, CRASH, REPOSITORY, WRONG, Cases
from kills import KILLS_A_CASE, LONGEST, compared, descendants, keep, left, stages_of, title

EXPERIMENTS = ("production", "llm")
SEEDS = (0, 1, 2)
AT_A_TIME = 2
BEFORE = "the time before the first job"  # the command imports, Ray starts
GRACE = 15.0  # seconds that Ray's processes may take to see that their command is dead
_BECOME_SUBREAPER = 36  # of prctl(2)

Place = tuple[int, str]
"""A job's number, from 1, and a stage of it; job 0 stands for what comes before all of them."""


def missing() -> str:
    """Why the part cannot be done here; empty if it can."""
    if importlib.util.find_spec("ray") is None:
        return "the package ray is not installed (make test-cluster installs it)"
    return ""


class Command:
    """A sweep as it is typed, in a process group of its own.

    Args:
        experiment: of the sweep.
        root: folder of its runs.
        launcher: serial, or ray.
        log: file that takes what it prints.
    """

    def __init__(self, experiment: str, root: Path, launcher: str, log: Path) -> None:
        words = [f"experiment={experiment}", "preset=smoke", f"launcher={launcher}", f"output={root}"]
        words += ["threads=1", "progress=false", f"seed={','.join(map(str, SEEDS))}"]
        if launcher == "ray":
            words += [f"hydra.launcher.n_jobs={AT_A_TIME}", f"hydra.launcher.retries={KILLS_A_CASE}"]
        self.root, self.log, self.before = root, log, set(records(root))
        environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        self.scratch = Path(tempfile.mkdtemp(prefix="ray"))  # short, for its sockets
        environment["RAY_TMPDIR"] = str(self.scratch)
        with log.open("w") as file:
            self.process = subprocess.Popen(
                [sys.executable, str(REPOSITORY / "run.py"), "-m", *words], stdout=file,
                stderr=subprocess.STDOUT, cwd=REPOSITORY, env=environment, start_new_session=True,
            )  # fmt: skip
        self.started = time.monotonic()

    @property
    def record(self) -> Path | None:
        new = set(records(self.root)) - self.before
        return max(new) if new else None

    def stages(self) -> dict[Place, bool]:
        """Stages that jobs have begun, each with whether it has ended."""
        found: dict[Place, bool] = {}
        for number in range(1, len(SEEDS) + 1) if self.record else ():
            for stage, over in stages_of(self.record.with_suffix("") / f"job_{number}.log"):
                found[number, stage] = over
        return found

    def workers(self) -> list[int]:
        """Workers of Ray that do a job."""
        return [one for one in descendants(self.process.pid) if title(one).startswith("ray::_job")]

    def wait(self) -> int:
        """Wait until it ends by itself; its exit code."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(max(self.started + LONGEST - time.monotonic(), 1.0))
        if self.process.poll() is None:
            self.kill()
        self.clear()
        return self.process.returncode

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.clear()

    def clear(self) -> None:
        """Wait for Ray's processes to end, then kill those that do not: they are ours by adoption."""
        until = time.monotonic() + GRACE
        while orphans := buried():
            if time.monotonic() > until:
                for one in orphans:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(one, signal.SIGKILL)
            time.sleep(0.05)
        shutil.rmtree(self.scratch, ignore_errors=True)


def adopt() -> None:
    """Processes whose parent dies become this process's, so that none is lost (Linux)."""
    ctypes.CDLL(None, use_errno=True).prctl(_BECOME_SUBREAPER, 1, 0, 0, 0)


def buried() -> list[int]:
    """Processes below this one, after those that are dead have been waited for."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    return descendants(os.getpid())


def records(root: Path) -> list[Path]:
    return sorted((root / "hydra").glob("sweep_*.jsonl"))


def undone(record: Path | None) -> str:
    """What a sweep's record says against all of its jobs being done; empty if nothing."""
    from experiments.support import sweep

    if record is None:
        return "no record"
    progress = sweep.read(record)
    fine = {job.number for job in progress.jobs if job.outcome in (sweep.DONE, sweep.SKIPPED)}
    others = [f"job {job.number} {job.outcome}" for job in progress.jobs if job.number not in fine]
    numbers = list(range(1, len(SEEDS) + 1))
    jobs = sorted(job.number for job in progress.jobs)
    if others or jobs != numbers or progress.total != len(numbers):
        return f"the record has jobs {jobs} of {progress.total} {others}"
    return ""


def left_by_all(root: Path, name: str) -> dict[str, str]:
    """What all finished runs of a sweep left, without the sweep's own records and logs."""
    shutil.rmtree(root / "hydra", ignore_errors=True)
    return left(root, name)


def killed_at(
    command: Command, place: Place, wait: float, worker: bool, rng: np.random.Generator
) -> tuple[str, bool]:
    """Kill a command, or one of its workers, in a stage; where ("finished": it never came there), and whether
    the command still runs.
    """
    reached: float | None = None
    while command.process.poll() is None and time.monotonic() < command.started + LONGEST:
        if reached is None and (place[0] == 0 or place in command.stages()):
            reached = time.monotonic()
        if reached is not None and time.monotonic() >= reached + wait:
            workers = command.workers() if worker else []
            stages = command.stages()
            open_ = [f"{stage} of job {number}" for (number, stage), over in stages.items() if not over]
            where = " and ".join(open_) or ("between stages" if stages else BEFORE)
            if workers:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(rng.choice(workers)), signal.SIGKILL)
                return f"worker in {where}", True
            if not worker:
                command.kill()
                return where, False
        time.sleep(0.01)
    return "finished", command.process.poll() is None


def run(seed: int, count: int, only: str = "") -> Cases:
    """`count` kills of a sweep of every experiment."""
    adopt()
    cases = Cases("sweep", seed)
    for name in EXPERIMENTS:
        kind = f"{name}, a sweep on Ray"
        if only not in name or not list(cases.left(kind, count)):
            continue
        scratch = BUILD / "sweep" / name
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)
        serial = Command(name, scratch / "reference", "serial", scratch / "reference.log")
        while serial.record is None and serial.process.poll() is None:
            time.sleep(0.01)
        beginning = time.monotonic() - serial.started
        assert serial.wait() == 0, serial.log.read_text()
        seconds = {(0, BEFORE): 2.0 * beginning} | stage_seconds(scratch / "reference", name)
        expected = left_by_all(scratch / "reference", name)
        while waiting := [number for number, _ in cases.left(kind, count)][:KILLS_A_CASE]:
            one_case(kind, name, waiting, cases, scratch, expected, seconds)
    return cases


def stage_seconds(root: Path, name: str) -> dict[Place, float]:
    """How long each stage of each job took, in the order in which jobs that run beside each other come by."""
    rows = []
    for path in root.glob(f"{name}/*/manifest.json"):
        about = json.loads(path.read_text(encoding="utf-8"))
        job = SEEDS.index(int(about["seed"])) + 1
        for at, (stage, one) in enumerate(about["stages"].items()):
            rows.append(((job - 1) // AT_A_TIME, at, job, stage, float(one["seconds"])))
    return {(job, stage): seconds for _, _, job, stage, seconds in sorted(rows)}


def one_case(
    kind: str, name: str, numbers: list[int], cases: Cases, scratch: Path, expected: dict[str, str],
    seconds: dict[Place, float],
) -> None:  # fmt: skip
    """One sweep, killed once for each number, then finished and compared."""
    root, log = scratch / "case", scratch / "case.log"
    shutil.rmtree(root, ignore_errors=True)
    order, drawn = list(seconds), []
    for number in numbers:
        rng = cases.generator(kind, number)
        drawn.append((int(rng.integers(len(order))), number, bool(rng.random() < 0.5), rng))
    places: list[tuple[int, str]] = []
    command: Command | None = None
    whole = False
    for at, number, worker, rng in sorted(drawn, key=lambda one: one[:2]):  # what is done does not come again
        if whole:
            places.append((number, "finished"))
            continue
        command = command or Command(name, root, "ray", log)
        wait = float(rng.uniform(0.0, seconds[order[at]]))
        where, runs = killed_at(command, order[at], wait, worker, rng)
        places.append((number, where))
        whole = where == "finished" and not runs
        command = command if runs or whole else None
    command = command or Command(name, root, "ray", log)
    code = command.wait()
    if code:
        outcome, detail = CRASH, f"exit code {code}: {log.read_text(errors='replace')[-250:]}"
    elif why := undone(command.record):
        outcome, detail = WRONG, why
    else:
        outcome, detail = compared(expected, left_by_all(root, name))
    keep(cases, kind, places, outcome, detail)
