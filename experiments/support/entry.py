"""From the command line to a run, and from an error to one message and an exit code.

Exit codes: 0 all is done; 1 a run failed (its directory holds error.txt); 2 the configuration is wrong and
nothing was run; 130 interrupted. SAFEFRAME_DEBUG=1 shows stack traces.
"""

from __future__ import annotations

import logging
import os
import sys
import traceback
from collections.abc import Callable

import pandas as pd
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from experiments.support import registry
from experiments.support.config import to_object
from experiments.support.config_errors import explain
from experiments.support.errors import ConfigError, UserError, storage_error
from experiments.support.files import REPOSITORY
from experiments.support.manual import help
from experiments.support.progress import ProgressHandler
from experiments.support.results import frames
from experiments.support.runs import running
from safeframe.types import SafeframeError

log = logging.getLogger("safeframe")

# Paths in configs/ count from the repository's root, wherever the command is typed.
OmegaConf.register_new_resolver("from_root", lambda path: str(REPOSITORY / path), replace=True)

_failures: list[int] | None = None
"""Exit codes of failed jobs in this process; None in worker processes, which raise instead."""


def main(compose_and_run: Callable[[], None]) -> int:
    """Run a `hydra.main` function, or print the help that was asked for; return the process's exit code."""
    global _failures
    _failures = []
    configure_logging()
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises instead of printing; messages are made here
    inherited = os.environ.get(
        "PYTHONPATH"
    )  # worker processes import this repository from wherever they start
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(REPOSITORY), inherited)))
    try:
        if help.wanted(sys.argv[1:]):
            help.show(sys.argv[1:])
            return 0
        registry.register_schemas()
        compose_and_run()
    except KeyboardInterrupt:
        print("interrupted; the same command goes on where it stopped", file=sys.stderr)
        return 130
    except JobFailed as error:
        return error.code
    except (HydraException, OmegaConfBaseException, ConfigError) as error:
        complain(error, ConfigError(explain(error)) if not isinstance(error, ConfigError) else error)
        return 2
    return max(_failures, default=0)


def execute(composed: DictConfig) -> None:
    """Check one composed configuration, do its run and report on it."""
    configure_logging()
    announce()
    try:
        experiment = registry.get(str(composed.get("experiment")))
        config = to_object(composed, experiment.schema)
        directory = running.perform(experiment, config)
        report = getattr(experiment.module, "report", None)
        if report is not None:
            frame: pd.DataFrame = frames.read(directory)
            print(report(config, directory, frame))
    except Exception as error:
        code = 2 if isinstance(error, ConfigError) else 1
        complain(error, (isinstance(error, OSError) and storage_error(error)) or error)
        if _failures is None:
            raise JobFailed(code) from error
        _failures.append(code)


class JobFailed(RuntimeError):
    """A job in a worker process failed; its message has been printed."""

    def __init__(self, code: int):
        super().__init__(code)
        self.code = code


def announce() -> None:
    """In a sweep, say which job this is."""
    if HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN:
        log.info("job %s: %s", HydraConfig.get().job.num, HydraConfig.get().job.override_dirname)


def complain(error: BaseException, shown: BaseException) -> None:
    """Print one message for what the user can mend, a stack trace for what nobody foresaw."""
    if os.environ.get("SAFEFRAME_DEBUG") == "1" or not isinstance(shown, user_errors()):
        traceback.print_exception(error)
    print(f"error: {shown}", file=sys.stderr)


def user_errors() -> tuple[type[BaseException], ...]:
    """Errors whose message is meant for the user."""
    return (UserError, SafeframeError)


def configure_logging() -> None:
    """Messages go to standard error, once, without Hydra's own log files."""
    root = logging.getLogger()
    if not root.handlers:
        handler = ProgressHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", datefmt="%H:%M:%S"))
        root.addHandler(handler)
    root.setLevel(logging.INFO)
    for name in ("matplotlib", "filelock", "fontTools"):
        logging.getLogger(name).setLevel(logging.WARNING)
