"""From the command line to a run, and from an error to one message and an exit code.

Exit codes: 0 all is done; 1 a run failed (its directory holds error.txt); 2 the configuration is wrong and
nothing was run; 130 interrupted. A sweep in which some runs are done and others are refused has failed (1).
SAFEFRAME_DEBUG=1 shows stack traces, and all messages of a sweep's jobs.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from experiments.support import progress, registry, sweep
from experiments.support.config import to_object
from experiments.support.config_errors import explain
from experiments.support.errors import CacheError, ConfigError, UserError, storage_error
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
    os.environ.pop(sweep.RECORD, None)  # of another sweep
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
        summarise()
        print("interrupted; the same command goes on where it stopped", file=sys.stderr)
        return 130
    except JobFailed as error:
        summarise()
        return error.code
    except (HydraException, OmegaConfBaseException, ConfigError) as error:
        complain(error, ConfigError(explain(error)) if not isinstance(error, ConfigError) else error)
        return 2
    except UserError as error:  # of a launcher, before any job
        complain(error, error)
        return 2
    except Exception as error:
        if not os.environ.get(sweep.RECORD):
            raise
        complain(error, lost(error))
        return summarise() or 1
    found = summarise()
    return max(_failures, default=0) if found is None else found


def lost(error: Exception) -> UserError:
    """What is said where a launcher has lost a job; errors of jobs themselves are in the sweep's record."""
    said = (str(error).strip().splitlines() or [""])[0]
    return UserError(
        f"the launcher has lost a job ({type(error).__name__}: {said}); jobs that run on a cluster go on, "
        "and the same command does what is missing"
    )


def summarise() -> int | None:
    """At the end of a sweep, print what became of its jobs; its exit code. None outside a sweep."""
    name = os.environ.pop(sweep.RECORD, "")
    if not name:
        return None
    try:
        progress_ = sweep.read(Path(name))
    except CacheError as error:
        complain(error, error)
        return 1
    if progress_.jobs or progress_.total:
        print(sweep.table(progress_))
    return sweep.code(progress_.jobs, progress_.total)


def execute(composed: DictConfig) -> None:
    """Check one composed configuration, do its run and report on it; of a sweep's job, say how it went."""
    configure_logging()
    record = sweep.active()
    if record is not None:
        of_sweep(composed, record)
        return
    try:
        do(composed)
    except Exception as error:
        code = 2 if isinstance(error, ConfigError) else 1
        complain(error, (isinstance(error, OSError) and storage_error(error)) or error)
        if _failures is None:  # a worker process raises, the process that was started remembers
            raise JobFailed(code) from error
        _failures.append(code)


def do(composed: DictConfig) -> tuple[Path, bool]:
    """One run, and its report on standard output: the run's directory, and whether it was done before."""
    experiment = registry.get(str(composed.get("experiment")))
    config = to_object(composed, experiment.schema)
    skipped = running.is_done(experiment, config)
    directory = running.perform(experiment, config)
    report = getattr(experiment.module, "report", None)
    if report is not None:
        frame: pd.DataFrame = frames.read(directory)
        print(report(config, directory, frame))
    return directory, skipped


def of_sweep(composed: DictConfig, record: Path) -> None:
    """One job of a sweep. Its messages and its report go to a file beside the sweep's record."""
    hydra = HydraConfig.get()
    number = int(hydra.job.num) + 1
    settings = sweep.chosen(hydra.overrides.task, sweep.read(record).swept)
    started, error, place = time.time(), None, Path()
    log_file = sweep.log_of(record, number)
    with sweep_log(log_file):
        log.info("job %s: %s", number, settings)
        try:
            place, skipped = do(composed)
            outcome = sweep.SKIPPED if skipped else sweep.DONE
        except Exception as caught:  # noqa: BLE001 (however a job ends, the sweep's record says so)
            error = caught
            outcome = sweep.REFUSED if isinstance(caught, ConfigError) else sweep.FAILED
            place = log_file
            print(f"error: {(isinstance(caught, OSError) and storage_error(caught)) or caught}")
    if error is not None:
        complain(error, (isinstance(error, OSError) and storage_error(error)) or error)
    job = sweep.Job(number, settings, outcome, time.time() - started, str(place))
    print(sweep.line(sweep.add(record, job), job, time.time()), file=sys.stderr, flush=True)


@contextlib.contextmanager
def sweep_log(path: Path) -> Iterator[None]:
    """Within this context, messages and what is printed go to a file; warnings to the terminal as well."""
    if os.environ.get("SAFEFRAME_DEBUG") == "1":
        yield
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    root, before = logging.getLogger(), progress.quiet
    levels = [(handler, handler.level) for handler in root.handlers]
    with path.open("a", encoding="utf-8") as file:
        to_file = logging.StreamHandler(file)
        to_file.setFormatter(logging.Formatter("%(asctime)s %(message)s", datefmt="%H:%M:%S"))
        try:
            progress.quiet = True
            for handler, _ in levels:
                handler.setLevel(logging.WARNING)
            root.addHandler(to_file)
            with contextlib.redirect_stdout(file):
                yield
        finally:
            progress.quiet = before
            root.removeHandler(to_file)
            for handler, level in levels:
                handler.setLevel(level)


class JobFailed(RuntimeError):
    """A job in a worker process failed; its message has been printed."""

    def __init__(self, code: int):
        super().__init__(code)
        self.code = code


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
    for name in ("matplotlib", "filelock", "fontTools", "hydra._internal", "hydra_plugins"):
        logging.getLogger(name).setLevel(logging.WARNING)
