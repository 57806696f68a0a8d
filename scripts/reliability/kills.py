"""Runs that are killed (kill -9) at random moments and begun again: is the result that of a run left alone?

A case is one run of an experiment's smallest preset. It is killed several times, each time in a stage that is
drawn among those that an uninterrupted run goes through, at a random moment of it; then it may finish. All it
leaves must be the same bytes as what an uninterrupted run left: results, tables, the names of all files.

The run is done in a process that is forked from one that has imported everything. With `engine` its engine is
joblib with two workers, and one of these is killed as often as all of them together; then its task is done
again, and the run goes on.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from cases import BUILD, CRASH, SAME, WRONG, Cases, digest

EXPERIMENTS = ("production", "theory", "safetygym", "llm")
KILLS_A_CASE = 5
MEASURED, MEASURED_TABLE = b",monitor.update_ns,", "monitor_time.csv"
"""The one processor time among theory's results: no two runs have the same."""
LONGEST = 900.0  # seconds that a run may take on a busy machine


def configuration(name: str, output: Path, more: tuple[str, ...] = ()) -> Any:
    from hydra import compose, initialize_config_dir

    from experiments.support import entry, registry  # noqa: F401 (the entry registers resolvers)
    from experiments.support.config import to_object
    from experiments.support.files import REPOSITORY

    registry.register_schemas()
    words = [f"experiment={name}", "preset=smoke", f"output={output}", "threads=1", "progress=false", *more]
    with initialize_config_dir(str(REPOSITORY / "configs"), version_base="1.3"):
        return to_object(compose("config", overrides=words), registry.get(name).schema)


def start(config: Any, log: Path) -> int:
    """A forked process, leader of its own group, that does the run; what it says goes to a file."""
    from experiments.support import registry
    from experiments.support.runs import running

    child = os.fork()
    if child:
        return child
    code = 1
    try:
        os.setsid()
        handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        root = logging.getLogger()
        root.handlers[:] = [logging.StreamHandler(sys.stderr)]
        root.setLevel(logging.INFO)
        running.perform(registry.get(config.experiment), config)
        code = 0
    except BaseException as error:  # noqa: BLE001 (a child must not return into the campaign)
        print(repr(error), file=sys.stderr, flush=True)
    finally:
        os._exit(code)


def ended(child: int) -> int | None:
    found, status = os.waitpid(child, os.WNOHANG)
    return status if found else None


def stages_of(log: Path) -> list[tuple[str, bool]]:
    """Stages that a log names, each with whether it has ended, in order; its lines may begin with a time."""
    found: dict[str, bool] = {}
    for text in log.read_text(errors="replace").splitlines() if log.exists() else []:
        line = re.sub(r"^\d\d:\d\d:\d\d ", "", text)
        if line.endswith(" …"):
            found[line[:-2]] = False
        elif ": " in line and line.split(": ")[0] in found:
            found[line.split(": ")[0]] = True
    return list(found.items())


def finish(config: Any, log: Path, child: int | None = None) -> int:
    """Do a run, or one that goes on already, to its end; its wait status."""
    child, until = child or start(config, log), time.monotonic() + LONGEST
    while (status := ended(child)) is None:
        if time.monotonic() > until:
            os.killpg(child, signal.SIGKILL)
        time.sleep(0.02)
    return status


def left(root: Path, name: str) -> dict[str, str]:
    """What finished runs leave: names of all files, and the content of results and tables."""
    from experiments.support.results import collect, frames

    runs = [root / name / run.run for run in collect.finished(name, root=root)]
    tables = sorted(path for run in runs for pattern in frames.TABLES for path in run.glob(pattern))
    names = [
        str(path.relative_to(root)) for path in root.rglob("*") if path.suffix != ".lock" and path.is_file()
    ]
    content = {}
    for path in tables:
        if path.name == MEASURED_TABLE or (path.suffix == ".parquet" and name == "theory"):
            continue  # theory's only one holds the rows of results.csv
        lines = path.read_bytes().split(b"\n") if path.suffix == ".csv" else [path.read_bytes()]
        kept = b"\n".join(line for line in lines if MEASURED not in line)
        content[f"{path.parent.name}/{path.name}"] = digest(np.frombuffer(kept, np.uint8))
    return content | {"names": digest(sorted(names))}


