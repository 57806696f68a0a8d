"""Train one agent: `python -m experiments.safetygym.agents.train method=ppo_lag cost_limit=0.5 out=DIR`.

Every setting of `AgentSettings` may be given as key=value; besides them `out` (the run's directory; default
results/runs/safetygym_agents/NAME), `vase` (that of training: fixed, or faithful, which costs a fifth of
the speed; the evaluation's is always faithful) and `evaluate` (steps of the final evaluation, 0 for none).
One thread. A run that was killed goes on when the command is given again; one that is done is left alone.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch

from experiments.safetygym.agents.checkpoints import load_agent
from experiments.safetygym.agents.evaluation import evaluate
from experiments.safetygym.agents.settings import AgentSettings
from experiments.safetygym.agents.training import train
from experiments.safetygym.sim.task import get_task
from experiments.safetygym.sim.vector import SafetyGymVector
from experiments.support.files import write_json
from safeframe.types import SafeframeError


def make_env(settings: AgentSettings, vase: str = "fixed") -> Any:
    """The vector environment that an agent is trained in."""
    return SafetyGymVector(settings.task, num_envs=settings.num_envs, seed=settings.seed, vase=vase)


def main(arguments: list[str]) -> int:
    """Train as the arguments say; 0 done, 2 wrong arguments."""
    pairs = dict(argument.split("=", 1) for argument in arguments if "=" in argument)
    try:
        stray = [argument for argument in arguments if "=" not in argument]
        if stray:
            raise SafeframeError(f"{stray[0]!r} is not key=value")
        out, vase = pairs.pop("out", ""), pairs.pop("vase", "fixed")
        evaluation_steps = int(float(pairs.pop("evaluate", "500000")))
        settings = AgentSettings.parse(pairs)
        get_task(settings.task)
    except (SafeframeError, ValueError) as error:
        print(f"wrong arguments: {error}", file=sys.stderr)
        return 2
    torch.set_num_threads(1)
    folder = Path(out or f"results/runs/safetygym_agents/{name_of(settings)}")
    if (folder / "evaluation.json").exists():
        print(f"{folder} is done")
        return 0
    if (folder / "agent.safetensors").exists():
        agent = load_agent(folder / "agent.safetensors", task=settings.task)
    else:
        agent = train(
            settings, lambda s: make_env(s, vase), folder, progress=lambda text: print(text, flush=True)
        )
    if evaluation_steps:
        env = SafetyGymVector(settings.task, num_envs=100, seed=settings.seed + 10_000, vase="faithful")
        table = evaluate(agent, env, evaluation_steps, seed=settings.seed + 10_000)
        means = {name: float(table[name].mean()) for name in ("return", "cost", "entries")}
        errors = {f"{name}_error": float(table[name].std() / len(table) ** 0.5) for name in means}
        result = means | errors | {"episodes": len(table), "training": agent.record}
        write_json(folder / "evaluation.json", result)
        print(json.dumps(result))
    return 0


def name_of(settings: AgentSettings) -> str:
    """A run's folder: robot, method, cost limit where it counts, steps, seed."""
    robot = "car" if "Car" in settings.task else "point"
    limit = "" if settings.method in ("ppo", "ppo_barrier") else f"_{settings.cost_limit:g}"
    return f"{robot}_{settings.method}{limit}_{settings.policy}_{settings.steps:.0e}_seed{settings.seed}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
