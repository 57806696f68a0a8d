"""Train one agent: `python -m experiments.safetygym.agents.train method=ppo_lag cost_limit=0.5 out=DIR`.

Every setting of `AgentSettings` may be given as key=value; besides them `out` (the run's directory; default
results/runs/safetygym_agents/NAME), `vase` (that of training: fixed, or faithful, which costs a fifth of
the speed and is what there is where vases cost; the evaluation's is always faithful) and `evaluate` (steps
of the final evaluation, 0 for none). One thread. A run that was killed goes on when the command is given
again; one that is done is left alone.

Several agents are tasks of an engine (`engine=local`, `joblib` or `ray`, `workers` of them at a time): all
settings but `hidden` may have several values, and every combination is trained, below `out`:

    python -m experiments.safetygym.agents.train method=ppo_lag cost_limit=0.1,0.5,1 seed=0,1 workers=4
"""

from __future__ import annotations

import contextlib
import itertools
import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from experiments.safetygym.agents.checkpoints import load_agent
from experiments.safetygym.agents.evaluation import evaluate
from experiments.safetygym.agents.settings import AgentSettings
from experiments.safetygym.agents.training import train
from experiments.safetygym.references import PREFIXES
from experiments.safetygym.sim.task import get_task
from experiments.safetygym.sim.vector import SafetyGymVector
from experiments.support.engine.engine import Engine
from experiments.support.engine.settings import EngineConfig
from experiments.support.engine.store import TaskStore
from experiments.support.engine.tasks import Form, Task
from experiments.support.engine.worker import TaskError
from experiments.support.errors import ConfigError, UserError
from experiments.support.files import write_json
from experiments.support.settings import check
from safeframe.types import SafeframeError


def make_env(settings: AgentSettings, vase: str = "") -> Any:
    """The vector environment that an agent is trained in; vase "": the fastest that leaves costs as they
    are."""
    vase = vase or get_task(settings.task).easiest_vase
    return SafetyGymVector(settings.task, num_envs=settings.num_envs, seed=settings.seed, vase=vase)


@dataclass(frozen=True)
class Training:
    """One training that the command asks for.

    Attributes:
        settings: of the agent.
        folder: of its run.
        vase: that of training; "": as `make_env`.
        evaluate: steps of the final evaluation.
    """

    settings: AgentSettings
    folder: Path
    vase: str
    evaluate: int

    @property
    def done(self) -> bool:
        """Whether there is nothing left to do."""
        last = "evaluation.json" if self.evaluate else "agent.safetensors"
        return (self.folder / last).exists()


def main(arguments: list[str]) -> int:
    """Train as the arguments say; 0 done, 1 a training failed, 2 wrong arguments."""
    try:
        trainings, engine = _asked(arguments)
    except (SafeframeError, ConfigError, ValueError) as error:
        print(f"wrong arguments: {error}", file=sys.stderr)
        return 2
    for training in trainings:
        if training.done:
            print(f"{training.folder} is done")
    left = [training for training in trainings if not training.done]
    if len(trainings) == 1:
        torch.set_num_threads(1)
        for training in left:
            print(json.dumps(train_one(training, lambda text: print(text, flush=True))))
        return 0
    tasks = [Task(train_one, (one,), {"folder": str(one.folder)}, one.folder.name) for one in left]
    with (  # what is done is in the folders of runs; reports are for this command alone
        tempfile.TemporaryDirectory(dir=_below(left), prefix=".reports_") as reports,
        contextlib.closing(Engine(engine)) as workers,
    ):
        results = workers.results(tasks, TaskStore(Path(reports), REPORT), "agents")
        try:
            for one, result in zip(left, results, strict=True):
                print(f"{one.folder}: {json.dumps(result)}", flush=True)
        except (UserError, SafeframeError, TaskError) as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
    return 0


def _below(trainings: list[Training]) -> Path | None:
    """The folder that all runs lie in, where workers on other machines find it too."""
    if not trainings:
        return None
    trainings[0].folder.parent.mkdir(parents=True, exist_ok=True)
    return trainings[0].folder.parent.resolve()


def _asked(arguments: list[str]) -> tuple[list[Training], EngineConfig]:
    """The trainings that the arguments name, and the engine."""
    stray = [argument for argument in arguments if "=" not in argument]
    if stray:
        raise SafeframeError(f"{stray[0]!r} is not key=value")
    pairs = dict(argument.split("=", 1) for argument in arguments)
    out, vase = pairs.pop("out", ""), pairs.pop("vase", "")
    steps = int(float(pairs.pop("evaluate", "500000")))
    engine = EngineConfig(pairs.pop("engine", "local"), int(pairs.pop("workers", "1")))
    check(engine)
    values = [[value] if key == "hidden" else value.split(",") for key, value in pairs.items()]
    found = []
    for combination in itertools.product(*values):
        settings = AgentSettings.parse(dict(zip(pairs, combination, strict=True)))
        task = get_task(settings.task)
        if vase == "fixed" != task.easiest_vase:
            raise SafeframeError(f"vase=fixed: vases cost in {task.name}; give vase=faithful or leave it out")
        found.append(settings)
    root = Path("results/runs/safetygym_agents")
    if len(found) == 1:
        return [Training(found[0], Path(out) if out else root / name_of(found[0]), vase, steps)], engine
    trainings = [Training(one, Path(out or root).resolve() / name_of(one), vase, steps) for one in found]
    names = [one.folder for one in trainings]
    if len(set(names)) < len(names):
        raise SafeframeError("two of these trainings have the same name (method, limit, policy, steps, seed)")
    return trainings, engine


def train_one(training: Training, progress: Callable[[str], None] = lambda text: None) -> dict[str, Any]:
    """Train one agent, or go on with it, and evaluate it; what the evaluation found, none without one."""
    settings, folder = training.settings, training.folder
    if (folder / "agent.safetensors").exists():
        agent = load_agent(folder / "agent.safetensors", task=settings.task)
    else:
        agent = train(settings, lambda s: make_env(s, training.vase), folder, progress=progress)
    if not training.evaluate:
        return {}
    env = SafetyGymVector(settings.task, num_envs=100, seed=settings.seed + 10_000, vase="faithful")
    table = evaluate(agent, env, training.evaluate, seed=settings.seed + 10_000)
    means = {name: float(table[name].mean()) for name in ("return", "cost", "entries")}
    errors = {f"{name}_error": float(table[name].std() / len(table) ** 0.5) for name in means}
    result = means | errors | {"episodes": len(table), "training": agent.record}
    write_json(folder / "evaluation.json", result)
    return result


def _save(result: dict[str, Any], path: Path) -> None:
    path.write_text(json.dumps(result), encoding="utf-8")


def _load(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


REPORT = Form(_save, _load, ".report")
"""What a worker tells of a training."""


def name_of(settings: AgentSettings) -> str:
    """A run's folder: robot, method, cost limit where it counts, steps, seed."""
    robot = PREFIXES[settings.task]
    limit = "" if settings.method in ("ppo", "ppo_barrier") else f"_{settings.cost_limit:g}"
    return f"{robot}_{settings.method}{limit}_{settings.policy}_{settings.steps:.0e}_seed{settings.seed}"


if __name__ == "__main__":
    from experiments.safetygym.agents import train as module  # workers find its functions by that name

    sys.exit(module.main(sys.argv[1:]))
