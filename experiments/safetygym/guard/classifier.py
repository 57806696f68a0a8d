"""Safety classification models: a margin for every candidate action, larger is riskier.

- `LogitClassifier` (the paper's): a network from the observation to one (safe, unsafe) pair of logits per
  candidate.
- `PathClassifier`: a network from the robot's velocity to the braking path of every candidate; the predicted
  clearance is the least distance between that path and the hazards read back from the lidar (`decoding`),
  where vases cost also to what is to be kept from those; the margin is minus the clearance, shifted per
  candidate by learned offsets. Errors near the boundary fall on cases that are safe anyway, and a state far
  from what was seen still gets the right geometry.
- `BoundedPathClassifier`: takes a predicted upper quantile of its own error off that clearance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from experiments.safetygym.learning_settings import PathErrorSettings
from experiments.safetygym.perception.decoding import decoded
from experiments.safetygym.records import METRES_PER_MARGIN
from experiments.safetygym.sim.clearance import CLEARANCE_HIGH
from experiments.safetygym.sim.task import Task
from experiments.safetygym.states.backup import PATH_STEPS
from experiments.safetygym.states.geometry import least_clearance

if TYPE_CHECKING:
    from experiments.safetygym.config import SafetyGymConfig

_CHUNK = 8192


def _mlp(inputs: int, hidden: Sequence[int], outputs: int, activation: type[nn.Module]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for width in hidden:
        layers += [nn.Linear(inputs, width), activation()]
        inputs = width
    return nn.Sequential(*layers, nn.Linear(inputs, outputs))


class Classifier(nn.Module):
    """What the guard needs of a classification model."""

    kind = "?"

    def __init__(self, task: Task, n_candidates: int, hidden: Sequence[int]):
        super().__init__()
        self.task, self.n_candidates, self.hidden = task, n_candidates, tuple(hidden)

    def features(self, observation: np.ndarray) -> tuple[Tensor, ...]:
        """What `forward` takes, from raw observations (n, d) float32: all that needs no gradient from the
        approximate loss, so that it can be kept."""
        raise NotImplementedError

    def forward(self, *features: Tensor) -> Tensor:
        """Margins (n, k), differentiable in the weights."""
        raise NotImplementedError

    def margin(self, observation: np.ndarray) -> np.ndarray:
        """Margins (n, k) float32 of raw observations (n, d), without gradients."""
        with torch.inference_mode():
            parts = [
                self(*self.features(observation[start : start + _CHUNK])).numpy()
                for start in range(0, len(observation), _CHUNK)
            ]
        return np.concatenate(parts) if parts else np.empty((0, self.n_candidates), np.float32)

    def way_out(self, observation: np.ndarray) -> np.ndarray:
        """(n, k): by what the default action chooses where nothing is feasible, least first: the margin."""
        return self.margin(observation)

    def logits(self, observation: np.ndarray) -> np.ndarray:
        """(n, k, 2): logits of safe and unsafe, whose difference is the margin."""
        margin = self.margin(observation)
        return np.stack([-margin / 2, margin / 2], axis=-1)


class LogitClassifier(Classifier):
    """Standardised observation → tanh layers → (safe, unsafe) logits of every candidate."""

    kind = "logits"

    def __init__(self, task: Task, n_candidates: int, hidden: Sequence[int] = (64, 64)):
        super().__init__(task, n_candidates, hidden)
        self.network = _mlp(task.observation_size, hidden, 2 * n_candidates, nn.Tanh)
        self.register_buffer("mean", torch.zeros(task.observation_size))
        self.register_buffer("scale", torch.ones(task.observation_size))

    def standardise(self, observation: np.ndarray) -> None:
        """Take mean and spread from observations (n, d); inputs are clipped at five spreads."""
        self.mean = torch.from_numpy(observation.mean(0, dtype=np.float64).astype(np.float32))
        spread = observation.std(0, dtype=np.float64).astype(np.float32)
        self.scale = torch.from_numpy(np.where(spread > 1e-6, spread, 1.0).astype(np.float32))

    def features(self, observation: np.ndarray) -> tuple[Tensor, ...]:
        return (((torch.from_numpy(observation) - self.mean) / self.scale).clamp(-5.0, 5.0),)

    def forward(self, *features: Tensor) -> Tensor:
        pair = self.network(features[0]).view(-1, self.n_candidates, 2)
        return pair[..., 1] - pair[..., 0]


class PathClassifier(Classifier):
    """Velocity → braking paths; clearance from the decoded hazards; margin = -(clearance) / 1 cm + offset."""

    kind = "path"

    def __init__(self, task: Task, n_candidates: int, hidden: Sequence[int] = (128, 128)):
        super().__init__(task, n_candidates, hidden)
        velocity, gyro = task.block("velocimeter").start, task.block("gyro").start
        self.inputs = [velocity, velocity + 1, gyro + 2]
        if task.robot == "car":  # wheels slip: forces, tilting and the ball tell more than velocities alone
            blocks = ("velocimeter", "gyro", "ballangvel_rear", "accelerometer")
            self.inputs = [i for name in blocks for i in range(task.observation_size)[task.block(name)]]
        self.times = len(PATH_STEPS[task.robot])
        self.network = _mlp(len(self.inputs), hidden, n_candidates * self.times * 2, nn.SiLU)
        self.offset = nn.Parameter(torch.zeros(n_candidates))
        self.register_buffer("scale", torch.ones(len(self.inputs)))

    def standardise(self, observation: np.ndarray) -> None:
        """Take the spread of the velocities from observations (n, d)."""
        spread = observation[:, self.inputs].std(0, dtype=np.float64).astype(np.float32)
        self.scale = torch.from_numpy(np.where(spread > 1e-6, spread, 1.0).astype(np.float32))

    def velocity(self, observation: np.ndarray) -> Tensor:
        """Standardised inputs of the network."""
        return torch.from_numpy(np.ascontiguousarray(observation[:, self.inputs])) / self.scale

    def paths(self, velocity: Tensor) -> Tensor:
        """Predicted positions (n, k, T, 2), m, body axes of the present."""
        return self.network(velocity).view(-1, self.n_candidates, self.times, 2)

    def features(self, observation: np.ndarray) -> tuple[Tensor, ...]:
        """Margins without offsets (n, k), from compiled code: only the offsets are left to the approximate
        loss, paths stay what they are, predictions of where the robot goes."""
        least = np.full((len(observation), self.n_candidates), CLEARANCE_HIGH, np.float32)
        with torch.no_grad():
            path = self.paths(self.velocity(observation)).numpy()
        for places, radius in decoded(self.task, observation):
            out = np.empty_like(least)
            least_clearance(path, places, radius, out)
            np.minimum(least, out, out=least)
        return (torch.from_numpy(least / np.float32(-METRES_PER_MARGIN)),)

    def forward(self, *features: Tensor) -> Tensor:
        return self.offset + features[0]


class BoundedPathClassifier(PathClassifier):
    """A `PathClassifier` whose margin rises with a predicted upper quantile of the path's error.

    A second network on the same inputs predicts the logarithm of the error in cm, for every candidate
    (`path_error.learn_error`). What it is above the usual (`above`), times `weight`, is taken off the
    clearance: where paths are hard to predict, as those of a Car whose wheels spin in the air, more room is
    kept. The threshold takes care of usual errors.

    Args:
        task: whose observations it reads.
        n_candidates: k.
        hidden: widths of the layers that predict paths.
        error: quantile, weight and widths of the layers that predict the error.
    """

    def __init__(self, task: Task, n_candidates: int, hidden: Sequence[int], error: PathErrorSettings):
        super().__init__(task, n_candidates, hidden)
        self.error_settings = error
        self.error = _mlp(len(self.inputs), error.hidden, n_candidates, nn.SiLU)

    def features(self, observation: np.ndarray) -> tuple[Tensor, ...]:
        (margin,) = super().features(observation)
        with torch.no_grad():
            error = self.error(self.velocity(observation)).exp()
        excess = (error - self.error_settings.above).clamp_min(0.0)
        return (margin + self.error_settings.weight * excess,)

    def way_out(self, observation: np.ndarray) -> np.ndarray:
        """The margin of the paths alone: room that errors may take is no reason to stay where no room is."""
        parts = [
            super(BoundedPathClassifier, self).features(observation[start : start + _CHUNK])[0]
            for start in range(0, len(observation), _CHUNK)
        ]
        return (torch.cat(parts) + self.offset.detach()).numpy()


CLASSIFIERS: dict[str, type[Classifier]] = {"logits": LogitClassifier, "path": PathClassifier}


def new_classifier(config: SafetyGymConfig, task: Task, n_candidates: int) -> Classifier:
    """An untrained classifier of the configured kind."""
    if config.path_error.quantile:
        return BoundedPathClassifier(task, n_candidates, config.classifier.hidden, config.path_error)
    return CLASSIFIERS[config.classifier.kind](task, n_candidates, config.classifier.hidden)
