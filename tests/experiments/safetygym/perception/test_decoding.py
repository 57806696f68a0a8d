"""Hazards read back from the pseudo-lidar, and clearances from them."""

import numpy as np
import pytest
from safetygym_small import CAR, POINT, lone_hazard

from experiments.safetygym.perception.decoding import BETWEEN_HAZARDS, FAR, MAX_HAZARDS, decode
from experiments.safetygym.sim.clearance import CLEARANCE_HIGH, CLEARANCE_LOW
from experiments.safetygym.sim.task import HAZARD_RADIUS
from experiments.safetygym.sim.vector import SafetyGymVector
from experiments.safetygym.states.geometry import WIDE, least_clearance


def scattered(n: int, seed: int, layout: str = "fast") -> tuple[np.ndarray, np.ndarray]:
    """Lidars (n, 16) of Points set down anywhere in real layouts, and the hazards (n, 8, 2) in body axes."""
    rng = np.random.default_rng(seed)
    env = SafetyGymVector(POINT, n, seed=seed, vase="fixed", layout=layout)
    env.reset()
    state = env.get_state()
    state.robot[:, :2], state.robot[:, 2] = rng.uniform(-1.5, 1.5, (n, 2)), rng.uniform(-np.pi, np.pi, n)
    observation = env.set_state(state)
    away = state.hazards - state.robot[:, None, :2]
    c, s = np.cos(state.robot[:, 2, None]), np.sin(state.robot[:, 2, None])
    body = np.stack([c * away[..., 0] + s * away[..., 1], c * away[..., 1] - s * away[..., 0]], axis=-1)
    return observation[:, env.task.block("hazards_lidar")], body


def decoded(lidar: np.ndarray, horizon: float = 1.4) -> np.ndarray:
    out = np.empty((len(lidar), MAX_HAZARDS, 2, 2))
    decode(np.ascontiguousarray(lidar), horizon, BETWEEN_HAZARDS, out)
    return out


def gap_to_arcs(point: np.ndarray, arcs: np.ndarray) -> np.ndarray:
    """(n,) m from points (n, 2) to the nearest of arcs (n, 6, 2, 2) about the origin."""
    radius, angle = np.linalg.norm(arcs[:, :, 0], axis=2), np.arctan2(arcs[..., 1], arcs[..., 0])
    turn = np.mod(np.arctan2(point[:, 1], point[:, 0])[:, None] - angle[..., 0] + np.pi, 2 * np.pi) - np.pi
    span = np.mod(angle[..., 1] - angle[..., 0] + np.pi, 2 * np.pi) - np.pi
    beyond = np.maximum(np.maximum(-turn, turn - span), 0.0)
    distance = np.linalg.norm(point, axis=1)[:, None]
    return np.hypot(radius - distance, distance * beyond).min(axis=1)


def check_near(n: int, seed: int, missed: float = 0.0) -> None:
    """Near hazards lie on arcs, but for a share `missed` that others hide in the lidar."""
    lidar, body = scattered(n, seed)
    distance = np.linalg.norm(body, axis=2)
    free = distance.min(axis=1) > 0.2
    arcs = decoded(lidar)
    row, hazard = np.nonzero((distance <= 0.6) & free[:, None])
    assert len(row) > n / 3
    assert (gap_to_arcs(body[row, hazard], arcs[row]) > 1e-4).mean() <= missed
    exact = np.linalg.norm(arcs[:, :, 0] - arcs[:, :, 1], axis=2) < 1e-3
    assert exact[arcs[:, :, 0, 0] < FAR].mean() > 0.25  # else the arcs say little


def test_near_hazards_lie_on_decoded_arcs():
    check_near(2000, 0)


@pytest.mark.long
def test_near_hazards_lie_on_decoded_arcs_in_very_many_layouts():
    for seed in range(1, 11):
        check_near(20_000, seed, missed=1e-3)


