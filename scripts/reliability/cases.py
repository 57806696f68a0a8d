"""Cases of the campaign as they are counted: one row each, kept as they come, so that a campaign resumes."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

REPOSITORY = Path(__file__).resolve().parents[2]
BUILD = REPOSITORY / "build" / "reliability"
REFUSED, SAME, WRONG, CRASH = "refused", "same", "wrong", "crash"
BAD = (WRONG, CRASH)
"""What becomes of a case: a documented error; the same result as without it; another result without an error;
an error that is not documented."""


@dataclass(frozen=True)
class Case:
    """One case.

    Attributes:
        part: of the campaign.
        kind: what it was done to.
        number: of the case, from 0; with part, kind and the campaign's seed it gives its random stream.
        what: was done.
        outcome: what became of it.
        detail: the error, or what differs.
    """

    part: str
    kind: str
    number: int
    what: str
    outcome: str
    detail: str = ""


class Cases:
    """The cases of one part with one seed, in a file under build/reliability."""

    def __init__(self, part: str, seed: int, place: Path = BUILD) -> None:
        self.part, self.seed, self.path = part, seed, place / f"{part}_{seed}.csv"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.rows: list[Case] = []
        if self.path.exists():
            with self.path.open(newline="", encoding="utf-8") as file:
                self.rows = [Case(**{**row, "number": int(row["number"])}) for row in csv.DictReader(file)]  # type: ignore[arg-type]

    def left(self, kind: str, count: int) -> Iterator[tuple[int, np.random.Generator]]:
        """Numbers of the cases of a kind that are still to do, each with its random generator."""
        known = {row.number for row in self.rows if row.kind == kind}
        for number in range(count):
            if number not in known:
                yield number, self.generator(kind, number)

    def generator(self, kind: str, number: int) -> np.random.Generator:
        digest = hashlib.sha256(f"{self.part}/{kind}/{number}".encode()).digest()
        return np.random.default_rng([self.seed, int.from_bytes(digest[:8], "little")])

    def add(self, kind: str, number: int, what: str, outcome: str, detail: str = "") -> None:
        """Keep one more."""
        case = Case(self.part, kind, number, what, outcome, " ".join(detail.split())[:300])
        new = not self.path.exists()
        with self.path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, [field.name for field in fields(Case)])
            if new:
                writer.writeheader()
            writer.writerow(asdict(case))
        self.rows.append(case)


def documented() -> tuple[type[BaseException], ...]:
    """Errors that say what was wrong, for the user."""
    from experiments.support.errors import UserError
    from safeframe.types import SafeframeError

    return UserError, SafeframeError


def digest(value: Any) -> str:
    """One text for what was read, the same only for the same content."""
    import pandas as pd
    import torch

    if isinstance(value, pd.DataFrame):
        return digest([list(value.columns), value.to_csv(index=False)])
    if isinstance(value, torch.Tensor):
        return digest(value.detach().cpu().numpy())
    if isinstance(value, np.ndarray):
        content = np.ascontiguousarray(value)
        head = f"{content.dtype} {content.shape}".encode()
        return hashlib.sha256(head + content.tobytes()).hexdigest()
    if isinstance(value, dict):
        return digest([[str(key), digest(one)] for key, one in sorted(value.items(), key=str)])
    if isinstance(value, list | tuple):
        value = [one if isinstance(one, str) else digest(one) for one in value]
    text = json.dumps(value, sort_keys=True, default=repr)
    return hashlib.sha256(text.encode()).hexdigest()
