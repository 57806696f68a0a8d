"""Every public callable of safeframe says what it takes, returns and raises, in sections (Google style)."""

from __future__ import annotations

import ast
import dataclasses
import enum
import importlib
import inspect
import pkgutil
import re
import textwrap
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest

import safeframe

SECTION = re.compile(r"(Args|Attributes|Returns|Raises):$")
ITEM = re.compile(r"    (\*{0,2}\w+): \S")
TEXT = re.compile(r"    \S")


def read_sections(docstring: str) -> dict[str, list[str]]:
    """The sections of a docstring: names of its items, or the lines of Returns at the items' indentation.

    AssertionError where a section's line is neither an item nor indented further than one.
    """
    sections: dict[str, list[str]] = {}
    inside = None
    for line in inspect.cleandoc(docstring).splitlines():
        if header := SECTION.match(line):
            inside = header[1]
            assert inside not in sections, f"section {inside} occurs twice"
            sections[inside] = []
        elif inside and line and not line.startswith(" "):
            inside = None
        elif inside and TEXT.match(line):
            item = ITEM.match(line)
            assert item or inside == "Returns", f"{inside}: no item, or not indented as one: {line!r}"
            sections[inside].append(line.strip() if inside == "Returns" else item[1])  # type: ignore[index]
    return sections


def modules() -> Iterator[ModuleType]:
    yield safeframe
    for found in pkgutil.walk_packages(safeframe.__path__, "safeframe."):
        yield importlib.import_module(found.name)


def public_objects() -> Iterator[tuple[str, Any]]:
    """(name, object) of public functions, classes and members of classes, where they are defined."""
    for module in modules():
        for name, value in vars(module).items():
            own = getattr(value, "__module__", None) == module.__name__
            if name.startswith("_") or not own or not (inspect.isfunction(value) or inspect.isclass(value)):
                continue
            yield f"{module.__name__}.{name}", value
            for member, inner in vars(value).items() if inspect.isclass(value) else ():
                if not member.startswith("_") or member == "__call__":
                    inner = getattr(inner, "func", inner)  # a cached property's function
                    inner = getattr(inner, "__func__", inner)  # a class or static method's function
                    if inspect.isfunction(inner) or isinstance(inner, property):
                        yield f"{module.__name__}.{name}.{member}", inner


OBJECTS = dict(public_objects())


def parameters(function: Callable[..., Any]) -> list[str]:
    stars = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
    named = inspect.signature(function).parameters.values()
    return [stars.get(p.kind, "") + p.name for p in named if p.name not in ("self", "cls")]


def raises_directly(function: Any) -> bool:
    """Whether a function has a statement ``raise SafeframeError(...)``."""
    if not inspect.isfunction(function):
        return False
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    raised = [node.exc for node in ast.walk(tree) if isinstance(node, ast.Raise)]
    return any("SafeframeError" in ast.unparse(exc) for exc in raised if exc is not None)


def expected(value: Any) -> dict[str, list[str]]:
    """Items of Args and Attributes that an object must have, and sections that it may not lack."""
    if isinstance(value, property):
        return {"Raises": ["SafeframeError"]} if raises_directly(value.fget) else {}
    if inspect.isclass(value):
        own = vars(value)
        wanted = {}
        if dataclasses.is_dataclass(value):
            wanted["Attributes"] = [field.name for field in dataclasses.fields(value)]
        elif hasattr(value, "_fields"):  # a NamedTuple
            wanted["Attributes"] = list(value._fields)
        elif getattr(value, "_is_protocol", False):
            if own.get("__annotations__"):
                wanted["Attributes"] = list(own["__annotations__"])
        elif not issubclass(value, (enum.Enum, BaseException)) and parameters(own["__init__"]):
            wanted["Args"] = parameters(own["__init__"])
        if raises_directly(own.get("__post_init__" if "Attributes" in wanted else "__init__")):
            wanted["Raises"] = ["SafeframeError"]
        return wanted
    wanted = {"Args": parameters(value)} if parameters(value) else {}
    if inspect.signature(value).return_annotation not in ("None", None):
        wanted["Returns"] = ["one"]
    if raises_directly(value):
        wanted["Raises"] = ["SafeframeError"]
    return wanted


def test_the_public_interface_is_found() -> None:
    names = set(OBJECTS)
    assert len(names) > 150
    assert {
        "safeframe.guard.safety_guard.SafetyGuard.load",  # a class method
        "safeframe.guard.report.GuardedActions.reason",  # a property
        "safeframe.training.approximate_loss.ApproximateLoss.__call__",
        "safeframe.certificates.cases.certify",
    } <= names


@pytest.mark.parametrize("name", OBJECTS)
def test_docstring_has_its_sections(name: str) -> None:
    docstring = OBJECTS[name].__doc__
    made_by_dataclass = f"{name.rpartition('.')[2]}("
    assert docstring, f"{name} has no docstring"
    assert not docstring.startswith(made_by_dataclass), f"{name} has no docstring"
    summary, *rest = inspect.cleandoc(docstring).splitlines()
    assert summary.endswith((".", ":")), f"{name}: its first line is no sentence"
    assert not rest or not rest[0], f"{name}: its first line goes on in the second"
    found, wanted = read_sections(docstring), expected(OBJECTS[name])
    for section in ("Args", "Attributes"):
        assert found.get(section, []) == wanted.get(section, []), f"{name}: {section}"
    assert len(found.get("Returns", [])) == len(wanted.get("Returns", [])), f"{name}: Returns"
    assert set(wanted.get("Raises", [])) <= set(found.get("Raises", [])), f"{name}: Raises"


@pytest.mark.parametrize("module", list(modules()), ids=lambda module: module.__name__)
def test_module_docstring_begins_with_a_line(module: ModuleType) -> None:
    docstring = module.__doc__
    assert docstring
    summary, *rest = inspect.cleandoc(docstring).splitlines()
    assert summary.endswith((".", "?", ":"))
    assert not rest or not rest[0]


def test_reader_finds_lines_that_a_program_broke() -> None:
    good = """A sum.

    Args:
        a: first.
        *rest: all the others, which
            may be none.

    Returns:
        The sum.
    """
    assert read_sections(good) == {"Args": ["a", "*rest"], "Returns": ["The sum."]}
    with pytest.raises(AssertionError, match="no item"):
        read_sections(good.replace("    may be none", "may be none"))
