"""Rows of public preference data, from a file or the hub, checked.

Columns are those of PKU-SafeRLHF (Ji et al. 2023): prompt, response_0, response_1, is_response_0_safe,
is_response_1_safe, better_response_id, safer_response_id.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.llm.models.tokenizer import check_texts
from experiments.support.errors import ConfigError
from safeframe.types import SafeframeError

COMPARED = (
    "prompt", "response_0", "response_1", "is_response_0_safe", "is_response_1_safe", "better_response_id",
    "safer_response_id",
)  # fmt: skip
PROMPTS = "PKU-Alignment/PKU-SafeRLHF"
"""Prompts where the configuration names none; PKU-Alignment/BeaverTails is another set of them."""


def read_rows(source: str, columns: Sequence[str], split: str = "train") -> list[dict[str, Any]]:
    """Rows of a .jsonl or .jsonl.gz file, or of a data set on the hub.

    Raises ConfigError for a file or data set that is not there, a line that is not JSON or a column that is
    missing, SafeframeError for an empty prompt.
    """
    path = Path(source)
    if path.suffix in (".jsonl", ".gz") or path.exists():
        rows = _file(path)
    else:
        rows = _hub(source, split)
    if not rows:
        raise ConfigError(f"{source} holds no rows")
    for number, row in enumerate(rows):
        missing = [name for name in columns if name not in row]
        if missing:
            there = ", ".join(row)
            raise ConfigError(f"{source}: row {number} lacks {', '.join(missing)}; its columns are {there}")
    check_texts([row["prompt"] for row in rows], f"prompts of {source}")
    return rows


def _file(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        raise ConfigError(
            f"no such file: {str(path)!r}; a .jsonl or .jsonl.gz file with a column prompt is needed"
        )
    opener = gzip.open if path.suffix == ".gz" else open
    rows = []
    with opener(path, "rt", encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                try:
                    rows.append(json.loads(line))
                except json.JSONDecodeError as error:
                    raise ConfigError(f"{path}: line {number} is not JSON ({error})") from error
    return rows


def _hub(name: str, split: str) -> list[dict[str, Any]]:
    from datasets import load_dataset
    from datasets.exceptions import DatasetsError

    try:
        return list(load_dataset(name, split=split))
    except (OSError, ValueError, DatasetsError) as error:
        raise ConfigError(
            f"the data set {name!r} could not be loaded ({str(error).splitlines()[0]}); without a "
            "network, run"
            f" `hf download {name} --repo-type dataset --local-dir DIR` where there is one and give the "
            "path of its"
            " .jsonl file instead (models.prompts=FILE, or data=FILE)"
        ) from error


def comparison_rows(rows: list[dict[str, Any]], about: str) -> list[dict[str, Any]]:
    """Rows as `preference_models.compared` reads them; about: "reward" (better response) or "cost" (the
    response that is not the safer one).

    Raises SafeframeError for a value outside {0, 1}.
    """
    column = {"reward": "better_response_id", "cost": "safer_response_id"}[about]
    found = []
    for number, row in enumerate(rows):
        for name in (column, "is_response_0_safe", "is_response_1_safe"):
            if row[name] not in (0, 1):
                raise SafeframeError(f"row {number}: {name} is {row[name]!r}; 0 or 1 is needed")
        best = int(row[column])
        found.append(
            {name: row[name] for name in ("prompt", "response_0", "response_1")}
            | {"preferred": best if about == "reward" else 1 - best}
            | {f"harmful_{k}": int(not row[f"is_response_{k}_safe"]) for k in (0, 1)}
        )
    return found
