"""The Safety Gym experiment from end to end and small: what a run leaves, what it does not repeat."""

import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from safetygym_small import POINT, safetygym, untrained

from experiments.safetygym.agents.checkpoints import save_agent
from experiments.safetygym.evaluation import episodes as evaluation
from experiments.safetygym.states import collection
from experiments.safetygym.states.internal_data import InternalData
from experiments.support.files import REPOSITORY
from experiments.support.results import frames

TINY = (
    "r_t=1e-2", "agent.baselines=[]", "internal_test.n_t=30000", "internal_test.train_cases=15000",
    "learning.steps=300", "learning.random_paths=500", "evaluation.thresholds=[1e-1]",
    "evaluation.steps=2000", "evaluation.xi=0.05",
    "evaluation.steps_at_r_t=2000", "internal_test.vase=fixed", "evaluation.vase=fixed",
)  # fmt: skip


@pytest.fixture(scope="module")
def typed_in(tmp_path_factory):
    """Type the command: its exit code. Environments are few, so that many layouts are not drawn."""
    folder = tmp_path_factory.mktemp("safetygym")
    save_agent(untrained(), folder / "agent.safetensors")

    def command(*overrides: str) -> int:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(collection, "NUM_ENVS", 100)
            arguments = [f"output={folder / 'runs'}", f"agent.path={folder / 'agent.safetensors'}"]
            return safetygym(*arguments, *TINY, *overrides)

    return folder, command


@pytest.fixture(scope="module")
def done(typed_in):
    folder, command = typed_in
    assert command() == 0
    (directory,) = (folder / "runs" / "safetygym").glob("[!.]*")
    return directory


def rows(directory, metric: str) -> pd.DataFrame:
    frame = frames.read(directory)
    return frame[frame["metric"] == metric]


def test_a_run_leaves_tables_episodes_and_pictures(done):
    names = {path.name for path in done.iterdir()}
    wanted = {"config.yaml", "manifest.json", "results.csv", "results.parquet", "DONE"}
    assert wanted | {"episodes.parquet", "episode.gif", "episode.png"} <= names
    counted = json.loads((done / "episodes.json").read_text())
    for name in ("episode", "episode_guarded", "episode_unguarded"):
        with Image.open(done / f"{name}.gif") as gif:
            assert gif.n_frames >= 50
        if name in counted:
            assert 0 <= counted[name]["steps_in_a_hazard"] <= counted["steps"] == 400
    assert 1 <= counted["layout"] <= counted["layouts"]
    episodes = pd.read_parquet(done / "episodes.parquet")
    assert len(episodes) == 4  # two at either threshold


def test_bounds_are_calibrated_and_thresholds_ordered(done):
    bound, acceptance = rows(done, "bound").set_index("r_t"), rows(done, "acceptance").set_index("r_t")
    assert sorted(bound.index) == [1e-2, 1e-1]
    assert (bound["value"] <= bound.index).all()
    assert 0.0 < acceptance["value"][1e-2] <= acceptance["value"][1e-1] <= 1.0
    assert set(bound["xi"]) == {0.05}
    assert len(rows(done, "gap")) == 1
    assert rows(done, "gap")["value"].abs().max() < 1


def test_results_are_per_thousand_steps(done):
    episodes = pd.read_parquet(done / "episodes.parquet")
    for r_t in (1e-2, 1e-1):
        mine = episodes[np.isclose(episodes["r_t"], r_t)]
        row = rows(done, "return")
        row = row[np.isclose(row["r_t"], r_t)].iloc[0]
        assert row["value"] == pytest.approx(mine["return"].mean(), abs=1e-6)
        assert row["low"] <= row["value"] <= row["high"]
    assert rows(done, "unsafe_accepted")["value"].max() < 0.2  # braking from rest is easy


def test_test_data_are_never_training_data_and_shared_by_no_behaviour(typed_in, done):
    folder, _ = typed_in
    seen = {}
    for record in (folder / "runs" / "cache").rglob("data.json"):
        stage = record.parents[2].name
        data = InternalData(record.parent, json.loads(record.read_text())["fingerprint"])
        assert data.fingerprint["task"] == POINT
        seen[stage] = {row.tobytes() for row in data.load().observation}
    assert {"safetygym_train_0", "safetygym_train_1", "safetygym_internal_test_0"} <= set(seen)
    names = sorted(seen)
    for i, first in enumerate(names):
        for second in names[i + 1 :]:
            assert not seen[first] & seen[second], (first, second)


def test_the_same_command_does_nothing_again(typed_in, done, monkeypatch):
    def never(*_, **__):
        raise AssertionError("this was done already")

    _, command = typed_in
    for module, name in ((collection, "SafetyGymVector"), (evaluation, "SafetyGymVector")):
        monkeypatch.setattr(module, name, never)
    before = {path.name: path.read_bytes() for path in done.iterdir() if path.suffix in (".csv", ".gif")}
    assert command() == 0
    assert before == {path.name: path.read_bytes() for path in done.iterdir() if path.name in before}
    assert len(before) >= 2


OF_OTHERS = {"mended_answers", "mended_plans"}
"""Ablations of other experiments (tests/experiments/support/test_configurations.py)."""
ABLATIONS = sorted({path.stem for path in (REPOSITORY / "configs" / "ablation").glob("*.yaml")} - OF_OTHERS)


@pytest.mark.parametrize(
    "name",
    [name if name == "logged" else pytest.param(name, marks=pytest.mark.long) for name in ABLATIONS],
)
def test_every_ablation_runs(typed_in, name):
    folder, command = typed_in
    before = set((folder / "runs" / "safetygym").glob("[!.]*"))
    # one case a state: fewer cases than backup labels have
    few = (
        ("internal_test.n_t=4000", "internal_test.train_cases=2000") if name in ("logged", "branched") else ()
    )
    assert command(f"+ablation={name}", *few) == 0
    (directory,) = set((folder / "runs" / "safetygym").glob("[!.]*")) - before
    assert frames.read(directory)["method"].str.startswith(("ours_", "guarded_")).all()