@pytest.mark.parametrize("task", [POINT, CAR])
def test_a_lone_hazard_is_found_exactly(task):
    n, rng = 300, np.random.default_rng(1)
    env = SafetyGymVector(task, n, seed=0, vase="fixed")
    env.reset()
    distance = rng.uniform(0.02, 1.39, n)
    distance[:20] = rng.uniform(1.41, 2.9, 20)
    offset = lone_hazard(env, distance, rng)
    arcs = decoded(env.last_observation[:, env.task.block("hazards_lidar")])
    assert (arcs[:20] == FAR).all()  # beyond the horizon
    assert (arcs[20:, 1:] == FAR).all()
    np.testing.assert_allclose(
        np.linalg.norm(arcs[20:, 0], axis=2), distance[20:, None].repeat(2, 1), atol=1e-4
    )
    np.testing.assert_allclose(arcs[20:, 0, 0], arcs[20:, 0, 1], atol=1e-4)
    if task == POINT:  # a heading, and nothing else, turns its axes
        c, s = np.cos(env.state.robot[:, 2]), np.sin(env.state.robot[:, 2])
        body = np.stack([c * offset[:, 0] + s * offset[:, 1], c * offset[:, 1] - s * offset[:, 0]], axis=1)
        np.testing.assert_allclose(arcs[20:, 0, 0], body[20:], atol=1e-4)


def paths(n: int, k: int, seed: int) -> np.ndarray:
    """Wandering paths (n, k, 5, 2) of some 30 cm."""
    steps = np.random.default_rng(seed).normal(0.03, 0.06, (n, k, 5, 2))
    return steps.cumsum(axis=2).astype(np.float32)


def brute_force(path: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Clearance (n, k) of paths, finely divided, from points (n, p, 2)."""
    whole = path.astype(np.float64)
    w = np.linspace(0, 1, 200)[:, None]
    fine = [(1 - w) * whole[:, :, t, None] + w * whole[:, :, t + 1, None] for t in range(path.shape[2] - 1)]
    fine = np.concatenate(fine, axis=2)  # (n, k, many, 2)
    least = np.full(path.shape[:2], np.inf)
    for p in range(points.shape[1]):
        least = np.minimum(least, np.linalg.norm(fine - points[:, None, p, None], axis=3).min(axis=2))
    return np.clip(least - 0.2, CLEARANCE_LOW, CLEARANCE_HIGH)


def test_clearances_from_points_are_those_of_brute_force():
    n, rng = 100, np.random.default_rng(2)
    path = paths(n, 4, 2)
    hazards = np.full((n, MAX_HAZARDS, 2, 2), FAR)
    hazards[:90, :3] = rng.uniform(-0.7, 0.7, (90, 3, 1, 2))
    out = np.empty((n, 4), np.float32)
    least_clearance(path, hazards, HAZARD_RADIUS, out)
    expected = brute_force(path, hazards[:, :, 0])
    assert ((expected > CLEARANCE_LOW) & (expected < CLEARANCE_HIGH)).mean() > 0.3
    assert (out[90:] == np.float32(CLEARANCE_HIGH)).all()
    np.testing.assert_allclose(out, expected, atol=1e-3)


def test_clearances_from_arcs_miss_no_more_than_the_gaps_between_their_points():
    n, rng = 100, np.random.default_rng(3)
    path = paths(n, 4, 3)
    radius, start = rng.uniform(0.25, 0.6, (n, 3)), rng.uniform(-np.pi, np.pi, (n, 3))
    span = rng.uniform(0.0, 2 * np.pi / 16, (n, 3))
    hazards = np.full((n, MAX_HAZARDS, 2, 2), FAR)
    for end, angle in enumerate((start, start + span)):
        hazards[:, :3, end] = radius[..., None] * np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    out = np.empty((n, 4), np.float32)
    least_clearance(path, hazards, HAZARD_RADIUS, out)
    angle = start[..., None] + span[..., None] * np.linspace(0, 1, 40)
    points = radius[..., None, None] * np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    excess = out - brute_force(path, points.reshape(n, -1, 2))
    assert excess.min() > -1e-3
    assert excess.max() < max(0.6 * 2 * np.pi / 16 / 6, WIDE / 2) + 1e-3
