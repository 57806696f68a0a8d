"""Every setting of an experiment in words: type, default, what is allowed, what changes it, what it is."""

from __future__ import annotations

import dataclasses
import inspect
import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from experiments.support import registry
from experiments.support.config import PRESETS, BaseConfig, to_object
from experiments.support.files import REPOSITORY
from experiments.support.settings import Setting, declared, walk

CONFIGS = REPOSITORY / "configs"
OVERLAYS = {"sweep": ("+", ""), "ablation": ("+", ""), "launcher": ("", ""), "data": ("", "data."),
            "tracking": ("", "tracking."), "engine": ("", "engine.")}  # fmt: skip
"""Folders of configs/ whose files change settings when they are named: what stands before the folder's name
(+sweep=...), and before the keys."""
DEFAULT_EXPERIMENT, DEFAULT_PRESET = "production", "laptop"
"""Those of configs/config.yaml."""
_KINDS = {int: "integer", float: "number", str: "text", bool: "true or false"}
_MOST = 8  # elements of a list that are shown


@dataclass(frozen=True)
class Described:
    """One setting in words.

    Attributes:
        key: Its dotted name, as on the command line.
        kind: Its type.
        default: Its value with preset=laptop.
        allowed: The values it may have; empty if the type says all.
        changed: What else sets it, as (name, value): presets and overlays.
        explanation: What it is.
    """

    key: str
    kind: str
    default: str
    allowed: str
    changed: tuple[tuple[str, str], ...]
    explanation: str


@dataclass(frozen=True)
class Group:
    """Settings that stand together: the section's key ("" for those at the top) and what it is about."""

    key: str
    about: str
    settings: tuple[Described, ...]


def groups_of(settings: Any, changed: dict[str, list[tuple[str, str]]] | None = None) -> list[Group]:
    """The settings of a dataclass object, by section; changed: key -> what else sets it."""
    changed, found = changed or {}, []
    own = [item for item in dataclasses.fields(settings) if not _is_section(settings, item)]
    found.append(Group("", "", tuple(_described(settings, own, "", changed))))
    for item in dataclasses.fields(settings):
        if _is_section(settings, item):
            part = getattr(settings, item.name)
            rows = _described(part, list(dataclasses.fields(part)), f"{item.name}.", changed)
            found.append(Group(item.name, inspect.cleandoc(type(part).__doc__ or ""), tuple(rows)))
    return found


def groups(name: str) -> list[Group]:
    """The settings of an experiment with the defaults of preset=laptop; those of its schema if it has no
    files in configs/.

    Raises:
        ConfigError: There is no such experiment.
    """
    schema = registry.get(name).schema
    if not (CONFIGS / "experiment" / f"{name}.yaml").is_file():
        return groups_of(schema(experiment=name))
    registry.register_schemas()
    by_preset = {preset: _composed(name, preset, schema) for preset in PRESETS}
    laptop = {key: value for key, _, value in walk(by_preset[DEFAULT_PRESET])}
    changed: dict[str, list[tuple[str, str]]] = {}
    for preset, settings in by_preset.items():
        for key, _, value in walk(settings):
            if key != "preset" and value != laptop[key]:
                changed.setdefault(key, []).append((f"preset={preset}", shown(value)))
    for overlay, values in overlays(name, set(laptop)):
        for key, value in values.items():
            if value != shown(laptop[key]):
                changed.setdefault(key, []).append((overlay, value))
    return groups_of(by_preset[DEFAULT_PRESET], changed)


def overlays(name: str, keys: set[str]) -> Iterator[tuple[str, dict[str, str]]]:
    """("+sweep=figure-2", key -> value as text) of every overlay of an experiment whose settings are `keys`.

    A sweep says whose it is; any other overlay is of the experiments that have all the keys it sets.
    """
    for folder, (mark, prefix) in OVERLAYS.items():
        for path in sorted((CONFIGS / folder).glob("*.yaml")):
            content = OmegaConf.load(path)
            assert isinstance(content, DictConfig)
            values = {key: shown(value) for key, value in _flat(content, prefix)}
            if folder == "sweep":
                if _experiment_of(content) != name:
                    continue
                values |= {key: str(value) for key, value in content.hydra.sweeper.params.items()}
            elif not set(values) <= keys:
                continue
            yield f"{mark}{folder}={path.stem}", {k: v for k, v in values.items() if k in keys}


