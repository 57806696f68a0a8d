"""Fingerprints of the code that a function runs, found by reading imports: what makes a cached value stale.

Where a function begins, the reading is fine: the names that its definition uses count, through functions,
classes and constants of its own module, and what it takes from `self` counts as that attribute's definition,
or as what is assigned to it, in the classes that the object has. A name that comes from another module of the
repository brings that module in whole, with all that it imports in turn (also inside functions; not what is
imported for type checkers alone), and the `__init__` of the packages on the way.

Code counts by its syntax tree, without comments, docstrings and positions, and an internal import by the
content of what it imports, not by its place: a moved file makes nothing stale, another in its place does.
The machinery that runs a stage (`MACHINERY`) passes values through and does not count; what it computes
itself, the seeds (`seeding`), counts always.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import gc
import hashlib
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from experiments.support.runs.syntax import (
    MACHINERY,
    digest,
    file_of,
    imported_names,
    imports,
    inside,
    members,
    part_digest,
    tops,
)

ALWAYS = ("experiments.support.seeding",)


@dataclass(frozen=True)
class Closure:
    """What a function runs. `modules`: whole modules; `definitions`: (module, name) of parts of its own."""

    modules: frozenset[str]
    definitions: frozenset[tuple[str, str]]

    def fingerprint(self, changed: Mapping[str, str] | None = None) -> str:
        """A hash of all of it; `changed` gives the sources of modules that are to be read differently."""
        texts = changed or {}
        parts = [digest(module, texts.get(module)) for module in self.modules]
        parts += [part_digest(module, name, texts.get(module)) for module, name in self.definitions]
        return hashlib.sha256("".join(sorted(parts)).encode()).hexdigest()[:16]


def fingerprint(*functions: Callable[..., Any]) -> str:
    """A hash of the code that these functions run (see the module's text).

    Raises:
        TypeError: for what comes from no source file.
    """
    with _without_collection():
        return closure(*functions).fingerprint()


@contextlib.contextmanager
def _without_collection() -> Iterator[None]:
    """Syntax trees are very many small objects without cycles: to look for garbage among them takes a third
    of the time.
    """
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()


def closure(*functions: Callable[..., Any]) -> Closure:
    """What these functions run; partial functions, bound methods, lambdas and nested functions too.

    Raises:
        TypeError: for what comes from no source file.
    """
    reading = _Reading()
    for function in functions:
        reading.begin(function)
    for name in ALWAYS:
        reading.whole(name)
    return Closure(frozenset(reading.modules), frozenset(reading.definitions))


class _Reading:
    """One walk from functions to everything that they run."""

    def __init__(self) -> None:
        self.modules: set[str] = set()
        self.definitions: set[tuple[str, str]] = set()

    def begin(self, function: Callable[..., Any]) -> None:
        """Start at the definition that holds a function."""
        while isinstance(function, functools.partial):
            function = function.func
        if not callable(function):
            raise TypeError(f"cannot read the code of {function!r}: give a function from a source file")
        if not hasattr(function, "__qualname__"):  # an object that can be called
            function = type(function).__call__.__get__(function)
        owner = getattr(function, "__self__", None)
        plain = getattr(function, "__func__", function)
        module, qualname = getattr(plain, "__module__", None), getattr(plain, "__qualname__", None)
        if inspect.isclass(owner):
            owner = None
        if not isinstance(module, str) or not isinstance(qualname, str):
            raise TypeError(f"cannot read the code of {function!r}: give a function from a source file")
        if not inside(module):
            return  # of a library: no code of this repository
        if owner is None:
            owner = _self_of(plain)
        steps = [step for step in qualname.split(".<locals>")[0].split(".") if step]
        kind = type(owner) if owner is not None else None
        if len(steps) > 1 and kind is None:
            self.name(module, steps[0])
        elif len(steps) > 1:
            assert kind is not None
            self.attribute(kind, steps[1])
        else:
            self.name(module, steps[0])

    def name(self, module: str, name: str) -> None:
        """A name as a module sees it: defined there, imported there, or neither (a built-in one)."""
        for node in tops(module).get(name, ()):
            key = (module, name)
            if key not in self.definitions:
                self.definitions.add(key)
            elif node is tops(module)[name][0]:
                return
            kind = _runtime_class(module, name) if isinstance(node, ast.ClassDef) else None
            self.uses(module, node, kind)
        for target, item in imports(module).get(name, ()):
            self.imported(target, item)

    def imported(self, module: str, item: str | None) -> None:
        """`from module import item`, or `import module`."""
        if not inside(module) or module in MACHINERY:
            return
        if item is not None and file_of(f"{module}.{item}") is not None:
            module = f"{module}.{item}"
            item = None
        if item is not None and (home := _home(module, item)) is not None:
            module = home
        if module not in MACHINERY:
            self.whole(module)

    def whole(self, module: str) -> None:
        """A module with all that it imports, and the packages that it lies in."""
        if module in self.modules or module in MACHINERY or file_of(module) is None:
            return
        self.modules.add(module)
        parent = module.rpartition(".")[0]
        if parent:
            self.whole(parent)
        for found in imports(module).values():
            for target, item in found:
                self.imported(target, item)

    def attribute(self, kind: type, attribute: str) -> None:
        """What `self.attribute` is, for an object of this class."""
        for base in (base for base in kind.__mro__ if inside(base.__module__)):
            found = members(base.__module__, base.__qualname__).get(attribute, ())
            key = (base.__module__, f"{base.__qualname__}.{attribute}")
            if found and key not in self.definitions:
                self.definitions.add(key)
                for node in found:
                    self.uses(base.__module__, node, kind)
            if attribute in vars(base):
                return  # a method or class attribute hides those of the bases

    def uses(self, module: str, node: ast.AST, kind: type | None) -> None:
        """All names and attributes of `self` that a piece of syntax uses."""
        for inner in ast.walk(node):
            if isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Load):
                self.name(module, inner.id)
            elif isinstance(inner, ast.Attribute) and isinstance(inner.value, ast.Name):
                if inner.value.id in ("self", "cls") and kind is not None:
                    self.attribute(kind, inner.attr)
            elif isinstance(inner, ast.Import | ast.ImportFrom):
                for found in imported_names(inner, module).values():
                    for target, item in found:
                        self.imported(target, item)


def _self_of(function: Any) -> Any:
    """The `self` that a nested function or lambda holds on to, if it does."""
    names = getattr(getattr(function, "__code__", None), "co_freevars", ())
    for name, cell in zip(names, getattr(function, "__closure__", None) or (), strict=False):
        if name == "self":
            return cell.cell_contents
    return None


def _runtime_class(module: str, name: str) -> type | None:
    found = getattr(sys.modules.get(module), name, None)
    return found if isinstance(found, type) else None


def _home(package: str, name: str) -> str | None:
    """The module that defines a name which a package offers on first use (`HOMES` in its `__init__.py`)."""
    homes = getattr(sys.modules.get(package), "HOMES", {})
    return next((module for module, names in homes.items() if name in names), None)
