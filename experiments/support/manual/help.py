"""What `python run.py --help` prints: the command, what can be run, and all settings of one experiment."""

from __future__ import annotations

import os
import sys
import textwrap
from collections.abc import Sequence

from experiments.support import registry
from experiments.support.manual.describe import (
    CONFIGS,
    DEFAULT_EXPERIMENT,
    Described,
    Group,
    groups,
    headline,
)

FLAGS = ("--help", "-h")
_WIDTH = 100
_USAGE = """\
python run.py [experiment=NAME] [preset=NAME] [SETTING=VALUE ...]
python run.py -m [+sweep=NAME] [launcher=NAME] [SETTING=VALUE,VALUE ...]

Runs an experiment on chance constraints (arXiv 2504.20924): it draws or reads data, trains, calibrates
and counts, and leaves its results in results/runs/<experiment>/<hash of the settings>. A run that is
done is skipped; one that was interrupted goes on where it stopped. -m runs every combination of values.
"""
_EXAMPLES = """\
Examples:
  python run.py                                      production planning, minutes on a laptop
  python run.py experiment=llm preset=smoke          language generation, seconds: does it work here?
  python run.py r_t=1e-2 seed=7 training.epochs=10   other settings
  python run.py experiment=safetygym --cfg=job       show the settings that would be used; run nothing
  python run.py -m +sweep=figure-2 launcher=joblib   the runs behind figure 2, two at a time

Exit codes: 0 all is done; 1 a run failed (its directory holds error.txt); 2 the settings are wrong and
nothing was run; 130 interrupted. SAFEFRAME_DEBUG=1 shows stack traces; --hydra-help shows Hydra's own flags.
"""


def wanted(arguments: Sequence[str]) -> bool:
    """Whether a command line asks for help."""
    return any(argument in FLAGS for argument in arguments)


def show(arguments: Sequence[str]) -> None:
    """Print the help; a reader that has seen enough (`| head`) may close the pipe.

    Raises:
        ConfigError: There is no such experiment.
    """
    content = text(arguments)
    try:
        print(content, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what Python writes when it ends


def text(arguments: Sequence[str]) -> str:
    """The help for a command line; its experiment=NAME says whose settings are listed.

    Raises:
        ConfigError: There is no such experiment.
    """
    named = [argument.split("=", 1)[1] for argument in arguments if argument.startswith("experiment=")]
    name = named[-1].split(",")[0] if named else DEFAULT_EXPERIMENT
    lines = [_USAGE, "Experiments:", *_files("experiment", set(registry.discover())), ""]
    lines += ["Presets (preset=NAME):", *_files("preset"), ""]
    lines += ["Sweeps (-m +sweep=NAME):", *_files("sweep"), ""]
    lines += ["Launchers (-m launcher=NAME):", *_files("launcher"), "", _EXAMPLES]
    lines += [f"Settings of experiment={name}, with the defaults of preset=laptop"
              + ("" if named else " (for others: python run.py experiment=NAME --help)") + ":"]  # fmt: skip
    for group in groups(name):
        lines += ["", *_section(group)]
    return "\n".join(lines)


def _files(folder: str, names: set[str] | None = None) -> list[str]:
    """One line for each file of a folder of configs/, and for each further name."""
    found = {path.stem: headline(path) for path in (CONFIGS / folder).glob("*.yaml")}
    found |= dict.fromkeys(sorted((names or set()) - set(found)), "")
    width = max(map(len, found))
    return [
        _filled(f"  {name:<{width}}  {about}", " " * (width + 4)) for name, about in sorted(found.items())
    ]


def _section(group: Group) -> list[str]:
    lines = [f"{group.key}: {group.about}"] if group.key else []
    return lines + [line for row in group.settings for line in _setting(row)]


def _setting(row: Described) -> list[str]:
    about = "; ".join(filter(None, [row.kind, row.allowed]))
    lines = [
        _filled(f"  {row.key}={row.default}  ({about})", "      "),
        _filled(f"      {row.explanation}", "      "),
    ]
    if row.changed:
        changed = "; ".join(f"{name}: {value}" for name, value in row.changed)
        lines.append(_filled(f"      Changed by {changed}", "        "))
    return lines


def _filled(line: str, indent: str) -> str:
    return textwrap.fill(
        line, _WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False,
        drop_whitespace=True, replace_whitespace=False,
    )  # fmt: skip
