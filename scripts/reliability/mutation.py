"""Mutation testing of the modules on which the promises rest: would the tests notice a changed line?

    python scripts/reliability/mutation.py run [MODULE ...]     # resumes; or: make mutation
    python scripts/reliability/mutation.py run --seed 1 --sample 300
    python scripts/reliability/mutation.py show [MODULE ...]    # what survived, with the change
    python scripts/reliability/mutation.py table                # results/tables/reliability_mutation*.csv

Needs mutmut (requirements-optional.txt), of which the operators are taken (`mutants.py`). For every mutant
the tests that call what it changes run in a forked process, the ones that killed most before first, until one
fails. A mutant is *killed* by a failing test, or by a time limit of processor seconds; else it *survived*.
Outcomes are kept in build/mutation/MODULE.csv; a mutant whose code has not changed is not tried again unless
it survived, is not explained, and --again is given. `explained.csv` beside this file says of survivors why no
test can kill them.
"""

from __future__ import annotations

import argparse
import csv
import random
import sys
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(REPOSITORY), str(Path(__file__).resolve().parent)]

from mutants import Mutant, mutants_of  # noqa: E402

KEPT, TABLES = REPOSITORY / "build" / "mutation", REPOSITORY / "results" / "tables"
EXPLAINED = Path(__file__).with_name("explained.csv")
COLUMNS = ["key", "function", "line", "before", "after", "outcome", "by", "seconds"]
CORE = "tests/safeframe"
TESTS = {
    "safeframe.conservative_testing": [
        f"{CORE}/test_conservative_testing.py", f"{CORE}/test_internal_test.py", f"{CORE}/test_bad_inputs.py"
    ],
    "safeframe.risk_curve": [f"{CORE}/test_risk_curve.py", f"{CORE}/shards"],
    "safeframe.step_curve": [f"{CORE}/test_risk_curve.py", f"{CORE}/shards"],
    "safeframe.selected_risk": [f"{CORE}/test_selected_risk.py", f"{CORE}/priced/test_curve.py"],
    "safeframe.piecewise_curve": [
        f"{CORE}/test_piecewise_curve.py", f"{CORE}/test_selected_risk.py", f"{CORE}/test_shrinkage.py"
    ],
    "safeframe.certificates.cases": [f"{CORE}/certificates"],
    "safeframe.certificates.clusters": [f"{CORE}/certificates"],
    "safeframe.training.approximate_loss": [
        f"{CORE}/training/test_approximate_loss.py", f"{CORE}/training/test_finite_actions.py"
    ],
    "safeframe.threshold_rule.calibrated": [f"{CORE}/test_threshold_rule.py"],
    "safeframe.threshold_rule.prior": [f"{CORE}/test_threshold_rule.py"],
    "safeframe.threshold_rule.rule": [f"{CORE}/test_threshold_rule.py", f"{CORE}/test_shrinkage.py"],
    "safeframe.threshold_rule.rules": [f"{CORE}/test_threshold_rule.py"],
    "safeframe.informativeness.blocks": [f"{CORE}/test_informativeness.py"],
    "safeframe.informativeness.halves": [f"{CORE}/test_informativeness.py", f"{CORE}/test_threshold_rule.py"],
    "safeframe.informativeness.lipschitz": [f"{CORE}/test_informativeness.py"],
    "safeframe.informativeness.measured": [f"{CORE}/test_informativeness.py"],
}  # fmt: skip
"""Modules, and the smallest set of test files that is to notice their mutants."""


def kept(module: str) -> dict[str, dict[str, str]]:
    path = KEPT / f"{module}.csv"
    if not path.exists():
        return {}
    with path.open(newline="", encoding="utf-8") as file:
        return {row["key"]: row for row in csv.DictReader(file)}


def explained() -> dict[str, str]:
    if not EXPLAINED.exists():
        return {}
    with EXPLAINED.open(newline="", encoding="utf-8") as file:
        return {row["key"]: row["why"] for row in csv.DictReader(file)}


