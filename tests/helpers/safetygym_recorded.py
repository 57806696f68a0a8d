"""The recorded original of PointGoal1 as single control steps, for teacher-forced tests.

`load()` gives rows: state before the step (robot, vase, goal, hazards), action, and what the original
answered. They come from the full record if the environment variable SAFEFRAME_SAFETYGYM_RECORDED names its
folder (files point_goal1.npz and car_goal1.npz), else from the committed part of it. `python
tests/experiments/ safetygym_recorded.py FOLDER` remakes that part.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np

FIXTURE = Path(__file__).parent / "data" / "point_goal1_recorded.npz"
VARIABLE = "SAFEFRAME_SAFETYGYM_RECORDED"
Rows = dict[str, np.ndarray]


def load() -> Rows:
    """Rows of the Point.

    Per step: episode, t (k,); robot, next_robot (k, 6); vase, next_vase (k, 13); goal, next_goal (k, 2);
    action (k, 2); obs (k, 60); reward, cost (k,); met (k,) bool; contact (k,) bool (the vase was within reach
    or moved). Per episode (5, ...): seed, start (x, y, heading), vase0, goal0, hazards, obs0.
    """
    folder = os.environ.get(VARIABLE)
    if folder:
        return from_record(Path(folder) / "point_goal1.npz")
    with np.load(FIXTURE) as file:
        return {name: file[name] for name in file.files}


def in_world(record: Rows) -> tuple[np.ndarray, np.ndarray]:
    """robot (5, 1001, 6) in world axes and vase (5, 1001, 13): the original's slides point along the first
    heading and start at 0."""
    turn, first = record["rot0"], record["robot0"]
    c, s = np.cos(turn)[:, None], np.sin(turn)[:, None]
    q, v = record["qpos"], record["qvel"]
    robot = np.stack(
        [
            first[:, None, 0] + c * q[..., 0] - s * q[..., 1],
            first[:, None, 1] + s * q[..., 0] + c * q[..., 1],
            turn[:, None] + q[..., 2],
            c * v[..., 0] - s * v[..., 1],
            s * v[..., 0] + c * v[..., 1],
            v[..., 2],
        ],
        axis=-1,
    )
    return robot, np.concatenate([q[..., 3:], v[..., 3:]], axis=-1)


def from_record(path: Path) -> Rows:
    """All 5,000 steps of the full record."""
    with np.load(path) as file:
        record = {name: file[name] for name in file.files}
    robot, vase = in_world(record)
    goals = np.concatenate([record["goal0"][:, None], record["goal"]], axis=1)[..., :2]
    moving = np.abs(vase[..., 7:]).max(axis=-1) > 1e-4
    distance = np.linalg.norm(robot[..., :2] - vase[..., :2], axis=-1)
    near = (distance[:, :-1] < 0.345) | moving[:, :-1] | (record["ncon"] > 0)
    episode, t = np.indices(record["rew"].shape)
    rows = {
        "episode": episode,
        "t": t,
        "robot": robot[:, :-1],
        "next_robot": robot[:, 1:],
        "vase": vase[:, :-1],
        "next_vase": vase[:, 1:],
        "goal": goals[:, :-1],
        "next_goal": goals[:, 1:],
        "action": record["act"],
        "obs": record["obs"].astype(np.float32),
        "reward": record["rew"],
        "cost": record["cost"],
        "met": record["goalmet"],
        "contact": near,
    }
    rows = {name: value.reshape(-1, *value.shape[2:]) for name, value in rows.items()}
    rows["seed"], rows["vase0"], rows["goal0"] = record["seed"], record["vase0"], record["goal0"]
    rows["start"] = np.column_stack([record["robot0"][:, :2], record["rot0"]])
    rows["hazards"], rows["obs0"] = record["hazards"][..., :2], record["obs0"].astype(np.float32)
    return rows


def subsample(rows: Rows, rng: np.random.Generator) -> Rows:
    """Every hit, every cost and the steps around entries, and a random part of the rest."""
    free = np.flatnonzero(~rows["contact"])
    chosen = [
        np.flatnonzero(rows["met"] | (rows["cost"] > 0)),
        rng.choice(free, 130, replace=False),
        rng.choice(np.flatnonzero(rows["contact"]), 25, replace=False),
    ]
    keep = np.unique(np.concatenate(chosen))
    n = len(rows["t"])
    return {name: value[keep] if len(value) == n else value for name, value in rows.items()}


if __name__ == "__main__":
    np.savez_compressed(
        FIXTURE, **subsample(from_record(Path(sys.argv[1]) / "point_goal1.npz"), np.random.default_rng(0))
    )
    print(f"{FIXTURE}: {FIXTURE.stat().st_size:,} bytes")
