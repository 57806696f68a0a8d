"""Modules of the repository as syntax trees: what they define, what they import, and hashes of both.

Nothing here is imported to be read, and every file is read and parsed once in a process.
"""

from __future__ import annotations

import ast
import copy
import functools
import hashlib
import importlib.util
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOTS = ("experiments", "safeframe")
MACHINERY = frozenset(
    ["experiments.support.engine", "experiments.support.storage"]
    + [f"experiments.support.storage.{name}" for name in ("leases", "objects", "shared")]
    + [f"experiments.support.runs.{name}" for name in ("ahead", "context", "running", "stages")]
    + [
        f"experiments.support.engine.{x}"
        for x in ["engine", "on_ray", "settings", "store", "tables", "tasks", "worker", "workers"]
    ]
)
"""What runs stages and their tasks and passes values through: no code of theirs."""
Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
Assignment = ast.Assign | ast.AnnAssign | ast.AugAssign


def inside(module: str) -> bool:
    """Whether a module belongs to the repository, or to a package of experiments outside it."""
    return module.split(".")[0] in ROOTS or _is_experiment(module.split(".")[0])


@functools.cache
def _is_experiment(package: str) -> bool:
    return package in [x.split(".")[0] for x in os.environ.get("SAFEFRAME_EXPERIMENTS", "").split(":") if x]


@functools.cache
def file_of(module: str) -> Path | None:
    """The source file of a module of the repository; None if there is no such module."""
    try:
        spec = importlib.util.find_spec(module)
    except ModuleNotFoundError:
        return None
    return Path(spec.origin) if spec is not None and spec.origin not in (None, "built-in", "frozen") else None


@functools.cache
def _source(module: str) -> str:
    path = file_of(module)
    if path is None:
        raise TypeError(f"cannot read the code of {module}: it has no source file")
    return path.read_text(encoding="utf-8")


@functools.cache
def _tree(module: str) -> ast.Module:
    return ast.parse(_source(module))


@functools.cache
def tops(module: str) -> dict[str, tuple[ast.stmt, ...]]:
    """Statements at the top of a module by the name that they define, imports left out."""
    return _by_name(_statements(_tree(module).body))