def run(modules: list[str], sample: int, seed: int, again: bool) -> None:
    import pytest
    from mutant_tests import MutantTests

    KEPT.mkdir(parents=True, exist_ok=True)
    why = explained()
    for module in modules:
        mutants, known = mutants_of(module), kept(module)
        total = len(mutants)
        random.Random(seed).shuffle(mutants)  # so that the first of them, however many, are a random sample
        new = [
            one
            for at, one in enumerate(mutants)
            if (one.key not in known and at < (sample or total))
            or (again and one.key not in why and known.get(one.key, {}).get("outcome") == "survived")
        ]
        print(f"{module}: {total} mutants, {len(new)} to try", flush=True)
        if not new:
            continue
        path, started = KEPT / f"{module}.csv", time.perf_counter()

        def note(
            mutant: Mutant, outcome: str, by: str, seconds: float, known: dict = known, path: Path = path
        ) -> None:
            known[mutant.key] = dict(zip(COLUMNS, (
                mutant.key, mutant.function, mutant.line, mutant.before, mutant.after, outcome, by,
                f"{seconds:.2f}",
            ), strict=True))  # fmt: skip
            write(path, list(known.values()))

        tests = MutantTests(module, new, note)
        code = pytest.main(
            [*(str(REPOSITORY / name) for name in TESTS[module]), "-m", "not long", "-q", "-x",
             "-p", "no:cacheprovider", "--hypothesis-seed=0", f"--rootdir={REPOSITORY}"],
            plugins=[tests],
        )  # fmt: skip
        if not tests.ready:
            sys.exit(f"error: the tests of {module} do not pass without a mutant (pytest: {code})")
        survived = sum(known[one.key]["outcome"] == "survived" for one in new)
        print(
            f"{module}: {survived} of {len(new)} survived, {time.perf_counter() - started:.0f} s", flush=True
        )
        for name in [name for name in sys.modules if name.split(".")[0] in ("safeframe", "tests")]:
            del sys.modules[name]


def write(path: Path, rows: list[dict]) -> None:
    temporary = path.with_suffix(".tmp")
    with temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    temporary.replace(path)


def show(modules: list[str]) -> None:
    why = explained()
    for module in modules:
        current = {one.key: one for one in mutants_of(module)}
        for key, row in kept(module).items():
            if row["outcome"] == "survived" and key in current:
                print(
                    f"{module} {current[key].line} {row['function']} [{key}] {why.get(key, 'NOT EXPLAINED')}"
                )
                print(f"    - {row['before']}\n    + {row['after']}")


def table(modules: list[str], seed: int) -> None:
    """results/tables/reliability_mutation.csv, and the survivors with what is said of them.

    Modules of which nothing is kept here keep the rows that the tables have.
    """
    import pandas as pd
    from scipy import stats

    why, rows, survivors = explained(), [], []
    counts_path, survivors_path = TABLES / "reliability_mutation.csv", TABLES / "reliability_survivors.csv"
    counts_before = pd.read_csv(counts_path)
    survivors_before = pd.read_csv(survivors_path, keep_default_na=False)
    for module in modules:
        if not kept(module):
            rows += counts_before[counts_before["module"] == module].to_dict("records")
            survivors += survivors_before[survivors_before["module"] == module].to_dict("records")
            continue
        current = {one.key: one for one in mutants_of(module)}
        tried = {key: row for key, row in kept(module).items() if key in current}
        left = [key for key, row in tried.items() if row["outcome"] == "survived"]
        equivalent = [key for key in left if key in why]
        n, k = len(tried) - len(equivalent), len(tried) - len(left)
        low, high = stats.beta.ppf([0.025, 0.975], [k, k + 1], [n - k + 1, n - k]) if n > k else (
            stats.beta.ppf(0.025, k, 1), 1.0
        )  # fmt: skip
        rows.append({
            "module": module, "mutants": len(current), "tried": len(tried), "killed": k,
            "explained": len(equivalent), "unexplained": len(left) - len(equivalent),
            "share": k / n, "low": low, "high": high, "seed": seed,
        })  # fmt: skip
        survivors += [
            {"module": module, "function": one.function, "line": one.line, "before": one.before,
             "after": one.after, "why": why.get(one.key, "")} for key in left for one in [current[key]]
        ]  # fmt: skip
    counts = pd.DataFrame(rows)
    sums = counts[["mutants", "tried", "killed", "explained", "unexplained"]].sum()
    n, k = int(sums["tried"] - sums["explained"]), int(sums["killed"])
    low, high = stats.beta.ppf([0.025, 0.975], [k, k + 1], [n - k + 1, max(n - k, 1e-9)])
    whole = {"module": "all", **sums, "share": k / n, "low": low, "high": high, "seed": seed}
    counts = pd.concat([counts, pd.DataFrame([whole])], ignore_index=True)
    counts.to_csv(counts_path, index=False, float_format="%.4g", lineterminator="\n")
    pd.DataFrame(survivors).to_csv(survivors_path, index=False, lineterminator="\n")
    print(counts.to_string())


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", choices=["run", "show", "table"])
    parser.add_argument("modules", nargs="*", metavar="MODULE")
    parser.add_argument("--sample", type=int, default=0, help="so many mutants of each module, at random")
    parser.add_argument("--seed", type=int, default=1, help="of the sample")
    parser.add_argument("--again", action="store_true", help="try again what survived unexplained")
    options = parser.parse_args(arguments)
    modules = options.modules or list(TESTS)
    if options.what == "run":
        for module in modules:  # a process each: imported modules are as new
            run([module], options.sample, options.seed, options.again)
    elif options.what == "show":
        show(modules)
    else:
        table(modules, options.seed)


if __name__ == "__main__":
    main(sys.argv[1:])
