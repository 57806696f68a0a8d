"""Files that are cut short or have one bit turned: is every one noticed, or harmless?"""

from __future__ import annotations

import shutil
import tempfile
import warnings
from pathlib import Path

import numpy as np
from cases import CRASH, REFUSED, SAME, WRONG, Cases, digest, documented
from kinds import Kind, kinds


def damaged(path: Path, rng: np.random.Generator) -> str:
    """Damage a file; what was done, in words."""
    content = bytearray(path.read_bytes())
    if not content:
        path.write_bytes(b"\0")
        return f"{path.name}: a byte added"
    if rng.random() < 0.3:
        length = int(rng.integers(len(content)))
        path.write_bytes(content[:length])
        return f"{path.name}: cut to {length} of {len(content)} bytes"
    at, bit = int(rng.integers(len(content))), int(rng.integers(8))
    content[at] ^= 1 << bit
    path.write_bytes(content)
    return f"{path.name}: bit {bit} of byte {at} of {len(content)}"


def run(reference: Path, seed: int, count: int, only: str = "") -> Cases:
    """`count` cases of every kind."""
    cases = Cases("damage", seed)
    for kind in kinds(reference):
        if only in kind.name:
            of_kind(kind, cases, count)
    return cases


def of_kind(kind: Kind, cases: Cases, count: int) -> None:
    """The cases of one kind that are left to do."""
    left = list(cases.left(kind.name, count))
    if not left:
        return
    with tempfile.TemporaryDirectory() as scratch:
        whole = Path(scratch) / "whole"
        whole.mkdir()
        kind.make(whole)
        files = sorted({path for pattern in kind.files for path in whole.glob(pattern) if path.is_file()})
        files = [path for path in files if path.suffix != ".lock"]
        first = Path(scratch) / "first"
        shutil.copytree(whole, first)
        expected = digest(kind.read(first))
        for number, rng in left:
            place = Path(scratch) / "case"
            shutil.rmtree(place, ignore_errors=True)
            shutil.copytree(whole, place)
            path = place / files[int(rng.integers(len(files)))].relative_to(whole)
            what = damaged(path, rng)
            outcome, detail = judged(kind, place, expected)
            cases.add(kind.name, number, what, outcome, detail)
    print(
        kind.name,
        {
            name: sum(row.outcome == name for row in cases.rows if row.kind == kind.name)
            for name in (REFUSED, SAME, WRONG, CRASH)
        },
        flush=True,
    )


def judged(kind: Kind, place: Path, expected: str) -> tuple[str, str]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = digest(kind.read(place))
    except documented() as error:
        return REFUSED, str(error).replace(str(place), "")
    except Exception as error:  # noqa: BLE001 (any other one is a finding)
        return CRASH, repr(error).replace(str(place), "")
    return (SAME, "") if found == expected else (WRONG, "read something else without an error")
