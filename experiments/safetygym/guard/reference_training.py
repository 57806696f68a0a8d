"""How the agents in experiments/safetygym/reference were trained, and the same again with other seeds.

    python -m experiments.safetygym.guard.reference_training agent=point_ours training_seed=1 out=DIR

runs the trainings that lead to the agent one after another, each below `out` (one core; a killed one goes on
when the command is given again) and leaves `out`/point_ours_seed1.safetensors, which goes beside the others.
`show=true` prints the commands instead. Training 0 is the committed one.

Training k gives PPO, PPO-Lag, Sauté and PPO-Barrier seed k. What is trained under a guard takes one seed for
each phase, so its seeds are 10 k, then 100 + 10 k, and so on: no phase of two trainings shares one. The
first of its phases begins with data of PPO of training 0, which is all that two trainings have in common.
"""

from __future__ import annotations

import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from experiments.safetygym.agents import train
from experiments.safetygym.agents.checkpoints import load_agent, save_agent
from experiments.safetygym.guard import guarded_training
from experiments.safetygym.references import ROUTED, TASK_OF, agent_file
from safeframe.types import SafeframeError

SMALL = "hidden=64,64"
PPO = "ppo"
ROUTE = "route_room=0.03"
"""Of agents that see their goal along a route."""
KNOB = re.compile(r"(?P<method>ppo_lag|ppo_lag_long|saute)_(?P<limit>\d+(\.\d+)?)")
MODULES = {"train": train, "guarded_training": guarded_training}


@dataclass(frozen=True)
class Part:
    """One training on the way to an agent.

    Attributes:
        module: "train" or "guarded_training".
        settings: its arguments but `out`.
        folder: its `out`, below that of the whole.
        begins: the agent of the part before that it goes on with, a file below the folder of the whole.
    """

    module: str
    settings: tuple[str, ...]
    folder: str
    begins: str | None = None

    @property
    def agent(self) -> str:
        """The file that it leaves, below the folder of the whole."""
        phase = "" if self.module == "train" else f"phase_{len(guarded_training.PHASES) - 1}/"
        return f"{self.folder}/{phase}agent.safetensors"

    def arguments(self, out: Path) -> list[str]:
        """What its command takes."""
        begins = [] if self.begins is None else [f"agent={out / self.begins}"]
        return [*begins, *self.settings, f"out={out / self.folder}"]


def parts(agent: str, training_seed: int = 0) -> list[Part]:
    """The trainings that lead to a reference agent ("car_ppo_lag_0.5"), in their order.

    Raises:
        SafeframeError: for a name that is not one's, and a negative seed.
    """
    prefix = next((prefix for prefix in TASK_OF if agent.startswith(f"{prefix}_")), None)
    if prefix is None or training_seed < 0:
        known = ", ".join(f"{one}_<name>" for one in TASK_OF)
        raise SafeframeError(f"agent={agent} training_seed={training_seed}: one of {known}, and >= 0")
    name, car = agent.removeprefix(f"{prefix}_"), prefix == "car"
    task = () if prefix == "point" else (f"task={TASK_OF[prefix]}",)
    if ROUTED in name:
        name, task = name.replace(ROUTED, "", 1), (*task, ROUTE)
    if name == "ours":
        return _ours(prefix, task, training_seed)
    seed, named = f"seed={training_seed}", KNOB.fullmatch(name)
    if name == PPO:
        settings = ("method=ppo", "steps=1e7")
    elif name == "ppo_gaussian":
        settings = ("method=ppo", "policy=gaussian", f"steps={'5e6' if car else '1e7'}")
    elif name == "ppo_barrier":
        settings = ("method=ppo_barrier", "barrier_penalty_initial=2", "steps=1e7", SMALL)
    elif named and named["method"] == "saute":
        settings = ("method=saute", f"cost_limit={named['limit']}", "steps=1e7", SMALL)
    elif named:
        steps = "3e7" if named["method"] == "ppo_lag_long" else "1e7"
        settings = ("method=ppo_lag", f"cost_limit={named['limit']}", f"steps={steps}", SMALL)
    else:
        raise SafeframeError(f"agent={agent}: it is not known how {name!r} is trained")
    return [Part("train", (*settings, *task, seed), name)]


def _ours(prefix: str, task: tuple[str, ...], training_seed: int) -> list[Part]:
    """Trainings under the guard, each going on with the agent of the one before.

    At PointGoal2 there is one, and its first data come from a PPO of 2 * 10^6 steps that is trained for them.
    Routed agents need fewer, and the first data of all of them come from PPO as it is.
    """
    first, on, car = f"agent={agent_file(prefix, PPO)}", ("learning_rate=5e-4",), prefix == "car"
    trainings = (("8e6", ()), ("6e6", on))
    if car:
        trainings = (("5e6", ()), ("1e7", on), ("1e7", on), ("1e7", (*on, "entropy=0")))
    goal2, routed = prefix == "goal2_point", ROUTE in task
    if goal2:
        trainings = (("6e6", ()),)
    elif routed:
        trainings = (("1e7", ()),) if car else (("8e6", ()), ("4e6", (*on, "entropy=0")))
    cases = ("cases=4e5",) if car else ()
    found: list[Part] = []
    if goal2 and not routed:
        short = ("method=ppo", "steps=2e6", "evaluate=0", *task, f"seed={training_seed}")
        found.append(Part("train", short, "ours_0"))
    for number, (steps, more) in enumerate(trainings):
        begins, start = (found[-1].agent, ()) if found else (None, (first,))
        folder = "ours" if number == len(trainings) - 1 else f"ours_{number + 1}"
        seed = f"seed={100 * number + 10 * training_seed}"
        settings = (*start, *task, *cases, f"steps={steps}", seed, *more)
        found.append(Part("guarded_training", settings, folder, begins))
    return found


def train_again(agent: str, training_seed: int, out: Path) -> Path:
    """Train a reference agent with other seeds; its file. What is done below `out` is not done again.

    Training 0 keeps its critics, for who goes on with it; the others, which are there to be compared, do not:
    they make up almost half of a file.
    """
    todo = parts(agent, training_seed)
    for part in todo:
        if not (out / part.agent).exists() and MODULES[part.module].main(part.arguments(out)) != 0:
            raise SafeframeError(f"{agent}: its training {part.folder} has failed")
    target = out / f"{agent}{f'_seed{training_seed}' * bool(training_seed)}.safetensors"
    trained = out / todo[-1].agent
    if training_seed == 0:
        shutil.copyfile(trained, target)
    else:
        save_agent(load_agent(trained), target, critics=False)
    return target


def main(arguments: list[str]) -> int:
    """The command; 0 done, 2 wrong arguments."""
    try:
        pairs = dict(argument.split("=", 1) for argument in arguments)
        agent, seed, out = pairs.pop("agent"), int(pairs.pop("training_seed", "0")), Path(pairs.pop("out"))
        show = pairs.pop("show", "false") == "true"
        if pairs:
            raise SafeframeError(f"unknown {', '.join(pairs)}; agent, training_seed, out and show are known")
        todo = parts(agent, seed)
    except (SafeframeError, ValueError, KeyError) as error:
        print(f"wrong arguments: {error}", file=sys.stderr)
        return 2
    if show:
        for part in todo:
            print("python -m", MODULES[part.module].__name__, *part.arguments(out))
    else:
        print(train_again(agent, seed, out))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
