"""Hydra's launcher for Ray: `python run.py -m launcher=ray ...`; Hydra finds it by the name of this folder.

Each job is a task of Ray on `cpus` processors, with as many threads. What it prints stays in its own log; the
terminal is told of it by the sweep's record. A job whose worker dies is begun again, and goes
on where it stopped; one that dies again and again is a failed job, and the others are done. Ray pickles with
a cloudpickle of its own, so no version of that package is asked for.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus, filter_overrides, run_job, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict

ConfigStore.instance().store(
    group="hydra/launcher",
    name="ray",
    provider="safeframe",
    node={
        "_target_": "hydra_plugins.ray_launcher.RayLauncher",
        "address": None,
        "n_jobs": None,
        "cpus": 1,
        "gpus": 0.0,
        "retries": 3,
    },
)  # a mapping: Hydra reads this file in a way that dataclasses do not stand


class RayLauncher(Launcher):
    """Jobs on a Ray cluster; see the module's text.

    Args:
        address: HOST:PORT of the cluster; None is that of RAY_ADDRESS, and without one Ray is started here.
        n_jobs: jobs at a time on a Ray that is started here; None: as many as the machine has processors.
        cpus: processors, and threads, of a job.
        gpus: of a job.
        retries: times that a job is begun again after its worker died.
    """

    def __init__(self, address: str | None, n_jobs: int | None, cpus: int, gpus: float, retries: int) -> None:
        self.address, self.n_jobs, self.cpus, self.gpus, self.retries = address, n_jobs, cpus, gpus, retries
        self.config: DictConfig | None = None
        self.task_function: TaskFunction | None = None
        self.hydra_context: HydraContext | None = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Do all jobs; what became of each is in the sweep's record."""
        from experiments.support import sweep
        from experiments.support.engine.on_ray import connect

        assert self.config is not None
        setup_globals()
        Path(str(self.config.hydra.sweep.dir)).mkdir(parents=True, exist_ok=True)
        names = (sweep.RECORD, "SAFEFRAME_EXPERIMENTS", "SAFEFRAME_DEBUG", "HYDRA_FULL_ERROR")
        variables = {name: os.environ[name] for name in names if name in os.environ}
        threads = dict.fromkeys(
            ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(self.cpus)
        )
        cpus = (self.n_jobs or os.cpu_count() or 1) * self.cpus
        ray, mine = connect(self.address, cpus, "launcher=ray", **variables, **threads)
        try:
            remote = ray.remote(num_cpus=self.cpus, num_gpus=self.gpus, max_retries=self.retries)(_job)
            running: dict[Any, int] = {}
            for number, overrides in enumerate(job_overrides, initial_job_idx):
                sent = (self._sweep_config(number, overrides), Singleton.get_state(), os.getcwd())
                running[remote.remote(self.hydra_context, self.task_function, *sent)] = number
            found = {}
            while running:
                done, _ = ray.wait(list(running), num_returns=1)
                number = running.pop(done[0])
                found[number] = self._result(ray, done[0], number, job_overrides[number - initial_job_idx])
            return [found[number] for number in sorted(found)]
        finally:
            if mine:
                ray.shutdown()

    def _sweep_config(self, number: int, overrides: Sequence[str]) -> DictConfig:
        assert self.hydra_context is not None
        assert self.config is not None
        found = self.hydra_context.config_loader.load_sweep_config(self.config, list(overrides))
        with open_dict(found):
            found.hydra.job.id, found.hydra.job.num = f"{found.hydra.job.name}_{number}", number
        return found

    def _result(self, ray: Any, reference: Any, number: int, overrides: Sequence[str]) -> JobReturn:
        """What a job returned; a job that did not end by itself is added to the sweep's record."""
        from experiments.support import sweep

        record = Path(os.environ[sweep.RECORD])
        try:
            result = ray.get(reference)
        except ray.exceptions.RayTaskError as error:  # not of the run: that is told in the record
            result, why = None, f"{error.cause}"
        except ray.exceptions.RayError as error:
            result, why = None, f"its worker died {self.retries + 1} times ({type(error).__name__})"
        else:
            why = ""
        if result is None:
            settings = sweep.chosen(overrides, sweep.read(record).swept)
            job = sweep.Job(number + 1, settings, sweep.FAILED, 0.0, str(record.with_suffix("")))
            sweep.add(record, job)
            print(f"error: job {number + 1}: {why}", file=sys.stderr)
            result = JobReturn(overrides=filter_overrides(overrides), status=JobStatus.COMPLETED)
        return result


def _job(
    context: HydraContext, function: TaskFunction, config: DictConfig, state: dict[Any, Any], here: str
) -> JobReturn:
    """In a worker: one job, as Hydra's own launchers do it."""
    if os.path.isdir(here):
        os.chdir(here)
    setup_globals()
    Singleton.set_state(state)
    HydraConfig.instance().set_config(config)
    return run_job(
        hydra_context=context,
        config=config,
        task_function=function,
        job_dir_key="hydra.sweep.dir",
        job_subdir_key="hydra.sweep.subdir",
    )
