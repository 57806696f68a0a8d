"""Settings are explained and held to what they declare; the page of all settings and the help say so."""

from __future__ import annotations

import dataclasses
import math
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from experiments.support import registry
from experiments.support.config import BaseConfig, to_object
from experiments.support.errors import ConfigError
from experiments.support.files import REPOSITORY
from experiments.support.manual import describe, help, page
from experiments.support.settings import Setting, check, declared, section, setting, walk
from scripts import settings as script

NAMES = ("llm", "production", "safetygym", "theory")


@dataclasses.dataclass
class Inner:
    """A part."""

    sizes: list[int] = setting([1, 2], "Sizes in units.", low=1, high=9, at_least_one="size")
    share: float | None = setting(None, "A share.", above=0, below=1)


@dataclasses.dataclass
class Outer:
    """All of it."""

    name: str = setting("a", "A name.", choices=("a", "b"))
    free: int = 3
    inner: Inner = section(Inner)


def test_the_fields_are_those_of_a_plain_dataclass():
    first, second = Outer(), Outer()
    first.inner.sizes.append(7)
    assert dataclasses.asdict(second) == {"name": "a", "free": 3, "inner": {"sizes": [1, 2], "share": None}}
    assert [key for key, _, _ in walk(second)] == ["name", "free", "inner.sizes", "inner.share"]
    check(first)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "c"}, r"^name='c' is not one of: a, b$"),
        (
            {"inner": Inner(sizes=[1, 10])},
            r"^inner.sizes\[1\]=10 is out of range: it must be at least 1 and at most 9$",
        ),
        ({"inner": Inner(sizes=[])}, r"^inner.sizes=\[\]: name at least one size$"),
        (
            {"inner": Inner(share=1.0)},
            r"^inner.share=1.0 is out of range: it must be more than 0 and less than 1$",
        ),
        ({"inner": Inner(share=math.nan)}, r"^inner.share=nan is out of range"),
    ],
)
def test_what_is_declared_is_checked(change, message):
    with pytest.raises(ConfigError, match=message):
        check(dataclasses.replace(Outer(), **change))


@pytest.mark.parametrize("name", NAMES)
def test_every_setting_is_explained(name):
    schema = registry.get(name).schema(experiment=name)
    for key, item, _ in walk(schema):
        what = declared(item)
        assert what is not None, key
        assert re.fullmatch(r"[A-Z].{5,}\.", what.explanation), key
    for group in describe.groups_of(schema):
        assert not group.key or re.fullmatch(r"\S[^\n]{5,}[.?]", group.about), group.key


def refused_values(what: Setting, default: Any) -> Iterator[Any]:
    """Values just outside of what a setting declares."""
    wrong = [what.low - 1] if what.low is not None else []
    wrong += [what.above] if what.above is not None else []
    wrong += [what.high + 1] if what.high is not None else []
    wrong += [what.below] if what.below is not None else []
    wrong += [0.0, 1.5] if what.threshold else []
    wrong += ["nonsense"] if what.choices else []
    wrong += ["nonsense", "-1", "inf"] if what.words else []
    if isinstance(default, list):
        yield from ([*default, value] for value in wrong)
        if what.at_least_one:
            yield []
    else:
        yield from wrong


@pytest.mark.parametrize("name", NAMES)
def test_every_value_outside_of_what_is_declared_is_refused(name):
    schema, tried = registry.get(name).schema, 0
    for key, item, default in walk(schema(experiment=name)):
        for value in refused_values(declared(item) or Setting(""), default):
            nested: Any = value
            for part in reversed(key.split(".")):
                nested = {part: nested}
            with pytest.raises(ConfigError) as caught:
                to_object({"experiment": name} | nested, schema)
            assert str(caught.value).startswith(key), (key, value)
            tried += 1
    assert tried > 30


@pytest.mark.parametrize(
    "override",
    [
        "experiment=llm tailored.steps=many",
        "experiment=llm evaluation.cost_limits=[low]",
        "experiment=production training.epochs=1.5",
        "experiment=production data.order=[a,b,c,d]",
        "experiment=safetygym classifier.tailored=perhaps",
        "experiment=safetygym classifier.hidden=[wide]",
        "experiment=theory quality.side=wide",
        "experiment=theory leak.ridges=[weak]",
    ],
)
def test_a_wrong_type_is_refused(override):
    registry.register_schemas()
    name, words = override.split()[0].removeprefix("experiment="), override.split()
    with (
        initialize_config_dir(str(REPOSITORY / "configs"), version_base="1.3"),
        pytest.raises((ConfigError, OmegaConfBaseException, HydraException), match=words[1].split("=")[0]),
    ):
        to_object(compose("config", overrides=words), registry.get(name).schema)


