"""Fingerprints of source code that change with its meaning, not with comments, docstrings or layout."""

from __future__ import annotations

import ast
import functools
import hashlib
import inspect
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any


def fingerprint(code: Iterable[Any]) -> dict[str, str]:
    """Hashes of source code.

    Args:
        code: modules (their file), packages (every file in them) and functions or classes (their module).

    Returns:
        Hash by module name.

    Raises:
        TypeError: for what comes from no source file.
    """
    found: dict[str, str] = {}
    for item in code:
        module = item if isinstance(item, ModuleType) else inspect.getmodule(item)
        file = getattr(module, "__file__", None)
        if module is None or file is None:
            raise TypeError(
                f"cannot fingerprint {item!r}: give a module, a function or a class from a source file"
            )
        path = Path(file)
        files = sorted(path.parent.rglob("*.py")) if path.name == "__init__.py" else [path]
        digest = hashlib.sha256()
        for source in files:
            digest.update(str(source.relative_to(path.parent)).encode())
            digest.update(_of_file(source, source.stat().st_mtime_ns))
        found[module.__name__] = digest.hexdigest()[:16]
    return found


@functools.cache
def _of_file(path: Path, changed: int) -> bytes:
    return hashlib.sha256(normalised(path.read_text(encoding="utf-8")).encode()).digest()


def normalised(source: str) -> str:
    """The source's syntax tree as text, without positions, comments and docstrings."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if (
            not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
            or not node.body
        ):
            continue
        first = node.body[0]
        if (
            isinstance(first, ast.Expr)
            and isinstance(first.value, ast.Constant)
            and isinstance(first.value.value, str)
        ):
            node.body = node.body[1:]
    return ast.dump(tree)
