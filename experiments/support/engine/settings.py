"""Settings of the engine; where tasks run changes nothing of what they give, so they are no part of a run's
identity.
"""

from __future__ import annotations

from dataclasses import dataclass

from experiments.support.settings import setting

ENGINES = ("local", "joblib", "ray")


@dataclass
class EngineConfig:
    """Where the tasks of a run's heavy stages are done; the results are the same bytes on every engine."""

    name: str = setting(
        "local",
        "What starts the workers: local is the standard library's processes (with one worker, this process), "
        "joblib is loky's processes, ray is a Ray cluster, or one that is started here.",
        choices=ENGINES,
    )
    workers: int | None = setting(
        None,
        "Workers, one thread each; null is as many as threads, on a cluster as many as it has processors.",
        low=1,
    )
    retries: int = setting(3, "Times that a task is begun again after its worker died.", low=0)
    address: str | None = setting(
        None,
        "Address of a Ray cluster (engine=ray); null is that of the environment's RAY_ADDRESS, and without "
        "one Ray is started on this machine.",
    )
    gpus: float = setting(0.0, "GPUs that one task takes of the cluster (engine=ray).", low=0)
