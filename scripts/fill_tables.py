"""Fill the results of README and docs from results/claims.csv and results/tables:

    python scripts/fill_tables.py             # write what has changed, name it
    python scripts/fill_tables.py --check     # write nothing; exit code 1 if something is out of date

Between `<!-- table:begin NAME -->` and `<!-- table:end -->` stands what docs/tables/NAME.md gives when its
fields are replaced. Edit the template, not the page. A field is {{ WHAT | HOW }}, or {{ WHAT }}. WHAT:

    claim NAME DATA [PRESET]                      a row of results/claims.csv, with its interval; DATA with _
                                                  for blanks, or any
    row FILE COLUMN [KEY=VALUE ...]               the one row of results/FILE that has these values; its
                                                  interval is COLUMN_low, COLUMN_high, or low, high
    max FILE COLUMN [KEY=VALUE ...]               the largest value among such rows; min: the smallest
    count FILE [KEY=VALUE ...] [COLUMN>NUMBER]    how many rows

HOW is words, in any order:

    0f 1f 2f ...    digits after the point           2s 3s ...    significant digits (integers stay whole)
    alone           without the interval             n            the row's n in the place of its value
    times=1e7       multiplied                       down         rounded down
    signed          with + or -                      promise      then what may be said of "at most 1"
    word            only what may be said of "at most 1"
    ratio           as stated by a table of ratios: "at least" the limit, where none of ours was counted
    unit=TEXT       TEXT (with _ for a blank) between value and interval
"""

from __future__ import annotations

import argparse
import math
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from experiments.support.errors import ResultsError
from experiments.support.files import REPOSITORY
from experiments.support.results import claims
from experiments.support.results.largest import verdict

MARKED = re.compile(r"(<!-- table:begin ([\w-]+) -->\n).*?(<!-- table:end -->)", re.S)
FIELD = re.compile(r"\{\{\s*(.+?)\s*\}\}")


@dataclass(frozen=True)
class Found:
    """A number to show, with its interval if it has one."""

    value: float
    low: float = math.nan
    high: float = math.nan
    n: int = 0
    limit: bool = False


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; say what is out of date")
    options = parser.parse_args(arguments)
    try:
        stale = {path: text for path, text in filled(REPOSITORY) if text != path.read_text()}
    except ResultsError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for path, text in stale.items():
        print(f"{'out of date' if options.check else 'filled'}: {path.relative_to(REPOSITORY)}")
        if not options.check:
            path.write_text(text)
    if options.check and stale:
        print("python scripts/fill_tables.py fills them", file=sys.stderr)
    return int(options.check and bool(stale))


def filled(root: Path) -> Iterator[tuple[Path, str]]:
    """Every document with marked places, and its text with these filled.

    Raises:
        ResultsError: a template is missing, or a field of it names what results do not have.
    """
    templates = root / "docs" / "tables"
    for path in [root / "README.md", *sorted((root / "docs").rglob("*.md"))]:
        text = path.read_text()
        if path.parent != templates and MARKED.search(text):
            parts = MARKED.split(text)  # text, begin, name, end, text, ...
            for at in range(1, len(parts), 4):
                parts[at + 1] = fill(templates / f"{parts[at + 1]}.md", root)
            yield path, "".join(parts)


def fill(template: Path, root: Path) -> str:
    """A template with its fields replaced."""
    if not template.is_file():
        raise ResultsError(f"{template} is missing; a page has <!-- table:begin {template.stem} -->")

    def replaced(found: re.Match) -> str:
        what, _, how = (part.strip() for part in found[1].partition("|"))
        try:
            return shown(look_up(what.split(), root), how.split())
        except (ResultsError, ValueError) as error:
            raise ResultsError(f"{template}: {{{{ {found[1]} }}}}: {error}") from error

    return FIELD.sub(replaced, template.read_text().rstrip("\n") + "\n")


@cache
def table(path: Path) -> pd.DataFrame:
    if not path.is_file():
        raise ResultsError(f"{path} is missing")
    return claims.read(path) if path.name == "claims.csv" else pd.read_csv(path)


