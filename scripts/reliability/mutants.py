"""Mutants of a module: small changes of its code, made by the operators of mutmut.

mutmut's own run leaves decorated functions alone, so every property of a class; here they are mutated too.
Not mutated: what stands in a `raise` (the texts of errors) or an `assert`, documentation, annotations,
decorators, `len` and `isinstance` calls, `TYPE_CHECKING` blocks and imports.

A mutant is *grafted* onto the module that is imported: its functions take over the mutant's code and
defaults, its constants the mutant's values. So one process imports and collects the tests once, and forks for
every mutant.
"""

from __future__ import annotations

import ast
import hashlib
import sys
import types
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
CONSTANTS = (int, float, str, tuple, dict, frozenset)


@dataclass(frozen=True)
class Mutant:
    """One change of one module.

    Attributes:
        module: its dotted name.
        function: the qualified name of what is changed; "" for a constant of the module.
        line: of the change, in the file as it is.
        before: the expression or statement.
        after: what it is changed to.
        number: of equal changes in the same function, which one, from 0.
        source: the changed module.
    """

    module: str
    function: str
    line: int
    before: str
    after: str
    number: int
    source: str

    @property
    def key(self) -> str:
        """What stays the same when lines move: the change, and where it is."""
        text = "\n".join((self.module, self.function, self.before, self.after, str(self.number)))
        return hashlib.sha256(text.encode()).hexdigest()[:12]


def mutants_of(module: str) -> list[Mutant]:
    """All mutants of a module, in the order of its lines."""
    import libcst as cst
    from libcst.metadata import MetadataWrapper, PositionProvider
    from mutmut.mutation.file_mutation import NEVER_MUTATE_FUNCTION_CALLS
    from mutmut.mutation.mutators import mutation_operators

    path = REPOSITORY / Path(*module.split(".")).with_suffix(".py")
    code = path.read_text(encoding="utf-8")
    wrapper = MetadataWrapper(cst.parse_module(code))
    found: list[tuple[str, int, Any, Any]] = []

    class Visitor(cst.CSTVisitor):
        METADATA_DEPENDENCIES = (PositionProvider,)

        def __init__(self) -> None:
            self.inside: list[str] = []

        def on_visit(self, node: Any) -> bool:
            if skipped(node):
                return False
            for kind, operator in mutation_operators:
                if isinstance(node, kind):
                    for changed in operator(node):
                        line = self.get_metadata(PositionProvider, node).start.line
                        found.append((".".join(self.inside), line, node, changed))
            if isinstance(node, cst.FunctionDef | cst.ClassDef):
                self.inside.append(node.name.value)
            return True

        def on_leave(self, node: Any) -> None:
            if isinstance(node, cst.FunctionDef | cst.ClassDef):
                self.inside.pop()

    def skipped(node: Any) -> bool:
        if isinstance(
            node, cst.Raise | cst.Annotation | cst.Decorator | cst.Import | cst.ImportFrom | cst.Assert
        ):
            return True
        if isinstance(node, cst.Call) and isinstance(node.func, cst.Name):
            return node.func.value in NEVER_MUTATE_FUNCTION_CALLS
        if isinstance(node, cst.If) and isinstance(node.test, cst.Name):
            return node.test.value == "TYPE_CHECKING"
        if isinstance(node, cst.Assign) and isinstance(node.targets[0].target, cst.Name):
            name = node.targets[0].target.value
            return name.startswith("__") or name[0].isupper()  # __all__, aliases of types
        return False

    tree = wrapper.module
    wrapper.visit(Visitor())
    seen: Counter[tuple[str, str, str]] = Counter()
    mutants = []
    for function, line, node, changed in found:
        source = tree.deep_replace(node, changed).code
        if source == code or not valid(source):
            continue
        before, after = tree.code_for_node(node).strip(), tree.code_for_node(changed).strip()
        same = (function, before, after)
        mutants.append(Mutant(module, function, line, before, after, seen[same], source))
        seen[same] += 1
    return sorted(mutants, key=lambda mutant: mutant.line)


def valid(source: str) -> bool:
    try:
        ast.parse(source)
    except SyntaxError:
        return False
    return True


def functions(namespace: dict[str, Any], module: str, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Functions of a module and of its classes, through properties and wrappers, by qualified name."""
    for name, value in list(namespace.items()):
        if isinstance(value, type):
            if value.__module__ == module:
                yield from functions(dict(vars(value)), module, f"{prefix}{name}.")
            continue
        plain = unwrapped(value)
        if isinstance(plain, types.FunctionType) and plain.__module__ == module:
            yield prefix + name, plain


def unwrapped(value: Any) -> Any:
    for attribute in ("fget", "func", "__func__", "__wrapped__"):
        inner = getattr(value, attribute, None) if not isinstance(value, types.FunctionType) else None
        if isinstance(inner, types.FunctionType):
            value = inner
    while isinstance(getattr(value, "__wrapped__", None), types.FunctionType):
        value = value.__wrapped__
    return value


def graft(mutant: Mutant) -> None:
    """Let the imported module do what the mutant does; for good, so in a forked process."""
    module = sys.modules[mutant.module]
    other = types.ModuleType(mutant.module)
    other.__dict__["__file__"] = module.__file__
    sys.modules[mutant.module] = other  # dataclasses look their module up
    try:
        exec(compile(mutant.source, str(module.__file__), "exec"), other.__dict__)
    finally:
        sys.modules[mutant.module] = module
    old, new = dict(functions(vars(module), mutant.module)), dict(functions(vars(other), mutant.module))
    for name, function in new.items():
        mine = old[name]
        if len(mine.__code__.co_freevars) == len(function.__code__.co_freevars):
            mine.__code__ = function.__code__
        mine.__defaults__, mine.__kwdefaults__ = function.__defaults__, function.__kwdefaults__
    for name, value in vars(other).items():
        before = vars(module).get(name)
        if name.startswith("__") or not (isinstance(before, CONSTANTS) or hasattr(before, "dtype")):
            continue
        for place in [
            one for one in sys.modules.values() if getattr(one, "__name__", "").startswith("safeframe")
        ]:
            if vars(place).get(name) is before:
                setattr(place, name, value)


def called_by(run: Callable[[], None], modules: set[str]) -> set[tuple[str, int]]:
    """Which functions of the modules are called while something runs: (file, first line)."""
    import threading

    files = {str(sys.modules[name].__file__) for name in modules}
    seen: set[tuple[str, int]] = set()

    def watch(frame: Any, event: str, _: Any) -> None:
        if event == "call" and frame.f_code.co_filename in files:
            seen.add((frame.f_code.co_filename, frame.f_code.co_firstlineno))

    threading.setprofile(watch)
    sys.setprofile(watch)
    try:
        run()
    finally:
        sys.setprofile(None)
        threading.setprofile(None)  # type: ignore[arg-type]
    return seen
