"""One clear message for what Hydra and OmegaConf report in several lines.

It gives the key, the value, and what is allowed.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
import typing
from typing import Any

from omegaconf.errors import (
    ConfigAttributeError,
    ConfigKeyError,
    MissingMandatoryValue,
    OmegaConfBaseException,
)


def explain(error: BaseException, schema: type | None = None) -> str:
    """A message for a composition or conversion error, from the OmegaConf error behind it."""
    cause = _omegaconf_cause(error)
    if cause is None:
        return _first_lines(str(error))
    key = str(cause.full_key or cause.key or "")
    if isinstance(cause, MissingMandatoryValue):
        return f"{key}: no value given; set {key}=..."
    if isinstance(cause, ConfigKeyError | ConfigAttributeError):
        return _unknown_key(key, cause, schema)
    text = _first_lines(str(cause.msg or cause).split("\n    full_key")[0])
    return f"{key}: {text}{_allowed_type(key, schema)}" if key else text


def _omegaconf_cause(error: BaseException) -> OmegaConfBaseException | None:
    """The first in the chain that knows its key: deeper ones are OmegaConf's own, not yet filled in."""
    found = None
    current: BaseException | None = error
    while current is not None:
        if isinstance(current, OmegaConfBaseException):
            found = found or current
            if current.full_key:
                return current
        current = current.__cause__ or current.__context__
    return found


def _unknown_key(key: str, cause: OmegaConfBaseException, schema: type | None) -> str:
    parent, _, name = key.rpartition(".")
    owner = cause.object_type if dataclasses.is_dataclass(cause.object_type) else None
    if owner is None and schema is not None:
        owner = type_at(schema, parent)
    allowed = [item.name for item in dataclasses.fields(owner)] if dataclasses.is_dataclass(owner) else []
    where = f"under {parent!r}" if parent else "at the top level"
    message = f"{key}: there is no such key"
    close = difflib.get_close_matches(name, allowed, n=1)
    if close:
        message += f" (did you mean {parent + '.' if parent else ''}{close[0]}?)"
    return message + (f"; allowed {where}: {', '.join(allowed)}" if allowed else "")


def type_at(schema: type, key: str) -> Any:
    """The annotated type of the field at a dotted key of a dataclass, or None if there is no such field."""
    current: Any = schema
    for name in key.split(".") if key else []:
        if not dataclasses.is_dataclass(current):
            return None
        current = typing.get_type_hints(current).get(re.sub(r"\[.*", "", name))
        options = [item for item in typing.get_args(current) if dataclasses.is_dataclass(item)]
        current = options[0] if options else current
    return current


def _allowed_type(key: str, schema: type | None) -> str:
    expected = type_at(schema, key) if schema is not None else None
    if expected is None:
        return ""
    return f"; expected: {getattr(expected, '__name__', None) or expected}"


def _first_lines(text: str) -> str:
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    lines = [re.sub(r"^In '.*': (?=Could not)", "", line) for line in lines]
    kept = [
        line
        for line in lines
        if not line.startswith(("Config search path", "provider=", "full_key:", "object_type="))
    ]
    return " ".join(kept)
