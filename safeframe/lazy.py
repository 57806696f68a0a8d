"""Names of a package that are imported when they are first used (PEP 562)."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any


def lazy_names(
    package: str, homes: Mapping[str, tuple[str, ...]]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """What a package needs to offer names without importing the modules that define them.

    Args:
        package: Its full name, `__name__` in its `__init__.py`.
        homes: Which names each module defines, by the module's full name.

    Returns:
        The package's `__getattr__`, which raises AttributeError for other names, and its `__dir__`.
    """
    home = {name: module for module, names in homes.items() for name in names}

    def get(name: str) -> Any:
        if name not in home:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(home[name]), name)

    def names() -> list[str]:
        return sorted({*vars(importlib.import_module(package)), *home})

    return get, names
