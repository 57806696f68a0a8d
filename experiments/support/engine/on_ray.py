"""Workers of a Ray cluster: one that is running (`engine.address`, RAY_ADDRESS), or one started here.

They need this repository and the folder of results at the same paths, as jobs on SLURM do: a shared file
system. Source: Moritz et al., Ray: a distributed framework for emerging AI applications (OSDI 2018).
"""

from __future__ import annotations

import os
import socket
from typing import Any

from experiments.support.engine import worker
from experiments.support.engine.settings import EngineConfig
from experiments.support.engine.store import TaskStore
from experiments.support.engine.tasks import Task
from experiments.support.engine.worker import Outcome
from experiments.support.engine.workers import DIED, packed
from experiments.support.errors import EngineError
from experiments.support.files import REPOSITORY

NEEDED = "{} needs the package ray: pip install ray==2.60.0 (the extra `cluster`), or take {}"


class RayWorkers:
    """Tasks of Ray, each on one processor.

    Args:
        settings: of the engine.
        threads: workers of a Ray that is started here, where the settings name no number.

    Raises:
        EngineError: without the package, or where the cluster cannot be reached.
    """

    ahead = True

    def __init__(self, settings: EngineConfig, threads: int):
        self._ray, self._mine = connect(settings.address, settings.workers or threads, "engine=ray")
        ray = self._ray
        self.count = settings.workers or max(int(ray.cluster_resources().get("CPU", 1)), 1)
        remote = ray.remote(max_retries=0, num_cpus=1, num_gpus=settings.gpus)
        self._perform = remote(worker.perform_sent)
        self._running: dict[Any, int] = {}

    @property
    def running(self) -> int:
        return len(self._running)

    def give(self, number: int, store: TaskStore, task: Task, wait: bool) -> None:
        self._running[self._perform.remote(packed(store, task, wait))] = number

    def finished(self, block: bool) -> list[tuple[int, Outcome | None]]:
        if not self._running:
            return []
        done, _ = self._ray.wait(list(self._running), num_returns=1, timeout=None if block else 0)
        return [(self._running.pop(reference), self._outcome(reference)) for reference in done]

    def _outcome(self, reference: Any) -> Outcome | None:
        exceptions = self._ray.exceptions
        try:
            return self._ray.get(reference)
        except exceptions.RayTaskError as error:  # before the task began: its modules are not found there
            raise EngineError(
                f"engine=ray: a worker cannot begin its task ({error.cause!r}): this repository and its "
                f"packages are needed at the same paths as here ({REPOSITORY})"
            ) from error
        except exceptions.RayError:
            return DIED

    def close(self) -> None:
        for reference in self._running:
            self._ray.cancel(reference, force=True)
        self._running = {}
        if self._mine:
            self._ray.shutdown()


def connect(address: str | None, cpus: int, asked: str, **variables: str) -> tuple[Any, bool]:
    """Connect to a Ray cluster, or start Ray on this machine.

    Args:
        address: of the cluster; None: that of RAY_ADDRESS, or none.
        cpus: processors of a Ray that is started here.
        asked: the setting that asked for Ray, for messages.
        variables: more of the workers' environment.

    Returns:
        The module ray, and whether the connection is this call's, to be closed by `ray.shutdown()`.

    Raises:
        EngineError: without the package, or where the cluster cannot be reached.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # no network but the cluster's
    try:
        import ray
    except ImportError as error:
        raise EngineError(NEEDED.format(asked, asked.replace("ray", "joblib"))) from error
    if ray.is_initialized():
        return ray, False
    where = address or os.environ.get("RAY_ADDRESS") or "local"
    path = os.pathsep.join(filter(None, (str(REPOSITORY), os.environ.get("PYTHONPATH"))))
    own = {**worker.ONE_THREAD, "PYTHONPATH": path, **variables}
    about: dict[str, Any] = {"runtime_env": {"env_vars": own}}
    if where == "local":
        about |= {"num_cpus": cpus, "include_dashboard": False}
    try:
        _require_open(where)
        ray.init(address=where, log_to_driver=False, logging_level="warning", **about)
    except (OSError, RuntimeError, ValueError) as error:
        raise EngineError(
            f"{asked}: no cluster at {where!r} ({error}); give the address HOST:PORT of one that runs "
            "(engine.address, or RAY_ADDRESS), or unset RAY_ADDRESS to start Ray on this machine"
        ) from error
    return ray, True


def _require_open(address: str) -> None:
    """OSError at once where nothing listens at HOST:PORT; Ray itself tries for minutes."""
    host, _, port = address.rpartition(":")
    if port.isdigit() and "/" not in host:
        socket.create_connection((host, int(port)), timeout=30).close()
