"""Kill a run of the toy experiment at every step, run it again, and print as JSON what came of it.

SIGKILL, before or after every file it puts in place and at every step of the experiment. A program of its
own: it forks.

python kill_everywhere.py <scratch directory> [all]

Without `all`, files take turns: the first is killed before, the second after it is in place, and so on.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from toy_experiments.toy.config import ToyConfig

from experiments.support import manifest, registry, seeding
from experiments.support.results import frames
from experiments.support.runs import running

STEPS = ("data", "epoch 0", "epoch 1", "epoch 3", "trained", "evaluated")
replace = os.replace


def in_child(action: Callable[[], None]) -> int:
    """Do something in a forked process; its wait status."""
    child = os.fork()
    if child == 0:
        try:
            action()
        except BaseException as error:  # noqa: BLE001 (the child must not return into the loop)
            print(repr(error), file=sys.stderr)
            os._exit(1)
        os._exit(0)
    return os.waitpid(child, 0)[1]


def run(root: Path, kill_before: int = -1, kill_after: int = -1, step: str = "") -> Callable[[], None]:
    def action() -> None:
        count = 0

        def counted(source, target) -> None:
            nonlocal count
            if count == kill_before:
                os.kill(os.getpid(), signal.SIGKILL)
            replace(source, target)
            if count == kill_after:
                os.kill(os.getpid(), signal.SIGKILL)
            count += 1

        os.replace = counted
        os.environ["TOY_KILL_AT"] = step
        os.environ["TOY_LOG"] = str(root.with_suffix(".log"))
        running.perform(
            registry.get("toy"), ToyConfig(experiment="toy", output=str(root), progress=False, threads=1)
        )
        root.with_suffix(".count").write_text(str(count))

    return action


def outcome(root: Path) -> dict:
    """The bytes of what a run leaves and the names of everything under its root."""
    (done,) = (root / "toy").glob("*/DONE")
    content = {name: (done.parent / name).read_bytes().hex() for name in frames.MAIN}
    record = frames.done(done.parent)
    for name in frames.ABOUT:  # they hold times, and this folder's name
        del record["beside"][name]
    content["DONE"] = json.dumps(record)
    names = sorted(str(path.relative_to(root)) for path in root.rglob("*") if not path.name.endswith(".lock"))
    return {"content": content, "names": names}


def main(scratch: Path, everything: bool) -> None:
    # what every child would find out anew
    running.code_of(registry.get("toy"))
    manifest.git_commit(), manifest.git_dirty(), manifest.versions()
    seeding.limit_threads(1)  # loads torch
    reference = scratch / "reference"
    assert in_child(run(reference)) == 0
    expected = outcome(reference)
    count = int(reference.with_suffix(".count").read_text())
    cases = [{"kill_after" if i % 2 else "kill_before": i} for i in range(count)]
    cases += [{"kill_before" if i % 2 else "kill_after": i} for i in range(count)] * everything
    cases += [{"step": step} for step in STEPS]
    reports = []
    for index, case in enumerate(cases):
        root = scratch / f"case{index}"
        killed = in_child(run(root, **case))
        again = in_child(run(root))
        steps = root.with_suffix(".log").read_text().splitlines() if root.with_suffix(".log").exists() else []
        reports.append(
            case
            | {"killed": os.WIFSIGNALED(killed) and os.WTERMSIG(killed) == signal.SIGKILL}
            | {"again": again, "same": again == 0 and outcome(root) == expected, "steps": steps}
        )
    print(json.dumps({"replacements": count, "cases": reports}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), "all" in sys.argv)
