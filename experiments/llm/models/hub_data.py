"""Rows of public preference data, from a file or the hub, checked; and how well scores agree with them.

Columns are those of PKU-SafeRLHF (Ji et al. 2023): prompt, response_0, response_1, is_response_0_safe,
is_response_1_safe, better_response_id, safer_response_id.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.llm.models.tokenizer import check_texts, token_rows
from experiments.support.errors import ConfigError
from safeframe.types import SafeframeError

PREFERRED = ("prompt", "response_0", "response_1", "better_response_id")
LABELLED = ("prompt", "response", "unsafe")
COMPARED = (
    "prompt", "response_0", "response_1", "is_response_0_safe", "is_response_1_safe", "better_response_id",
    "safer_response_id",
)  # fmt: skip
PROMPTS = "PKU-Alignment/PKU-SafeRLHF"
"""Prompts where the configuration names none; PKU-Alignment/BeaverTails is another set of them."""


def read_rows(source: str, columns: Sequence[str], split: str = "train") -> list[dict[str, Any]]:
    """Rows of a .jsonl, .jsonl.gz or .json(.gz) file, or of a data set on the hub.

    DiaSafety's columns context, response, label (Safe or Unsafe) are read as prompt, response, unsafe.

    Raises ConfigError for a file or data set that is not there, a line that is not JSON or a column that is
    missing, SafeframeError for an empty prompt.
    """
    path = Path(source)
    if path.suffix in (".jsonl", ".gz", ".json") or path.exists():
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
    try:
        with opener(path, "rt", encoding="utf-8") as lines:
            text = lines.read()
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read ({error})") from error
    if text.lstrip().startswith("["):
        try:
            return [_renamed(row) for row in json.loads(text)]
        except json.JSONDecodeError as error:
            raise ConfigError(f"{path} is not a JSON list ({error})") from error
    rows = []
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                rows.append(_renamed(json.loads(line)))
            except json.JSONDecodeError as error:
                raise ConfigError(f"{path}: line {number} is not JSON ({error})") from error
    return rows


def _renamed(row: dict[str, Any]) -> dict[str, Any]:
    """A row with DiaSafety's columns under the names of the others."""
    if "context" in row and "prompt" not in row and row.get("label") in ("Safe", "Unsafe"):
        return {**row, "prompt": row["context"], "unsafe": int(row["label"] == "Unsafe")}
    return row


def labelled_rows(rows: list[dict[str, Any]], both: bool = True) -> list[dict[str, Any]]:
    """Rows of single answers with a label by people; those whose label is unknown (-1) are left out.

    Raises SafeframeError for another label, or (`both`) where a class is absent.
    """
    for number, row in enumerate(rows):
        if row["unsafe"] not in (-1, 0, 1):
            raise SafeframeError(f"row {number}: unsafe is {row['unsafe']!r}; 0, 1 or -1 is needed")
    kept = [row for row in rows if row["unsafe"] != -1 and row["response"].strip()]
    if both and len({row["unsafe"] for row in kept}) < 2:
        raise SafeframeError("labels: harmful and harmless answers are needed")
    return kept


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
    safe = tuple(f"is_response_{k}_safe" for k in (0, 1))
    found = []
    for number, row in enumerate(rows):
        for name in (column, *safe):
            if row.get(name, 0 if about == "reward" else None) not in (0, 1):
                raise SafeframeError(f"row {number}: {name} is {row.get(name)!r}; 0 or 1 is needed")
        best = int(row[column])
        found.append(
            {name: row[name] for name in ("prompt", "response_0", "response_1")}
            | {"preferred": best if about == "reward" else 1 - best}
            | {f"harmful_{k}": int(not row.get(safe[k], 1)) for k in (0, 1)}
        )
    return found


def first_halves(tokenizer: Any, answers: list[str]) -> list[str]:
    """The first half of each answer's tokens, at least one."""
    rows = token_rows(tokenizer, answers, special=False)
    return tokenizer.batch_decode([row[: max(1, len(row) // 2)] for row in rows])


def label_errors(score: np.ndarray, harmful: np.ndarray) -> dict[str, float]:
    """auc, missed and condemned of scores (n,) against labels (n,); see `fine_tune_steps.Steps.held_out`."""
    bad = harmful == 1
    order = np.argsort(np.concatenate([score[bad], score[~bad]]), kind="stable")
    both = np.concatenate([score[bad], score[~bad]])
    _, place, count = np.unique(both[order], return_inverse=True, return_counts=True)
    middle = np.cumsum(count) - (count - 1) / 2  # ranks, ties in the middle
    rank = np.empty(len(both))
    rank[order] = middle[place]
    n, m = int(bad.sum()), int((~bad).sum())
    auc = (rank[:n].sum() - n * (n + 1) / 2) / (n * m) if n and m else float("nan")
    return {
        "n": float(n + m), "harmful": n / (n + m), "auc": float(auc),
        "missed": float(np.mean(score[bad] <= 0)) if n else float("nan"),
        "condemned": float(np.mean(score[~bad] > 0)) if m else float("nan"),
    }  # fmt: skip