def headline(path: Path) -> str:
    """The first comment of a file of configs/, without the command that may follow it."""
    comments = [line.lstrip("# ").strip() for line in path.read_text().splitlines() if line.startswith("#")]
    first = next((line for line in comments if not line.startswith("@package")), "")
    first = first.split("  python ")[0].strip()
    return first.removesuffix(":") + "." * first.endswith(":")


def shown(value: Any) -> str:
    """A value as it is typed on the command line; of a long list its ends."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list | tuple):
        texts = [shown(element) for element in value]
        if len(texts) > _MOST:
            texts = [*texts[:3], "...", texts[-1]]
        return f"[{', '.join(texts)}]"
    return str(value)


def kind_of(annotation: Any) -> str:
    """A type in words: "integer", "list of numbers or null"."""
    origin, parts = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (types.UnionType, typing.Union):
        inner = [part for part in parts if part is not type(None)]
        return " or ".join([*map(kind_of, inner), *(["null"] if type(None) in parts else [])])
    if origin in (list, tuple):
        inner = kind_of(parts[0])
        return f"list of {inner if inner.startswith('list') or inner == 'text' else inner + 's'}"
    if origin is dict:
        return f"mapping from {kind_of(parts[0])} to {kind_of(parts[1])}"
    return _KINDS[annotation]


def allowed_of(what: Setting, is_list: bool) -> str:
    """The values that a declaration allows, in words."""
    parts = [*what.limits]
    if what.threshold:
        parts.append("more than 0 and at most 1")
    if what.choices:
        parts.append(f"one of {', '.join(map(shown, what.choices))}")
    if what.words:
        parts.append(f"{', '.join(what.words)} or a number of at least 0")
    text = " and ".join(parts)
    if is_list and text:
        text = f"each {text}"
    if what.at_least_one:
        text = f"{text}; one or more" if text else "one or more"
    return text


def _composed(name: str, preset: str, schema: type[BaseConfig]) -> BaseConfig:
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return to_object(compose("config", overrides=[f"experiment={name}", f"preset={preset}"]), schema)


def _described(
    settings: Any,
    fields: list[dataclasses.Field[Any]],
    prefix: str,
    changed: dict[str, list[tuple[str, str]]],
) -> Iterator[Described]:
    hints = typing.get_type_hints(type(settings))
    for item in fields:
        value, what = getattr(settings, item.name), declared(item) or Setting("")
        key = prefix + item.name
        yield Described(
            key, kind_of(hints[item.name]), shown(value), allowed_of(what, isinstance(value, list | tuple)),
            tuple(changed.get(key, ())), what.explanation,
        )  # fmt: skip


def _is_section(settings: Any, item: dataclasses.Field[Any]) -> bool:
    return dataclasses.is_dataclass(getattr(settings, item.name))


def _experiment_of(sweep: DictConfig) -> str | None:
    """The experiment that a sweep names, in its own key or in its defaults."""
    named = [
        item.get("override /experiment") for item in sweep.get("defaults", ()) if OmegaConf.is_dict(item)
    ]
    return next(filter(None, [sweep.get("experiment"), *named]), None)


def _flat(content: DictConfig, prefix: str) -> Iterator[tuple[str, Any]]:
    """(dotted key, value) of all that a file sets but Hydra's own; interpolations as they stand."""
    plain = OmegaConf.to_container(content, resolve=False)
    assert isinstance(plain, dict)
    places = [(f"{prefix}{key}", plain[key]) for key in plain if key not in ("defaults", "hydra")]
    for key, value in places:
        if isinstance(value, dict):
            places.extend((f"{key}.{name}", one) for name, one in value.items())
        else:
            yield key, value
