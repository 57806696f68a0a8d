"""A run mirrored to Weights & Biases: config, losses, curves, tables, pictures, artifacts."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pandas as pd

from experiments.support.config import TrackingConfig
from experiments.support.errors import TrackingError
from experiments.support.tracking import keys, sweeps
from experiments.support.tracking.base import Record


class WandbTracker:
    """A Weights & Biases run with our run's id, so that a run done again is the same run there.

    Its group is the sweep, its job type the experiment, its tags preset and data.
    """

    watching = True

    def __init__(self, tracking: TrackingConfig, directory: Path, experiment: str, config: dict[str, Any]):
        try:
            import wandb
        except ImportError as error:
            raise TrackingError(
                "tracking=wandb needs the package wandb (pip install wandb); or run with tracking=none"
            ) from error
        self.wandb, self.id, self._defined = wandb, directory.name, set[str]()
        self.run = wandb.init(
            project=tracking.project,
            entity=tracking.entity,
            mode=resolve_mode(tracking.mode),
            dir=str(directory),
            id=directory.name,
            name=f"{experiment}-{directory.name[:6]}",
            group=sweeps.name(),
            job_type=experiment,
            tags=tags(config),
            resume="allow",
            config=config,
            settings=wandb.Settings(silent=True, disable_git=True),
        )

    def log(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Numbers of this moment."""
        self.run.log(metrics, step=step)

    def trained(self, name: str, step: int, loss: float) -> None:
        """A loss, over the training's own steps."""
        over, value = keys.loss(name)
        self._define(over, [value], "last")
        self.run.log({over: step, value: loss})

    def results(self, record: Record) -> None:
        """Curves over r_t, the table, pictures, and artifacts that are known by their content."""
        rows = keys.curves(record.frame)
        self._define(keys.R_T, sorted({name for row in rows for name in row} - {keys.R_T}), "none")
        for row in rows:
            self.run.log(row)
        shown: dict[str, Any] = {keys.TABLE: table(self.wandb, record.frame)}
        for name, path in keys.pictures(record.directory).items():
            moving = path.suffix == ".gif"
            shown[name] = self.wandb.Video(str(path), format="gif") if moving else self.wandb.Image(str(path))
        self.run.log(shown)
        self.run.summary.update(keys.seconds(record.stages))
        self._keep(f"results-{self.id}", "results", [
            path for path in sorted(record.directory.iterdir())
            if path.suffix in (".parquet", ".csv", ".yaml") or path.name == "manifest.json"
        ])  # fmt: skip
        for stage, path in record.weights.items():
            self._keep(f"weights-{stage}", "model", [path])

    def finish(self, summary: dict[str, Any], failed: bool = False) -> None:
        """Nothing more comes."""
        self.run.summary.update(summary)
        self.run.finish(exit_code=1 if failed else 0)

    def _define(self, over: str, names: list[str], kept: str) -> None:
        """Draw these keys over another one in place of the number of calls."""
        if over not in self._defined and names:
            self._defined.add(over)
            self.run.define_metric(over, hidden=True, summary="none")
            for name in names:
                self.run.define_metric(name, step_metric=over, summary=kept)

    def _keep(self, name: str, kind: str, paths: list[Path]) -> None:
        """Files as an artifact: W&B stores each content once, and makes a version only of a new content."""
        artifact = self.wandb.Artifact(name, type=kind)
        for path in paths:
            artifact.add_file(str(path), name=path.name)
        self.run.log_artifact(artifact)


def table(wandb: Any, frame: pd.DataFrame) -> Any:
    """A data frame as a `wandb.Table`; what is missing is None."""
    whole = frame.astype(object).to_numpy().tolist()
    data = [[None if pd.isna(cell) else cell for cell in row] for row in whole]
    return wandb.Table(columns=[str(name) for name in frame.columns], data=data)


def tags(config: dict[str, Any]) -> list[str]:
    """Preset, and source of data where a run has one."""
    data = config.get("data")
    source = data.get("source") if isinstance(data, dict) else None
    found = [config.get("preset"), source or config.get("source") or config.get("task")]
    return [str(tag) for tag in found if tag]


def resolve_mode(mode: str) -> str:
    """`auto` is online with a key and offline without; other modes are themselves.

    The key is WANDB_API_KEY or in ~/.netrc.
    """
    if mode != "auto":
        return mode
    if os.environ.get("WANDB_MODE"):
        return os.environ["WANDB_MODE"]
    return "online" if has_key() else "offline"


def has_key() -> bool:
    """Whether this machine is logged in to Weights & Biases."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    netrc = Path(os.environ.get("NETRC", "~/.netrc")).expanduser()
    try:
        return "wandb" in netrc.read_text()
    except OSError:
        return False