def killed_in(
    child: int, log: Path, stage: str, seconds: float, worker: bool, rng: np.random.Generator
) -> tuple[str, bool]:
    """Kill a run that goes on, or one of its workers (the run, where it has none), in a stage.

    Returns:
        Where ("finished" or "failed": it ended before it came there), and whether the run still goes on.
    """
    where = "nowhere"
    until, wait = time.monotonic() + LONGEST, float(rng.uniform(0.0, seconds))
    reached: float | None = None
    while time.monotonic() < until:
        if (status := ended(child)) is not None:
            return "failed" if status else "finished", False
        names = dict(stages_of(log))
        if reached is None and (stage in names or (stage == "start" and log.exists())):
            reached = time.monotonic()
        if reached is not None and time.monotonic() >= reached + wait:
            open_ = [name for name, over in stages_of(log) if not over]
            where = (open_ or [stage if stage == "start" else "between stages"])[-1]
            below = workers_of(child) if worker else []
            if below:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(rng.choice(below)), signal.SIGKILL)
                return f"worker in {where}", True
            break
        time.sleep(0.005)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return where, False


def workers_of(process: int) -> list[int]:
    """Processes of joblib below one; an experiment that gives its engine no tasks has none."""
    return [one for one in descendants(process) if "LokyProcess" in title(one)]


def title(process: int) -> str:
    """How a process was started; empty if it has ended."""
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return ""


def descendants(process: int) -> list[int]:
    """Processes below one."""
    try:
        children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    except OSError:
        return []
    return [found for child in map(int, children) for found in (child, *descendants(child))]


def run(seed: int, count: int, only: str = "", engine: bool = False) -> Cases:
    """`count` kills of every experiment."""
    import experiments.support.runs.running  # noqa: F401 (imported before the forks)
    from experiments.support import manifest, registry
    from experiments.support.runs import running

    cases = Cases("engine" if engine else "kills", seed)
    for name in EXPERIMENTS:
        kind = f"{name}, engine" if engine else name
        if only not in name or not list(cases.left(kind, count)):
            continue
        more = ("engine=joblib", "engine.workers=2", f"engine.retries={KILLS_A_CASE}") if engine else ()
        running.code_of(registry.get(name))
        manifest.git_commit(), manifest.git_dirty(), manifest.versions()
        scratch = BUILD / "kills" / kind.replace(", ", "_")
        reference = scratch / "reference"
        shutil.rmtree(reference, ignore_errors=True)
        scratch.mkdir(parents=True, exist_ok=True)
        whole = configuration(name, reference, more)
        assert finish(whole, scratch / "reference.log") == 0, (scratch / "reference.log").read_text()
        expected = left(reference, name)
        seconds = stage_seconds(reference, name)
        while waiting := [number for number, _ in cases.left(kind, count)][:KILLS_A_CASE]:
            one_case(kind, name, waiting, cases, scratch, expected, seconds, more)
    return cases


def stage_seconds(root: Path, name: str) -> dict[str, float]:
    from experiments.support.results import collect

    (run,) = collect.finished(name, root=root)
    stages = {stage: float(about["seconds"]) for stage, about in run.manifest["stages"].items()}
    return {"start": 0.2} | stages


def one_case(
    kind: str, name: str, numbers: list[int], cases: Cases, scratch: Path, expected: dict[str, str],
    seconds: dict[str, float], more: tuple[str, ...],
) -> None:  # fmt: skip
    """One run, killed once for each number, then finished and compared."""
    root, log = scratch / "case", scratch / "case.log"
    shutil.rmtree(root, ignore_errors=True)
    config = configuration(name, root, more)
    places: list[tuple[int, str]] = []
    child: int | None = None
    whole = False
    order, drawn = list(seconds), []
    for number in numbers:
        rng = cases.generator(kind, number)
        drawn.append((int(rng.integers(len(order))), number, bool(more) and rng.random() < 0.5, rng))
    for at, number, worker, rng in sorted(drawn, key=lambda one: one[:2]):  # what is done does not come again
        if whole:
            places.append((number, places[-1][1]))
            continue
        if child is None:
            log.unlink(missing_ok=True)
            child = start(config, log)
        where, goes_on = killed_in(child, log, order[at], seconds[order[at]], worker, rng)
        places.append((number, where))
        whole = where in ("finished", "failed")
        child = child if goes_on else None
    status = 1 if places[-1][1] == "failed" else finish(config, log, child)
    outcome, detail = CRASH, log.read_text(errors="replace")[-300:]
    if status == 0:
        outcome, detail = compared(expected, left(root, name))
    keep(cases, kind, places, outcome, detail)


def compared(expected: dict[str, str], found: dict[str, str]) -> tuple[str, str]:
    """The outcome of a case that ended, and what of it differs."""
    different = sorted(key for key in expected | found if expected.get(key) != found.get(key))
    return (WRONG, f"differs in {different}") if different else (SAME, "")


def keep(cases: Cases, kind: str, places: list[tuple[int, str]], outcome: str, detail: str) -> None:
    """Keep a case for every kill, of (number, where); all kills of one run share its outcome."""
    for number, place in places:
        what = place if place == "finished" else f"killed in {place}"
        cases.add(kind, number, what, outcome, detail)
    print(kind, places, outcome, detail, flush=True)