def look_up(words: list[str], root: Path) -> Found:
    kind, *words = words
    results = root / "results"
    if kind == "claim" and len(words) in (2, 3):
        keys = dict(zip(("claim", "data", "preset"), words, strict=False))
        ledger = table(results / "claims.csv")
        if keys["data"] == "any":
            del keys["data"]
        elif keys["data"] not in set(ledger["data"]):
            keys["data"] = keys["data"].replace("_", " ")
        return one(chosen(ledger, keys, {}), "value", keys)
    if kind in ("row", "max", "min", "count") and words:
        path, *rest = words
        column = "" if kind == "count" else rest.pop(0)
        keys = dict(word.split("=", 1) for word in rest if "=" in word)
        above = dict(word.split(">", 1) for word in rest if ">" in word and "=" not in word)
        rows = chosen(table(results / path), keys, above)
        if kind == "count":
            return Found(len(rows))
        if column not in rows:
            raise ResultsError(f"{path} has no column {column!r}; it has {', '.join(rows.columns)}")
        return one(rows, column, keys) if kind == "row" else Found(float(getattr(rows[column], kind)()))
    raise ResultsError("claim, row, max, min or count, and their words, are needed")


def chosen(rows: pd.DataFrame, keys: dict[str, str], above: dict[str, str]) -> pd.DataFrame:
    """The rows that have these values; numbers are compared as numbers, nearly."""
    for column in (*keys, *above):
        if column not in rows:
            raise ResultsError(f"there is no column {column!r}, only {', '.join(rows.columns)}")
    for column, value in keys.items():
        if pd.api.types.is_bool_dtype(rows[column]) or not pd.api.types.is_numeric_dtype(rows[column]):
            rows = rows[rows[column].astype(str) == value]
        else:
            rows = rows[(rows[column] - float(value)).abs() <= 1e-3 * abs(float(value))]
    for column, value in above.items():
        rows = rows[rows[column] > float(value)]
    return rows


def one(rows: pd.DataFrame, column: str, keys: dict[str, str]) -> Found:
    if len(rows) != 1:
        raise ResultsError(
            f"{len(rows)} rows have {', '.join(f'{k}={v}' for k, v in keys.items())}; one is needed"
        )
    row = rows.iloc[0]
    names = (f"{column}_low", f"{column}_high") if f"{column}_low" in rows else ("low", "high")
    low, high = (float(row.get(name, math.nan)) for name in names)
    limit = float(row.get("limit", math.nan))
    at_least = column == "ratio" and not math.isnan(limit)
    n = row.get("n", 0)
    return Found(limit if at_least else float(row[column]), low, high, 0 if pd.isna(n) else int(n), at_least)


def shown(found: Found, how: list[str]) -> str:
    """A number as the words say."""
    digits = next((word for word in how if re.fullmatch(r"\d+[fs]", word)), "0f" if "n" in how else "2s")
    factor = next((float(word.removeprefix("times=")) for word in how if word.startswith("times=")), 1.0)
    unit = next(
        (word.removeprefix("unit=").replace("_", " ") for word in how if word.startswith("unit=")), ""
    )
    known = {"alone", "n", "down", "signed", "promise", "word", "ratio", digits}
    unknown = [word for word in how if word not in known and not word.startswith(("times=", "unit="))]
    if unknown:
        raise ResultsError(f"{unknown[0]!r} is no word for how to show a number")
    if "n" in how:
        return f"{found.n:,}"
    if math.isnan(found.value):
        raise ResultsError("the value is empty")
    if "word" in how:
        return verdict(found.value, found.low, found.high)
    low, high = found.low * factor, found.high * factor
    signed, down = "signed" in how, "down" in how
    if "ratio" in how and found.limit:
        return f"at least {math.floor(found.value * factor):,}{unit}"
    text = number(found.value * factor, digits, signed, down) + unit
    if "alone" not in how and not math.isnan(low):
        text += f" [{number(low, digits)}, {number(high, digits)}]"
    return text + (f", {verdict(found.value, found.low, found.high)}" if "promise" in how else "")


def number(value: float, digits: str, signed: bool = False, down: bool = False) -> str:
    """Digits after the point ("2f") or significant ones ("2s", where integers stay whole)."""
    count = int(digits[:-1])
    if digits[-1] == "s":
        size = math.floor(math.log10(abs(value))) if value else 0
        count = max(count - 1 - size, 0) if value else 0
        if value and round(abs(value), count) >= 10.0 ** (size + 1):  # 0.996 is 1.0, not 1.00
            count = max(count - 1, 0)
    if down:
        value = math.floor(value * 10**count) / 10**count
    text = f"{value:{'+' if signed else ''},.{count}f}"
    return (text.lstrip("-+") if float(text.replace(",", "")) == 0 else text).replace("-", "−")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
