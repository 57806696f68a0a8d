"""Agents as files: safetensors weights with JSON metadata; and a training's whole state, to go on from.

An agent's file holds the task, observation size, candidate actions, normalisation, hyper-parameters and
figures of its training; loading refuses a file that is damaged or of another task or shape.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from experiments.safetygym.agents.agent import Agent, new_agent
from experiments.safetygym.agents.grid import check_candidates
from experiments.safetygym.agents.settings import AgentSettings
from experiments.support.files import atomic_write
from safeframe.types import FloatArray, SafeframeError

FORMAT = "safetygym-agent-1"


def save_agent(agent: Agent, path: Path | str, critics: bool = True) -> None:
    """Write the agent to `path` (.safetensors), atomically; without critics it is smaller and still acts."""
    tensors = {
        f"networks.{name}": value.detach().contiguous()
        for name, value in agent.networks.state_dict().items()
        if critics or not name.startswith("critics.")
    }
    tensors["normaliser.mean"] = torch.from_numpy(agent.normaliser.mean.copy())
    tensors["normaliser.variance"] = torch.from_numpy(agent.normaliser.variance.copy())
    tensors["candidates"] = torch.from_numpy(np.array(agent.candidates, np.float64))
    description = {
        "format": FORMAT,
        "task": agent.task,
        "observation_size": agent.observation_size,
        "inputs": agent.inputs,
        "critics": list(agent.networks.critics) if critics else [],
        "normaliser_count": agent.normaliser.count,
        "settings": agent.settings.as_dict(),
        "record": agent.record,
    }
    text = json.dumps(description)
    atomic_write(path, save(tensors, {"agent": text, "sha256": _digest(text, tensors)}))


def _digest(description: str, tensors: dict[str, torch.Tensor]) -> str:
    """SHA-256 of an agent's description and weights."""
    digest = hashlib.sha256(description.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().contiguous().numpy().tobytes())
    return digest.hexdigest()


def load_agent(
    path: Path | str,
    task: str | None = None,
    observation_size: int | None = None,
    candidates: FloatArray | None = None,
) -> Agent:
    """The agent in `path`; the other arguments, where given, must agree with the file.

    Raises SafeframeError, naming the file, if it is missing, damaged, no agent, or of another task,
    observation size or candidate grid.
    """
    path = Path(path)
    try:
        with safe_open(path, "pt") as file:
            about = file.metadata() or {}
            description = json.loads(about["agent"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError as error:
        raise SafeframeError(f"there is no agent file {path}") from error
    except (SafetensorError, KeyError, ValueError, OSError) as error:
        raise SafeframeError(
            f"{path} is damaged or no agent file ({error}); train the agent again"
        ) from error
    found = _digest(about["agent"], tensors)
    if about.get("sha256", found) != found:  # files of older versions have none
        raise SafeframeError(f"{path} is damaged: its checksum does not match; train the agent again")
    if description.get("format") != FORMAT:
        raise SafeframeError(
            f"{path} has format {description.get('format')!r}; this version reads {FORMAT!r}"
        )
    if task is not None and description["task"] != task:
        raise SafeframeError(f"{path} is an agent of {description['task']}; one of {task} is needed")
    if observation_size is not None and description["observation_size"] != observation_size:
        raise SafeframeError(
            f"{path} acts on {description['observation_size']} observations; the task has {observation_size}"
        )
    grid = check_candidates(tensors["candidates"].numpy())
    if candidates is not None and (grid.shape != np.shape(candidates) or not np.allclose(grid, candidates)):
        raise SafeframeError(
            f"{path} has {len(grid)} candidate actions of its own; they differ from the"
            f" {len(candidates)} asked for"
        )
    settings = AgentSettings.from_dict(description["settings"])
    agent = new_agent(
        settings, grid, description["observation_size"], description["inputs"], tuple(description["critics"])
    )
    weights = {name[9:]: value for name, value in tensors.items() if name.startswith("networks.")}
    try:
        agent.networks.load_state_dict(weights)
    except RuntimeError as error:
        told = " ".join(str(error).split())
        raise SafeframeError(f"{path}: its weights do not fit its own description ({told})") from error
    agent.normaliser.load_state_dict(
        {
            "count": description["normaliser_count"],
            "clip": settings.observation_clip,
            "mean": tensors["normaliser.mean"],
            "variance": tensors["normaliser.variance"],
        }
    )
    agent.record = description["record"]
    return agent


def pack_state(state: Any) -> dict[str, Any]:
    """A dataclass of arrays (nested ones too) as tensors; uint64 travels as int64."""
    packed: dict[str, Any] = {}
    for part in dataclasses.fields(state):
        value = getattr(state, part.name)
        if dataclasses.is_dataclass(value):
            packed[part.name] = pack_state(value)
        else:
            array = np.array(value)
            packed[part.name] = torch.from_numpy(array.view(np.int64) if array.dtype == np.uint64 else array)
    return packed


def unpack_state(packed: dict[str, Any], like: Any) -> Any:
    """The state that `pack_state` packed, with the types of `like`."""
    values = {}
    for part in dataclasses.fields(like):
        model, value = getattr(like, part.name), packed[part.name]
        if dataclasses.is_dataclass(model):
            values[part.name] = unpack_state(value, model)
        else:
            array = value.numpy().copy()
            values[part.name] = array.view(np.uint64) if np.asarray(model).dtype == np.uint64 else array
    return type(like)(**values)
