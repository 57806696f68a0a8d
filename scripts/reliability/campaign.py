"""The robustness campaign: what happens to runs, guards and logs when things go wrong, counted.

    python scripts/reliability/campaign.py PART [--count 50] [--seed 1] [--only WORD]

PART is one of

    kills      kill -9 in every stage of every experiment
    engine     the same with engine=joblib and two workers, which are killed too
    sweep      sweeps on Ray, of which the command and workers are killed (takes the package ray)
    damage     files cut short, or with one bit turned
    disk       too little room, or a read-only place (it mounts small file systems: root)
    clock      a clock that jumps
    together   two and eight processes on one store
    inputs     bad inputs to the public names of safeframe
    table      results/tables/reliability.csv from all of them

--count is for each experiment or kind. A case is drawn by the seed, its kind and its number, and kept in
build/reliability/PART_SEED.csv as soon as it is done, so that a campaign goes on where it was stopped.
Outcomes: `refused` by a documented error, `same` result as without the fault, `wrong` (another result without
an error), `crash` (an error that is not documented). The last two must not be.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(variable, "1")
os.environ.setdefault("MPLBACKEND", "Agg")
REPOSITORY = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(REPOSITORY), str(HERE), str(REPOSITORY / "tests" / "helpers")]

from cases import BAD, BUILD, Cases  # noqa: E402

COUNTS = {
    "kills": 50, "engine": 10, "sweep": 15, "damage": 65, "disk": 12, "clock": 8, "together": 5, "inputs": 70
}  # fmt: skip
"""Cases of each experiment or kind where --count is not given."""


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("part", choices=[*COUNTS, "table"])
    parser.add_argument("--count", type=int, default=0, help="cases of each experiment or kind")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="experiments or kinds that have this in their name")
    parser.add_argument("--name", default="reliability", help="of the table")
    options = parser.parse_args(arguments)
    if options.part == "table":
        from tables import write_table

        print(write_table(options.seed, options.name))
        return 0
    if options.part == "sweep":
        import sweeps

        if why := sweeps.missing():
            print(f"sweep: skipped, {why}")
            return 0
    cases = part(options.part, options.seed, options.count or COUNTS[options.part], options.only)
    bad = [row for row in cases.rows if row.outcome in BAD]
    for row in bad:
        print(f"{row.kind}, case {row.number}, {row.what}: {row.outcome}: {row.detail}", file=sys.stderr)
    print(f"{len(cases.rows)} cases with seed {options.seed}, {len(bad)} wrong or crashed")
    return int(bool(bad))


def part(name: str, seed: int, count: int, only: str) -> Cases:
    """Do the cases of one part that are left."""
    if name in ("kills", "engine"):
        import kills

        return kills.run(seed, count, only, name == "engine")
    if name == "sweep":
        import sweeps

        return sweeps.run(seed, count, only)
    if name == "together":
        import together

        return together.run(seed, count)
    if name == "inputs":
        return inputs(seed, count)
    import damage
    import storage

    if name == "disk" and not storage.may_mount():
        sys.exit("error: `disk` mounts small file systems, which takes root")
    run = {"damage": damage.run, "disk": storage.disk, "clock": storage.clock}[name]
    return run(reference(), seed, count, only)


def reference() -> Path:
    """Finished smoke runs of every experiment, made where they are missing."""
    import kills

    root = BUILD / "reference"
    for name in kills.EXPERIMENTS:
        if not list((root / name).glob("*/DONE")):
            root.mkdir(parents=True, exist_ok=True)
            log = root / f"{name}.log"
            if kills.finish(kills.configuration(name, root), log):
                sys.exit(f"error: the run of {name} failed: {log}")
    return root


def inputs(seed: int, count: int) -> Cases:
    """Bad inputs: see tests/helpers/bad_inputs.py, which the tests use too."""
    from bad_inputs import CALLS, tried

    cases = Cases("inputs", seed)
    names = {"refused": "refused", "answered": "same", "wrong": "crash"}
    for kind in CALLS:
        for number, rng in cases.left(kind, count):
            outcome, detail = tried(kind, rng)
            cases.add(kind, number, "a bad argument", names[outcome], detail)
    return cases


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
