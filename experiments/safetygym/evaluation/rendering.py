"""One episode from above: under the guard, with the candidates coloured by their bound, and without it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from experiments.safetygym.agents.agent import Agent
from experiments.safetygym.guard.calibration import Calibration
from experiments.safetygym.guard.candidate_calibration import CandidateCalibration
from experiments.safetygym.guard.guarding import GuardedPolicy
from experiments.safetygym.sim.render import Candidates, Frame, save_gif, save_png
from experiments.safetygym.sim.vector import SafetyGymVector
from experiments.support.files import write_json

STEPS, EVERY = 400, 4
GUARDED, UNGUARDED = "episode", "episode_unguarded"
"""Names of the files of the two episodes."""


@dataclass(frozen=True)
class Shown:
    """What is drawn beside a guarded policy: its calibration, and the threshold r_t that it acts at."""

    calibration: Calibration | CandidateCalibration
    r_t: float


def guarded_episode(
    policy: GuardedPolicy,
    calibration: Calibration | CandidateCalibration,
    r_t: float,
    directory: Path,
    seed: int,
) -> Path:
    """Write episode.gif (the first 400 steps, every fourth drawn) and episode.png into `directory`; the GIF's
    path. A candidate's colour is the least r_t at which it would be accepted."""
    assert policy.guard is not None
    frames, numbers = _episode(policy.agent, policy, seed, Shown(calibration, r_t))
    save_png(frames[len(frames) // 2], directory / f"{GUARDED}.png")
    write_json(directory / f"{GUARDED}.json", numbers)
    return save_gif(frames, directory / f"{GUARDED}.gif")


def unguarded_episode(policy: GuardedPolicy, directory: Path, seed: int) -> Path:
    """Write episode_unguarded.gif, the same agent in the same layout as `guarded_episode` of that seed, into
    `directory`; its path. Steps inside a hazard are marked red. `policy` has no guard."""
    assert policy.guard is None
    frames, numbers = _episode(policy.agent, policy, seed, None)
    write_json(directory / f"{UNGUARDED}.json", numbers)
    return save_gif(frames, directory / f"{UNGUARDED}.gif")


def _episode(
    agent: Agent, policy: GuardedPolicy, seed: int, shown: Shown | None
) -> tuple[list[Frame], dict[str, float]]:
    """Frames of the first STEPS steps; their number, the return, and how many were inside a hazard."""
    env = agent.wrap(SafetyGymVector(agent.task, 1, seed=seed))
    observation, _ = env.reset()
    names = ("thrust", "turn") if env.task.robot == "point" else ("left", "right")
    frames, path, total, cost, inside = [], [], 0.0, 0.0, 0
    for step in range(STEPS):
        action = policy(observation)
        path.append(env.get_state().robot[0, :2].copy())
        if step % EVERY == 0:
            text = f"step {step}   return {total:.1f}   "
            frame = Frame.of(env, 0, np.array(path), cost, text)
            if shown is None:
                frames.append(replace(frame, text=f"{text}steps in a hazard: {inside}"))
            else:
                found = _candidates(policy, shown, observation, names)
                frames.append(replace(frame, text=f"{text}r_t = {shown.r_t:g}", candidates=found))
        observation, reward, _, _, info = env.step(action)
        total, cost = total + float(reward[0]), float(info["cost"][0])
        inside += cost > 0
    return frames, {"steps": STEPS, "return": round(total, 3), "steps_in_a_hazard": int(inside)}


def _candidates(
    policy: GuardedPolicy, shown: Shown, observation: np.ndarray, names: tuple[str, str]
) -> Candidates:
    """The agent's candidates, each with the least r_t at which it would be accepted."""
    assert policy.guard is not None
    margin = policy.guard.classifier.margin(observation[:, : policy.size])[0]
    chosen = int(policy.candidate[0])
    return Candidates(
        policy.agent.candidates,
        shown.calibration.level(margin, shown.r_t),
        shown.r_t,
        chosen if chosen >= 0 else None,
        names,
    )
