"""Episodes from above: under the guard, with the candidates coloured by their bound, and without it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from experiments.safetygym.guard.guarding import GuardedPolicy
from experiments.safetygym.sim.render import Candidates, Frame, save_gif, save_png
from experiments.safetygym.sim.task import Task
from experiments.safetygym.sim.vector import SafetyGymVector
from experiments.support.files import write_json

STEPS, EVERY = 400, 4
PAIR_EVERY, LAYOUTS = 8, 20
"""Of the pair of episodes: every which step is drawn, and among how many layouts one is looked for."""
GUARDED, UNGUARDED, PAIR = "episode_guarded", "episode_unguarded", "episodes.json"
"""Files of the pair of episodes in one layout (.gif), and of what was counted in them."""


class Levels(Protocol):
    """What colours candidates: a calibration."""

    def level(self, margin: np.ndarray, r_t: float = 1.0) -> np.ndarray:
        """A number in [0, 1] for each margin (..., k), held against r_t."""
        ...


@dataclass(frozen=True)
class Shown:
    """What is drawn beside a guarded policy: its calibration, and the threshold r_t that it acts at."""

    calibration: Levels
    r_t: float


def guarded_episode(
    policy: GuardedPolicy,
    calibration: Levels,
    r_t: float,
    directory: Path,
    seed: int,
) -> Path:
    """Write episode.gif (the first 400 steps, every fourth drawn) and episode.png into `directory`; the GIF's
    path. A candidate's colour is the least r_t at which it would be accepted."""
    assert policy.guard is not None
    frames = list(_frames(_Episode(policy, seed), Shown(calibration, r_t), EVERY))
    save_png(frames[len(frames) // 2], directory / "episode.png")
    return save_gif(frames, directory / "episode.gif")


def pair_of_episodes(
    guarded: GuardedPolicy,
    alone: GuardedPolicy,
    calibration: Levels,
    r_t: float,
    directory: Path,
    seeds: Sequence[int],
) -> Path:
    """The same layout with and without the guard: episode_guarded.gif, episode_unguarded.gif, episodes.json.

    A layout shows a difference only if the agent alone enters a hazard in it within 400 steps: the first such
    one of `seeds` is taken (the first of all if there is none); the file says which, and among how many.

    Args:
        guarded: the policy under its guard.
        alone: the same agent without a guard.
        calibration: of the guard.
        r_t: that the guard acts at.
        directory: where the files go.
        seeds: of the layouts that may be taken.

    Returns:
        The path of episodes.json.
    """
    assert guarded.guard is not None
    assert alone.guard is None
    place = next((i for i, seed in enumerate(seeds) if _Episode(alone, seed).run().inside), 0)
    inside = _inside(guarded.default_action.task).replace(" ", "_")
    content: dict[str, Any] = {"layout": place + 1, "layouts": len(seeds), "steps": STEPS, "r_t": r_t}
    for name, policy, shown in (
        (GUARDED, guarded, Shown(calibration, r_t)),
        (UNGUARDED, alone, None),
    ):
        episode = _Episode(policy, seeds[place])
        save_gif(list(_frames(episode, shown, PAIR_EVERY)), directory / f"{name}.gif", 0.1)
        content[name] = {"return": round(episode.total, 3), inside: episode.inside}
    write_json(directory / PAIR, content)
    return directory / PAIR


def _inside(task: Task) -> str:
    """What steps with a cost are called."""
    return "steps with a cost" if task.level.vases_cost else "steps in a hazard"


class _Episode:
    """Up to STEPS steps of one environment, with what has been counted so far."""

    def __init__(self, policy: GuardedPolicy, seed: int):
        self.policy, self.seed = policy, seed
        self.env = policy.agent.wrap(SafetyGymVector(policy.agent.task, 1, seed=seed))
        self.observation, _ = self.env.reset()
        self.path: list[np.ndarray] = []
        self.total, self.cost, self.inside, self.step = 0.0, 0.0, 0, 0

    def act(self) -> np.ndarray:
        """The action of this step; where the robot is joins the path."""
        self.path.append(self.env.get_state().robot[0, :2].copy())
        return self.policy(self.observation)

    def take(self, action: np.ndarray) -> None:
        """Go one step."""
        self.observation, reward, _, _, info = self.env.step(action)
        self.total, self.cost = self.total + float(reward[0]), float(info["cost"][0])
        self.inside += int(self.cost > 0)
        self.step += 1

    def run(self) -> _Episode:
        """All steps, without a picture."""
        while self.step < STEPS:
            self.take(self.act())
        return self


def _frames(episode: _Episode, shown: Shown | None, every: int) -> Iterator[Frame]:
    """Every which step of an episode as a picture: with its candidates, or with its count of steps."""
    env = episode.env
    names = ("thrust", "turn") if env.task.robot == "point" else ("left", "right")
    while episode.step < STEPS:
        observation, action = episode.observation, episode.act()
        if episode.step % every == 0:
            text = f"step {episode.step}   return {episode.total:.1f}   "
            text += f"{_inside(env.task)}: {episode.inside}" if shown is None else f"r_t = {shown.r_t:g}"
            found = None if shown is None else _candidates(episode.policy, shown, observation, names)
            yield Frame.of(env, 0, np.array(episode.path), episode.cost, text, found)
        episode.take(action)


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
