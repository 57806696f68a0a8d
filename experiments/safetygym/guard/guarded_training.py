"""An agent trained under the guard, in phases: collect where it goes now, fit, go on training.

Each phase labels states of the present behaviour (guarded from the second phase on), fits a new path
classifier on the data of all phases so far, sets tau by the risk of the selected action at r_t and trains on
under that guard. `python -m experiments.safetygym.guard.guarded_training out=DIR agent=FILE [task= steps=1e7
cases=6e5 ...]`"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from experiments.safetygym.agents.agent import Agent
from experiments.safetygym.agents.checkpoints import load_agent
from experiments.safetygym.agents.settings import AgentSettings
from experiments.safetygym.agents.train import make_env
from experiments.safetygym.agents.training import train
from experiments.safetygym.guard.calibration import Calibration
from experiments.safetygym.guard.classifier import PathClassifier
from experiments.safetygym.guard.guarding import Guard, GuardedPolicy
from experiments.safetygym.guard.learning import warm_up
from experiments.safetygym.learning_settings import LearningSettings
from experiments.safetygym.sim.task import get_task
from experiments.safetygym.states import backup
from experiments.safetygym.states.backup import DefaultAction
from experiments.safetygym.states.collection import collect
from experiments.safetygym.states.internal_data import InternalData, Shard, pool
from safeframe.threshold_rule import PlugIn
from safeframe.types import SafeframeError

PHASES = (0.1, 0.3, 0.6)
"""Shares of the steps; each phase begins with fresh data and a new classifier."""


def train_guarded(
    first: Agent,
    settings: AgentSettings,
    r_t: float,
    cases: int,
    directory: Path,
    say: Callable[[str], None],
    learning: LearningSettings | None = None,
) -> Agent:
    """An agent trained for settings.steps under the guard.

    Args:
        first: the agent that the first data come from; if it was itself trained under a guard, training goes
            on from it.
        settings: of the agent.
        r_t: threshold on the probability, in (0, 1].
        cases: labelled cases of each phase.
        directory: finished phases are found there and not repeated.
        say: takes lines of text.
        learning: of the classifier; None: the defaults.

    Returns:
        The agent.

    Raises:
        SafeframeError: if no threshold keeps r_t.
    """
    task = get_task(settings.task)
    data: list[Shard] = []
    agent, guard, learning = first, None, learning or LearningSettings()
    generator = np.random.default_rng([settings.seed, 41])
    extra = backup.random_paths(task, first.candidates, learning.random_paths, generator)
    for phase, share in enumerate(PHASES):
        shards = InternalData(directory / f"data_{phase}", {"task": task.name, "phase": phase, "r_t": r_t})
        collect(
            shards, GuardedPolicy(agent, guard, 0, task), cases, "backup", seed=settings.seed + 1000 + phase,
            with_paths=True, vase=task.easiest_vase,
        )  # fmt: skip
        data.append(shards.load())
        classifier = PathClassifier(task, len(first.candidates))
        pooled = pool(data)
        torch.manual_seed(settings.seed)
        warm_up(classifier, pooled, learning, settings.seed, lambda *_: None, extra)
        # xi = 0: the threshold only shapes the behaviour; the guard in use is calibrated on data of its own
        found = Calibration(classifier, first if guard is None else agent, data, PlugIn()).threshold(r_t)
        if not found.feasible:
            raise SafeframeError(f"phase {phase}: no threshold keeps r_t = {r_t}; give more cases")
        say(f"phase {phase}: tau {found.tau:.3f}, bound {found.bound:.1e}, acceptance {found.acceptance:.4f}")
        guard = Guard(classifier, found.tau)
        agent = train(
            dataclasses.replace(settings, steps=int(share * settings.steps), seed=settings.seed + phase),
            make_env,
            directory / f"phase_{phase}",
            guard=guard,
            default_action=DefaultAction(task, first.candidates, classifier.margin),
            initial=agent if phase or first.record.get("guarded") else None,
            progress=say,
        ) if not (directory / f"phase_{phase}" / "agent.safetensors").exists() else load_agent(
            directory / f"phase_{phase}" / "agent.safetensors", task=task.name
        )  # fmt: skip
    return agent


def main(arguments: list[str]) -> int:
    """The command; 0 done, 2 wrong arguments."""
    torch.set_num_threads(1)
    try:
        pairs = dict(argument.split("=", 1) for argument in arguments)
        directory, source = Path(pairs.pop("out")), pairs.pop("agent")
        r_t, cases = float(pairs.pop("r_t", "1e-4")), int(float(pairs.pop("cases", "6e5")))
        settings = AgentSettings.parse({"method": "ppo", "policy": "categorical", "entropy": "0.002"} | pairs)
        first = load_agent(source, task=settings.task)
    except (SafeframeError, ValueError, KeyError) as error:
        print(f"wrong arguments: {error}", file=sys.stderr)
        return 2
    agent = train_guarded(first, settings, r_t, cases, directory, lambda text: print(text, flush=True))
    print(agent.record)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
