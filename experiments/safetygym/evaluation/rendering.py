"""One guarded episode from above, with the candidates coloured by their bound."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from experiments.safetygym.guard.calibration import Calibration
from experiments.safetygym.guard.guarding import GuardedPolicy
from experiments.safetygym.sim.render import Candidates, Frame, save_gif, save_png
from experiments.safetygym.sim.vector import SafetyGymVector

STEPS, EVERY = 400, 4


def guarded_episode(
    policy: GuardedPolicy, calibration: Calibration, r_t: float, directory: Path, seed: int
) -> Path:
    """Write episode.gif (the first 400 steps, every fourth drawn) and episode.png into `directory`; the GIF's
    path. A candidate's colour is the least r_t at which it would be accepted."""
    task = policy.agent.task
    env = policy.agent.wrap(SafetyGymVector(task, 1, seed=seed))
    observation, _ = env.reset()
    names = ("thrust", "turn") if env.task.robot == "point" else ("left", "right")
    frames, path, total, cost = [], [], 0.0, 0.0
    assert policy.guard is not None
    for step in range(STEPS):
        action = policy(observation)
        path.append(env.get_state().robot[0, :2].copy())
        if step % EVERY == 0:
            margin = policy.guard.classifier.margin(observation[:, : policy.size])[0]
            chosen = int(policy.candidate[0])
            candidates = Candidates(
                policy.agent.candidates,
                calibration.level(margin, r_t),
                r_t,
                chosen if chosen >= 0 else None,
                names,
            )
            text = f"step {step}   return {total:.1f}   r_t = {r_t:g}"
            frames.append(Frame.of(env, 0, np.array(path), cost, text, candidates))
        observation, reward, _, _, info = env.step(action)
        total, cost = total + float(reward[0]), float(info["cost"][0])
    save_png(frames[len(frames) // 2], directory / "episode.png")
    return save_gif(frames, directory / "episode.gif")
