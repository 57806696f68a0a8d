"""Keep pairs of episodes of finished Safety Gym runs for the report, guarded and not, and what was counted:

    python scripts/keep_episodes.py results/runs/safetygym/<id> ...

Writes results/episodes: two GIFs for each robot, and episodes.json (task, r_t, seed, steps in a hazard,
return, command, commit). The run of a robot that is there already is replaced. Only runs from a clean tree
are kept, unless --dirty is given.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from experiments.support.errors import ResultsError, UserError
from experiments.support.files import atomic_write, write_json
from experiments.support.results.publish import RESULTS
from experiments.support.results.saved import of_directory, require_clean

PAIR = "episodes.json"


def keep(directory: Path, place: Path, dirty: bool = False) -> dict[str, Any]:
    """Copy one run's pair of episodes to `place`; what episodes.json says of it.

    Raises:
        ResultsError: where the run is not finished, has no such episodes, or is from a dirty tree.
    """
    run = of_directory(directory)
    if not (directory / PAIR).is_file():
        raise ResultsError(f"{directory} holds no Safety Gym run with {PAIR}; run it with force=true")
    if not dirty:
        require_clean(run)
    counted, task = json.loads((directory / PAIR).read_text(encoding="utf-8")), str(run.setting("task"))
    robot = "car" if "Car" in task else "point"
    about = {
        "robot": robot, "task": task, "seed": run.seed, "run": run.run,
        "command": run.manifest["command"], "commit": run.manifest["commit"],
        **{key: counted[key] for key in ("r_t", "steps", "layout", "layouts")},
    }  # fmt: skip
    for kind in ("guarded", "unguarded"):
        file = f"{robot}_{kind}.gif"
        atomic_write(place / file, (directory / f"episode_{kind}.gif").read_bytes())
        about[kind] = {"file": file} | counted[f"episode_{kind}"]
    return about


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("runs", nargs="+", type=Path, help="directories of finished runs")
    parser.add_argument("--to", type=Path, default=RESULTS / "episodes", help="where they go")
    parser.add_argument("--dirty", action="store_true", help="take runs from a tree with uncommitted changes")
    options = parser.parse_args(arguments)
    index = options.to / PAIR
    known = json.loads(index.read_text(encoding="utf-8")) if index.is_file() else []
    try:
        found = [keep(run, options.to, options.dirty) for run in options.runs]
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    replaced = {one["robot"] for one in found}
    every = [one for one in known if one["robot"] not in replaced] + found
    write_json(index, sorted(every, key=lambda one: one["robot"], reverse=True))
    for one in found:
        print(f"{one['robot']}: {one['guarded']} under the guard, {one['unguarded']} without")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
