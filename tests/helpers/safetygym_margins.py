"""Classifiers whose margins are known, and cases that they judge."""

import numpy as np
import torch
from safetygym_small import POINT, untrained

from experiments.safetygym.guard.classifier import LogitClassifier
from experiments.safetygym.sim.task import get_task
from experiments.safetygym.states.internal_data import Shard

K = 15


class Given(LogitClassifier):
    """Margins as they are given, one row per observation; of some of the observations, their rows."""

    def __init__(self, margins: np.ndarray, task: str = POINT):
        super().__init__(get_task(task), margins.shape[1], (4,))
        self.margins = margins
        self.row: dict[bytes, int] = {}

    def margin(self, observation: np.ndarray) -> np.ndarray:
        assert observation.shape[1] == self.task.observation_size
        if len(observation) == len(self.margins):
            self.row = {row.tobytes(): i for i, row in enumerate(observation)}
        return self.margins[[self.row[row.tobytes()] for row in observation]]


class Linear:
    """A classifier whose margin is a fixed linear function of the observation."""

    weights = np.random.default_rng(9).normal(size=(60, K)).astype(np.float32) / 4

    def margin(self, observation: np.ndarray) -> np.ndarray:
        return observation @ self.weights


def decided():
    """An untrained agent that is not nearly uniform."""
    agent = untrained(seed=1)
    with torch.no_grad():
        agent.networks.actor[-1].weight *= 100
    return agent


def behaviour(n: int, seed: int, slope: float, at: float) -> Shard:
    """Cases that are unsafe with probability sigmoid(slope (margin - at))."""
    rng = np.random.default_rng(seed)
    observation = rng.normal(size=(n, 60)).astype(np.float32)
    chance = 1 / (1 + np.exp(-slope * (Linear().margin(observation) - at)))
    return Shard(observation, (rng.random(chance.shape) < chance).astype(np.int8))