def _statements(body: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    """Statements of a module, those inside `if` and `try` too."""
    for node in body:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        yield node
        for inner in ("body", "orelse", "finalbody"):
            if isinstance(node, ast.If | ast.Try | ast.With) and getattr(node, inner, None):
                yield from _statements(getattr(node, inner))


def _targets(node: Assignment) -> list[ast.expr]:
    return node.targets if isinstance(node, ast.Assign) else [node.target]


def _by_name(statements: Iterable[ast.stmt]) -> dict[str, tuple[ast.stmt, ...]]:
    found: dict[str, tuple[ast.stmt, ...]] = {}
    for node in statements:
        names: list[str] = []
        if isinstance(node, Definition):
            names = [node.name]
        elif isinstance(node, Assignment):
            names = [x.id for target in _targets(node) for x in ast.walk(target) if isinstance(x, ast.Name)]
        for name in names:
            found[name] = (*found.get(name, ()), node)
    return found


def members(module: str, name: str) -> dict[str, tuple[ast.AST, ...]]:
    """What a class defines, by name: methods, class attributes, and assignments to attributes of `self`."""
    return _members(tops(module).get(name, ()))


@functools.cache
def _members(nodes: tuple[ast.stmt, ...]) -> dict[str, tuple[ast.AST, ...]]:
    node = next((node for node in nodes if isinstance(node, ast.ClassDef)), None)
    if node is None:
        return {}
    found: dict[str, tuple[ast.AST, ...]] = dict(_by_name(node.body))
    for method in node.body:
        for inner in ast.walk(method) if isinstance(method, ast.FunctionDef) else ():
            if not isinstance(inner, Assignment):
                continue
            for part in (part for target in _targets(inner) for part in ast.walk(target)):
                if isinstance(part, ast.Attribute) and ast.unparse(part.value) == "self":
                    found[part.attr] = (*found.get(part.attr, ()), *_sources_of(inner, method))
    return found


def _sources_of(assignment: Assignment, method: ast.FunctionDef) -> tuple[ast.AST, ...]:
    """What a value comes from: the assignment, with the types of the arguments that it uses; the whole method
    where it uses a local variable.
    """
    used = {x.id for x in ast.walk(assignment) if isinstance(x, ast.Name) and isinstance(x.ctx, ast.Load)}
    local = {
        x.id
        for node in ast.walk(method)
        if isinstance(node, Assignment | ast.For | ast.With)
        for x in ast.walk(node)
        if isinstance(x, ast.Name) and isinstance(x.ctx, ast.Store)
    }
    inside_comprehensions = {
        x.id
        for node in ast.walk(assignment)
        if isinstance(node, ast.comprehension)
        for x in ast.walk(node.target)
        if isinstance(x, ast.Name)
    }
    if used & (local - inside_comprehensions):
        return (method,)
    arguments = (*method.args.posonlyargs, *method.args.args, *method.args.kwonlyargs)
    return assignment, *(argument for argument in arguments if argument.arg in used - {"self"})


@functools.cache
def imports(module: str) -> dict[str, tuple[tuple[str, str | None], ...]]:
    """Name -> (module, what of it) for all imports of a module, those inside functions too."""
    found: dict[str, tuple[tuple[str, str | None], ...]] = {}
    skipped = {
        id(inner)
        for node in ast.walk(_tree(module))
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for part in node.body
        for inner in ast.walk(part)
    }
    for node in ast.walk(_tree(module)):
        if isinstance(node, ast.Import | ast.ImportFrom) and id(node) not in skipped:
            for name, targets in imported_names(node, module).items():
                found[name] = (*found.get(name, ()), *targets)
    return found


def imported_names(
    node: ast.Import | ast.ImportFrom, module: str
) -> dict[str, tuple[tuple[str, str | None], ...]]:
    if isinstance(node, ast.Import):
        return {(a.asname or a.name).split(".")[0]: ((a.name, None),) for a in node.names if inside(a.name)}
    target = node.module or ""
    if node.level:
        package = module.split(".")
        if (path := file_of(module)) is not None and path.name != "__init__.py":
            package = package[:-1]
        package = package[: len(package) - node.level + 1]
        target = ".".join([*package, *([node.module] if node.module else [])])
    if not inside(target):
        return {}
    return {alias.asname or alias.name: ((target, alias.name),) for alias in node.names}


@functools.cache
def digest(module: str, text: str | None) -> str:
    """A hash of a module's code, or of the text that is to be read in its place."""
    return hashlib.sha256(
        normalised(_source(module) if text is None else text, contents=True).encode()
    ).hexdigest()


@functools.cache
def part_digest(module: str, name: str, text: str | None) -> str:
    """Of one definition, "function", "Class" or "Class.attribute"."""
    tree = _tree(module) if text is None else ast.parse(text)
    first, _, rest = name.partition(".")
    tops_ = _by_name(_statements(tree.body)).get(first, ())
    nodes = _members(tops_).get(rest, ()) if rest else tops_
    return hashlib.sha256("".join(normalised(node, contents=True) for node in nodes).encode()).hexdigest()


def normalised(code: str | ast.AST, contents: bool = False) -> str:
    """A syntax tree as text, without positions, comments and docstrings.

    An internal import stands without the place that it names, so that a moved file changes nothing; with
    `contents`, the content of what it imports stands there, so that another module in its place is noticed.
    """
    tree = ast.parse(code) if isinstance(code, str) else copy.deepcopy(code)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.level or inside(node.module or "")):
            names = [f"{node.module}.{alias.name}" for alias in node.names] if contents else []
            node.module, node.level = " ".join(_content(name) for name in names) or None, 0
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            node.body = []
        if not isinstance(node, ast.Module | Definition) or not node.body:
            continue
        first = node.body[0]
        value = first.value if isinstance(first, ast.Expr) else None
        if isinstance(value, ast.Constant) and isinstance(value.value, str):
            node.body = node.body[1:]
    return ast.dump(tree)


def _content(name: str) -> str:
    """A hash of the source of a module, or of the one that a name comes from; the name for `MACHINERY`."""
    for one in (name, name.rpartition(".")[0]):
        if one in MACHINERY:
            return one
        if one and file_of(one) is not None:
            return _content_of(one)
    return ""


@functools.cache
def _content_of(module: str) -> str:
    return hashlib.sha256(normalised(_source(module)).encode()).hexdigest()[:16]
