"""Measure the simulator on one core: environment steps a second, everything included.

Observation, reward, cost and resets count.

    python benchmarks/bench_sim.py
    python benchmarks/bench_sim.py --other safety-gymnasium=/path/to/python --other safety-gym=/path/to/python

Each repeat times, one after the other on the same core, 256 Points with the vase fixed, 256 Points with the
faithful vase, 64 Cars, and the plain loops: mj_step ten times and mj_forward once per control step, physics
only, from Python, one environment with its vase (Point and Car). Ratios are taken within a repeat. Point
and Car steer for the goal, so that the vase is met as often as in use; time is that of the process, in
which nothing runs in parallel, so that other work on the machine disturbs less; the controller is not
timed, nor is compilation. Other simulators are timed in interpreters of their own if given (random
actions), since they cannot be installed beside this one. Before anything is timed the fast Point is
compared with the loop. Writes results/tables/bench_sim.csv and the claims safetygym.sim.*.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import mujoco

from experiments.safetygym.sim.car.mjcf import car_model
from experiments.safetygym.sim.mjcf import point_model
from experiments.safetygym.sim.task import FRAMESKIP
from experiments.safetygym.sim.vector import SafetyGymVector
from experiments.support.bench import Bench, Spread, quotient, spread

POINT, CAR = "Safexp-PointGoal1-v0", "Safexp-CarGoal1-v0"
OTHERS = {
    "safety-gymnasium": ("safety_gymnasium", "SafetyPointGoal1-v0", "SafetyCarGoal1-v0"),
    "safety-gym": ("safety_gym", POINT, CAR),
}
OTHER_CODE = """
import sys, time, importlib
module, task, steps = sys.argv[1], sys.argv[2], int(sys.argv[3])
make = importlib.import_module(module)
if not hasattr(make, "make"):
    import gym as make
env = make.make(task)
env.reset()
actions = [env.action_space.sample() for _ in range(100)]
start = time.process_time()
for k in range(steps):
    out = env.step(actions[k % 100])
    if any(bool(x) for x in out[2:-1] if isinstance(x, (bool, int)) or getattr(x, "dtype", None) == bool):
        env.reset()
print("STEPS_PER_S", steps / (time.process_time() - start))
"""


def steer(env: SafetyGymVector) -> np.ndarray:
    """Actions (n, 2) that drive every robot at its goal."""
    state, car = env.state, env.task.robot == "car"
    ahead = env.robot.heading(state) - (np.pi / 2 if car else 0.0)
    way = state.goal - state.robot[:, :2]
    angle = np.mod(np.arctan2(way[:, 1], way[:, 0]) - ahead + np.pi, 2 * np.pi) - np.pi
    if car:
        turn = np.clip(0.04 * angle, -0.02, 0.02)
        return np.stack([0.015 - turn, 0.015 + turn], axis=1)
    return np.stack([np.where(np.abs(angle) < 0.5, 0.05, 0.0), np.clip(angle, -1, 1)], axis=1)


def vector_rate(env: SafetyGymVector, steps: int) -> float:
    """Environment steps a second over `steps` control steps of all environments."""
    seconds = 0.0
    for _ in range(steps):
        actions = steer(env)
        start = time.process_time()
        env.step(actions)
        seconds += time.process_time() - start
    return steps * env.num_envs / seconds


def loop_rate(model: mujoco.MjModel, steps: int) -> float:
    """Control steps a second of the plain loop."""
    data, rng = mujoco.MjData(model), np.random.default_rng(0)
    data.qpos[model.nq - 7] += 1.0  # the vase a metre away
    actions = rng.uniform(-1, 1, (steps, 2))
    start = time.process_time()
    for k in range(steps):
        data.ctrl[:] = actions[k]
        for _ in range(FRAMESKIP):
            mujoco.mj_step(model, data)
        mujoco.mj_forward(model, data)
    return steps / (time.process_time() - start)


def other_rate(python: str, module: str, task: str, steps: int) -> float:
    """Steps a second of another simulator in its own interpreter."""
    done = subprocess.run(
        [python, "-c", OTHER_CODE, module, task, str(steps)], capture_output=True, text=True, check=False
    )
    found = [line for line in done.stdout.splitlines() if line.startswith("STEPS_PER_S")]
    if done.returncode or not found:
        raise SystemExit(f"error: {module} by {python} failed:\n{done.stderr[-2000:]}")
    return float(found[-1].split()[1])


def check() -> None:
    """The fast Point is MuJoCo's: a hundred steps of one, vase out of reach."""
    env = SafetyGymVector(POINT, num_envs=1, seed=0)
    env.reset()
    state = env.get_state()
    state.vases[0, 0, 0] = 5.0
    env.set_state(state)
    data, model = mujoco.MjData(point_model()), point_model()
    data.qpos[:3], data.qpos[3:] = state.robot[0, :3], state.vases[0, 0, :7]
    for k in range(100):
        action = np.array([0.05 * np.sin(k), 0.05 * np.cos(k)])  # small turns: larger ones are chaotic
        obs, *_ = env.step(action[None])
        data.ctrl[:] = action
        mujoco.mj_step(model, data, FRAMESKIP)
        mujoco.mj_forward(model, data)
        np.testing.assert_allclose(obs[0, :3], data.sensordata[:3], atol=1e-5)
        np.testing.assert_allclose(env.state.robot[0, :3], data.qpos[:3], atol=1e-9)


