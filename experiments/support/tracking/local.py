"""A run mirrored to files that TensorBoard shows on this machine, without an account:

tensorboard --logdir results/runs
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from experiments.support.config import TrackingConfig
from experiments.support.errors import TrackingError
from experiments.support.tracking import keys
from experiments.support.tracking.base import Record

FOLDER = "tensorboard"


class TensorBoardTracker:
    """Losses, curves over r_t, pictures, the results as text, and the run among others (its HParams page).

    TensorBoard's steps are whole numbers, so a curve's step is the place of its r_t among all, from 0; the
    value of r_t at each step is drawn too (curve/r_t).
    """

    watching = True

    def __init__(self, tracking: TrackingConfig, directory: Path, experiment: str, config: dict[str, Any]):
        try:
            from tensorboard.compat.proto.summary_pb2 import Summary
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise TrackingError(
                "tracking=tensorboard needs the package tensorboard (pip install -e '.[tensorboard]'); or "
                "run with tracking=none"
            ) from error
        self._summary, self.config = Summary, config
        self.writer = SummaryWriter(str(directory / FOLDER))
        self.writer.add_text("config", f"```\n{json.dumps(config, indent=1, default=str)}\n```")

    def log(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Numbers of this moment."""
        for name, value in metrics.items():
            self.writer.add_scalar(name, value, step)

    def trained(self, name: str, step: int, loss: float) -> None:
        """A loss, over the training's own steps."""
        self.writer.add_scalar(keys.loss(name)[1], loss, step)

    def results(self, record: Record) -> None:
        """Curves over the places of r_t, the table, pictures, times."""
        for place, row in enumerate(keys.curves(record.frame)):
            self.log(row, place)
        self.log(keys.seconds(record.stages))
        for name, path in keys.pictures(record.directory).items():
            image = self._summary.Image(encoded_image_string=path.read_bytes())
            event = self._summary(value=[self._summary.Value(tag=name, image=image)])
            self.writer._get_file_writer().add_summary(event)
        columns = ["method", "metric", "r_t", "value", "low", "high", "n"]
        self.writer.add_text(keys.TABLE, _markdown(record.frame[columns].head(500)))

    def finish(self, summary: dict[str, Any], failed: bool = False) -> None:
        """The run among others: its settings beside its summary."""
        numbers = {name: value for name, value in summary.items() if isinstance(value, int | float)}
        settings = {
            name: value for name, value in _flat(self.config).items() if isinstance(value, int | float | str)
        }
        self.writer.add_hparams(settings, {f"summary/{k}": v for k, v in numbers.items()}, run_name=".")
        self.writer.add_text("status", str(summary.get("status", "failed" if failed else "done")))
        self.writer.close()


def _flat(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by dotted key."""
    found: dict[str, Any] = {}
    for name, value in config.items():
        found |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return found


def _markdown(table: Any) -> str:
    """A data frame of text as a Markdown table."""
    lines = [list(table.columns), ["---"] * table.shape[1], *table.to_numpy().tolist()]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)
