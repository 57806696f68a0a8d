"""What a stage is cut into: tasks that can be sent to another process and whose content has a name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from experiments.support.files import hash_of


@dataclass(frozen=True)
class Task:
    """One piece of a stage.

    A task draws its random numbers from a stream of its own, whose seed is one of its arguments: so it gives
    the same wherever and whenever it is done.

    Attributes:
        call: a function of a module, found there by its name in other processes.
        arguments: of the call, few enough to be sent.
        key: all that the result depends on but the code, which the stage's hash covers (`runs/code.py`);
            numbers, text, lists, dictionaries and arrays.
        name: for messages.
    """

    call: Callable[..., Any]
    arguments: tuple[Any, ...]
    key: Any
    name: str

    @cached_property
    def id(self) -> str:
        """Sixteen hexadecimal digits of the key."""
        return hash_of(self.key)


@dataclass(frozen=True)
class Form:
    """How results are written: one file each.

    Attributes:
        save: a module's function, called with the result and a path.
        load: a module's function that reads the result back from the path.
        suffix: of the file (".npz").
    """

    save: Callable[[Any, Path], None]
    load: Callable[[Path], Any]
    suffix: str