def test_the_page_of_all_settings_is_up_to_date():
    """If this fails: python scripts/settings.py"""
    assert page.PAGE.read_text(encoding="utf-8") == page.page()


def test_the_script_says_when_the_page_is_not_up_to_date(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(script, "PAGE", tmp_path / "settings.md")
    assert script.main(["--check"]) == 1
    assert "run: python scripts/settings.py" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
    assert script.main([]) == 0
    assert script.main(["--check"]) == 0


def test_the_page_names_defaults_and_what_changes_them():
    rows = [line for line in page.page().splitlines() if line.startswith("| `")]
    (row,) = [line for line in rows if line.startswith("| `pools.train`")]
    for part in (
        "| integer | `1000` | at least 10 |",
        "`preset=paper`: `20000`",
        "`+sweep=figure-4`: `1500`",
    ):
        assert part in row
    r_t = [line for line in rows if line.startswith("| `r_t`")]
    assert [re.findall(r"\| number \| `([^`]+)`", line) for line in r_t] == [
        ["0.001"],
        ["0.01"],
        ["0.0001"],
        ["0.01"],
    ]
    (label,) = [line for line in rows if line.startswith("| `internal_test.label`")]
    assert "one of backup, branched, logged" in label
    assert "`+ablation=branched`: `branched`" in label
    (calendar,) = [line for line in rows if line.startswith("| `data.calendar`")]
    assert "| true or false | `true` |" in calendar


@pytest.mark.parametrize("name", NAMES)
def test_the_help_lists_every_setting(name):
    text = help.text([f"experiment={name}", "--help"])
    for key, item, _ in walk(registry.get(name).schema(experiment=name)):
        assert f"\n  {key}=" in text, key
        what = declared(item)
        assert what is not None
        assert what.explanation in " ".join(text.split()), key
    for folder in ("preset", "sweep", "launcher", "experiment"):
        for path in (REPOSITORY / "configs" / folder).glob("*.yaml"):
            assert re.search(rf"^  {re.escape(path.stem)}  +\S", text, re.M), path
    assert "Exit codes: 0 all is done" in text


def test_the_help_of_a_command_without_an_experiment_is_that_of_the_default(capsys):
    help.show(["-h"])
    text = capsys.readouterr().out
    assert "Settings of experiment=production, with" in text
    assert "\n  training.epochs=30  (integer; at least 1)\n" in text


def test_the_help_from_a_shell(tmp_path):
    def typed(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, str(REPOSITORY / "run.py"), *words],
            cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip

    done = typed("experiment=llm", "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert "tailored.steps=60" in done.stdout
    wrong = typed("experiment=nope", "--help")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert wrong.stderr.startswith("error: experiment='nope' does not exist; there are: llm")
    shown = typed("experiment=llm", "--cfg=job")
    assert shown.returncode == 0, shown.stderr
    assert "max_answer_tokens: null" in shown.stdout
    assert list(tmp_path.iterdir()) == []


def test_an_experiment_of_another_package_has_help_too(toy_package):
    text = help.text(["experiment=toy", "--help"])
    assert "\n  training.epochs=4  (integer; at least 1)\n      Steps.\n" in text


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        (int, "integer"),
        (float | None, "number or null"),
        (list[float], "list of numbers"),
        (list[list[float]] | None, "list of list of numbers or null"),
        (dict[str, str], "mapping from text to text"),
        (tuple[int, ...], "list of integers"),
    ],
)
def test_types_in_words(annotation, words):
    assert describe.kind_of(annotation) == words


def test_a_schema_may_have_settings_that_declare_nothing():
    @dataclasses.dataclass
    class Plain(BaseConfig):
        extra: int = 5

    assert to_object({"experiment": "x", "extra": 6}, Plain).extra == 6
    (row,) = [row for row in describe.groups_of(Plain())[0].settings if row.key == "extra"]
    assert (row.kind, row.default, row.allowed, row.explanation) == ("integer", "5", "", "")