def measure(repeats: int, seconds: float) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Rates by name, one per repeat; and shares of faithful Point steps in MuJoCo and of steps that score."""
    environments = {
        "Point, vase fixed": SafetyGymVector(POINT, 256, seed=0, vase="fixed"),
        "Point, vase faithful": SafetyGymVector(POINT, 256, seed=0, vase="faithful"),
        "Car, vase faithful": SafetyGymVector(CAR, 64, seed=0, vase="faithful"),
    }
    calls: dict[str, Callable[[int], float]] = {}
    for name, env in environments.items():
        env.reset(options={"stagger": True})
        calls[name] = lambda steps, env=env: vector_rate(env, steps)
    calls["mj_step loop, Point, physics only"] = lambda steps: loop_rate(point_model(), steps)
    calls["mj_step loop, Car, physics only"] = lambda steps: loop_rate(car_model(), steps)
    per_step = {name: env.num_envs for name, env in environments.items()}
    steps = {}
    for name, call in calls.items():  # compiles, warms up and finds out how many steps fill the time
        call(10)
        rate = call(40)
        steps[name] = max(100, int(seconds * rate / per_step.get(name, 1)))
    point = environments["Point, vase faithful"]
    point.robot.handed_over = 0
    rates: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            rates[name].append(call(steps[name]))
    total = repeats * steps["Point, vase faithful"] * point.num_envs
    return rates, {"share of Point steps in MuJoCo": point.robot.handed_over / total}


def main() -> None:
    bench = Bench("bench_sim", __doc__, experiment="safetygym", data="goal-seeking robots, one core")
    parser = bench.parser
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each measurement")
    parser.add_argument("--other", action="append", default=[], metavar="NAME=PYTHON", help=f"{list(OTHERS)}")
    options = bench.parse()
    others = dict(item.split("=", 1) for item in options.other if "=" in item)
    if len(others) != len(options.other) or not set(others) <= set(OTHERS):
        parser.error(f"--other {options.other}: NAME=PYTHON is needed with NAME in {list(OTHERS)}")
    bench.require_commit()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    check()
    rates, shares = measure(options.repeats, options.seconds)
    for name, python in others.items():
        module, *tasks = OTHERS[name]
        for robot, task in zip(("Point", "Car"), tasks, strict=True):
            steps = int(options.seconds * 400) + 100
            rates[f"{name}, {robot}"] = [other_rate(python, module, task, steps) for _ in range(3)]

    rows: list[dict[str, Any]] = []
    ratios: dict[str, Spread] = {}
    for name, values in rates.items():
        robot = "Car" if "Car" in name else "Point"
        loop = rates[f"mj_step loop, {robot}, physics only"]
        ratios[name] = spread([value / base for value, base in zip(values, loop, strict=False)])
        rate = spread(values)
        rows.append(
            {
                "what": name,
                "steps_per_s": rate.value,
                "low": rate.low,
                "high": rate.high,
                "times_mj_step": ratios[name].value,
                "repeats": len(values),
            }
        )
    for name, value in shares.items():
        rows.append({"what": name, "steps_per_s": np.nan, "share": value})
    frame = pd.DataFrame(rows)
    bench.write(frame)
    bench.show(frame)
    record_claims(bench, rates, ratios, options.repeats)
    for name in others:
        record_others(bench, name, rates)


def record_claims(bench: Bench, rates: dict, ratios: dict[str, Spread], repeats: int) -> None:
    """Medians, with the extremes of the repeats; n is their number."""
    claims = {
        "safetygym.sim.point_steps_per_s": spread(rates["Point, vase fixed"]),
        "safetygym.sim.point_vase_steps_per_s": spread(rates["Point, vase faithful"]),
        "safetygym.sim.car_steps_per_s": spread(rates["Car, vase faithful"]),
        "safetygym.sim.speedup_over_mj_step": ratios["Point, vase fixed"],
        "safetygym.sim.vase_speedup_over_mj_step": ratios["Point, vase faithful"],
        "safetygym.sim.car_speedup_over_mj_step": ratios["Car, vase faithful"],
    }
    for claim, found in claims.items():
        bench.claim(claim, found, repeats)


def record_others(bench: Bench, name: str, rates: dict) -> None:
    """Ours over another simulator's: ratio of the medians, with the extremes of all pairs."""
    short = name.replace("-", "_")
    pairs = {
        f"speedup_over_{short}": ("Point, vase fixed", f"{name}, Point"),
        f"vase_speedup_over_{short}": ("Point, vase faithful", f"{name}, Point"),
        f"car_speedup_over_{short}": ("Car, vase faithful", f"{name}, Car"),
    }
    command = f"{bench.command} --other {name}=PYTHON"
    for claim, (ours, theirs) in pairs.items():
        ratio = quotient(spread(rates[ours]), spread(rates[theirs]))
        bench.claim(f"safetygym.sim.{claim}", ratio, len(rates[theirs]), command=command)


if __name__ == "__main__":
    main()
