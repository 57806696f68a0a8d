"""TensorBoard's files, read back as TensorBoard reads them."""

from __future__ import annotations

import sys

import pandas as pd
import pytest
from PIL import Image

from experiments.support import tracking
from experiments.support.config import TrackingConfig
from experiments.support.errors import TrackingError
from experiments.support.results import frames


def test_curves_losses_pictures_and_settings_are_read_back(tmp_path):
    pytest.importorskip("tensorboard", reason="needs tensorboard, of the extra tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    rows = [
        {"method": "ours", "metric": "cost.total", "value": 10 * r_t, "n": 5, "r_t": r_t, "n_t": 100}
        for r_t in (0.1, 0.01)
    ]
    Image.new("RGB", (4, 3)).save(tmp_path / "figure_1.png")
    config = TrackingConfig(mode="offline", to="tensorboard")
    tracker = tracking.start(config, tmp_path, "toy", {"seed": 3, "data": {"size": 8}})
    for step in (0, 10):
        tracker.trained("network", step, 1.0 / (1 + step))
    frame = frames.tidy(pd.DataFrame(rows), experiment="toy", seed=3)
    tracker.results(tracking.Record(tmp_path, frame, {"train": {"seconds": 2.5}}))
    tracker.finish({"ours/cost/total": 0.55})
    found = EventAccumulator(
        str(tmp_path / "tensorboard"), size_guidance={"images": 0, "scalars": 0}
    ).Reload()
    scalars = {
        name: [(one.step, one.value) for one in found.Scalars(name)] for name in found.Tags()["scalars"]
    }
    assert scalars["train/network/loss"] == [(0, 1.0), (10, pytest.approx(1 / 11))]
    assert scalars["curve/r_t"] == [(0, pytest.approx(0.01)), (1, pytest.approx(0.1))]
    assert scalars["curve/ours/cost/total"] == [(0, pytest.approx(0.1)), (1, pytest.approx(1.0))]
    assert scalars["seconds/train"] == [(0, 2.5)]
    assert scalars["summary/ours/cost/total"] == [(0, pytest.approx(0.55))]
    (image,) = found.Images("figures/figure_1")
    assert image.encoded_image_string == (tmp_path / "figure_1.png").read_bytes()
    assert {"config/text_summary", "results/text_summary"} <= set(found.Tags()["tensors"])


def test_a_run_is_mirrored_once(run_toy):
    pytest.importorskip("tensorboard", reason="needs tensorboard, of the extra tensorboard")
    directory = run_toy("tracking=tensorboard")
    content = {path.name: path.read_bytes() for path in (directory / "tensorboard").iterdir()}
    assert content
    assert run_toy("tracking=tensorboard") == directory
    assert {path.name: path.read_bytes() for path in (directory / "tensorboard").iterdir()} == content


def test_without_the_package_the_error_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    monkeypatch.setitem(sys.modules, "tensorboard.compat.proto.summary_pb2", None)
    with pytest.raises(TrackingError, match="pip install -e"):
        tracking.start(TrackingConfig(mode="offline", to="tensorboard"), tmp_path, "toy", {})
