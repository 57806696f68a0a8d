"""What a setting is, declared once where it stands: its default, an explanation, and the values it may have.

    steps: int = setting(60, "Updates by the approximate loss.", low=1)

`check` holds a configuration to what its fields declare; the page of all settings and `python run.py --help`
print the same declarations.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from experiments.support.errors import ConfigError
from safeframe.chance_constraint import validate_radius, validate_threshold
from safeframe.types import SafeframeError

_METADATA = "setting"
_LATER = "later"


@dataclass(frozen=True)
class Setting:
    """What a field declares about its value; for a list, about each of its elements.

    Attributes:
        explanation: A sentence with the unit.
        low, high: The smallest and the largest value.
        above, below: What the value must be more than, and less than.
        choices: All values that there are.
        threshold: The value is a risk threshold, in (0, 1].
        words: The value is text: one of these words, or a finite number >= 0.
        at_least_one: What the elements of a list are called that must not be empty.
        numbered: Whether messages say which element of a list they are about.
    """

    explanation: str
    low: float | None = None
    high: float | None = None
    above: float | None = None
    below: float | None = None
    choices: tuple[Any, ...] = ()
    threshold: bool = False
    words: tuple[str, ...] = ()
    at_least_one: str = ""
    numbered: bool = True

    @property
    def limits(self) -> list[str]:
        """The bounds in words, for messages."""
        named = (("at least", self.low), ("more than", self.above),
                 ("at most", self.high), ("less than", self.below))  # fmt: skip
        return [f"{words} {limit}" for words, limit in named if limit is not None]

    @property
    def numeric(self) -> bool:
        """Whether a bound is declared."""
        return bool(self.limits)

    def check(self, key: str, value: Any) -> None:
        """Raise `ConfigError`, naming key, value and what is allowed, unless the value may be had.

        None, where the type allows it, says that nothing is set, and passes.
        """
        if value is None:
            return
        if self.at_least_one and not len(value):
            raise ConfigError(f"{key}={value!r}: name at least one {self.at_least_one}")
        if isinstance(value, list | tuple):
            for index, element in enumerate(value):
                self._check_one(f"{key}[{index}]" if self.numbered else key, element)
        else:
            self._check_one(key, value)

    def _check_one(self, key: str, value: Any) -> None:
        if self.threshold:
            require_threshold(key, value)
        if self.choices:
            require_choice(key, value, self.choices)
        if self.words:
            require_radius(key, value, self.words)
        if self.numeric:
            require_range(key, value, self.low, self.high, self.above, self.below)


def setting(default: Any, explanation: str, **declared: Any) -> Any:
    """A dataclass field with a default, an explanation, and what values it may have.

    Args:
        default: The value where nothing is said; lists, tuples for lists, and dictionaries are copied.
        explanation: A sentence with the unit, and the paper's symbol where it has one.
        declared: The attributes of `Setting` (`low`, `choices`, ...).

    Returns:
        What `dataclasses.field` returns.
    """
    metadata = {_METADATA: Setting(explanation, **declared)}
    if isinstance(default, list | dict):
        return field(default_factory=lambda: type(default)(default), metadata=metadata)
    return field(default=default, metadata=metadata)


def section(kind: type, later: bool = False) -> Any:
    """A field that holds a dataclass of settings; the class's docstring explains it.

    Args:
        kind: The dataclass.
        later: It came after results were published: while all of its settings are at their defaults, it is no
            part of a run's identity.

    Returns:
        What `dataclasses.field` returns.
    """
    return field(default_factory=kind, metadata={_LATER: later})


def unset_later(settings: Any) -> list[str]:
    """Names of the sections that came later and are at their defaults."""
    return [
        item.name
        for item in dataclasses.fields(settings)
        if item.metadata.get(_LATER) and getattr(settings, item.name) == item.default_factory()  # type: ignore[misc]
    ]


def declared(item: dataclasses.Field[Any]) -> Setting | None:
    """What a field declares, None if it was made without `setting`."""
    return item.metadata.get(_METADATA)


def walk(settings: Any, prefix: str = "") -> Iterator[tuple[str, dataclasses.Field[Any], Any]]:
    """(dotted key, field, value) of every setting of a dataclass object, sections opened, in their order."""
    for item in dataclasses.fields(settings):
        key, value = prefix + item.name, getattr(settings, item.name)
        if dataclasses.is_dataclass(value):
            yield from walk(value, f"{key}.")
        else:
            yield key, item, value


def check(settings: Any) -> None:
    """Raise `ConfigError` for the first setting of a dataclass object, sections included, that is not one of
    the values that its field declares.
    """
    for key, item, value in walk(settings):
        what = declared(item)
        if what is not None:
            what.check(key, value)


def require_threshold(key: str, value: float) -> None:
    """A risk threshold lies in (0, 1]; else `ConfigError`."""
    try:
        validate_threshold(value, where=key)
    except SafeframeError as error:
        raise ConfigError(str(error)) from error


def require_range(
    key: str,
    value: float,
    low: float | None = None,
    high: float | None = None,
    above: float | None = None,
    below: float | None = None,
) -> None:
    """`low` <= value <= `high` and `above` < value < `below`, where given; NaN is out of every range."""
    inside = (
        (low is None or value >= low)
        and (high is None or value <= high)
        and (above is None or value > above)
        and (below is None or value < below)
    )
    if math.isnan(value) or not inside:
        allowed = " and ".join(Setting("", low, high, above, below).limits)
        raise ConfigError(f"{key}={value!r} is out of range: it must be {allowed or 'a number'}")


def require_choice(key: str, value: Any, allowed: tuple[Any, ...]) -> None:
    """`value` is one of `allowed`; else `ConfigError`."""
    if value not in allowed:
        raise ConfigError(f"{key}={value!r} is not one of: {', '.join(str(item) for item in allowed)}")


def require_radius(key: str, value: str, words: tuple[str, ...]) -> None:
    """A radius of conservative testing as text: one of `words`, or a finite number >= 0."""
    if value in words:
        return
    try:
        radius = float(value)
    except ValueError:
        if len(words) == 1:
            raise ConfigError(f'{key}={value!r}: "{words[0]}" or a number >= 0 is needed') from None
        known = ", ".join(map(repr, words))
        raise ConfigError(f"{key}={value!r} must be {known} or a number >= 0") from None
    try:
        validate_radius(radius, key)
    except SafeframeError as error:
        raise ConfigError(str(error)) from error
