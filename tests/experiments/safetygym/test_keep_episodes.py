"""Pairs of episodes are kept with what was counted, only from finished runs of a clean tree."""

from __future__ import annotations

import json

import pytest

from experiments.support.files import write_json
from scripts import keep_episodes

COUNTED = {
    "layout": 2,
    "layouts": 20,
    "steps": 400,
    "r_t": 1e-4,
    "episode_guarded": {"return": 8.0, "steps_in_a_hazard": 0},
    "episode_unguarded": {"return": 9.8, "steps_in_a_hazard": 17},
}


@pytest.fixture
def run(tmp_path):
    def make(robot: str = "Point", dirty: bool = False, done: bool = True, seed: int = 5):
        directory = tmp_path / f"{robot}{seed}"
        directory.mkdir()
        (directory / "config.yaml").write_text(f"task: Safexp-{robot}Goal1-v0\nseed: {seed}\n")
        write_json(
            directory / "manifest.json", {"command": "python run.py", "commit": "c" * 40, "dirty": dirty}
        )
        write_json(directory / "episodes.json", COUNTED)
        for kind in ("guarded", "unguarded"):
            (directory / f"episode_{kind}.gif").write_bytes(kind.encode())
        if done:
            write_json(directory / "DONE", {"sha256": {}, "code": {}})
        return directory

    return make


def kept(place) -> list[dict]:
    return json.loads((place / "episodes.json").read_text())


def test_a_pair_is_kept_and_a_later_run_takes_its_place(run, tmp_path):
    place = tmp_path / "kept"
    assert keep_episodes.main([str(run()), str(run("Car")), "--to", str(place)]) == 0
    assert [one["robot"] for one in kept(place)] == ["point", "car"]
    point = kept(place)[0]
    assert (point["seed"], point["layout"], point["commit"]) == (5, 2, "c" * 40)
    assert point["unguarded"] == {"file": "point_unguarded.gif", "return": 9.8, "steps_in_a_hazard": 17}
    assert (place / "point_guarded.gif").read_bytes() == b"guarded"
    assert keep_episodes.main([str(run(seed=6)), "--to", str(place)]) == 0
    assert [(one["robot"], one["seed"]) for one in kept(place)] == [("point", 6), ("car", 5)]


@pytest.mark.parametrize(
    ("made", "message"), [({"dirty": True}, "uncommitted"), ({"done": False}, "holds no finished run")]
)
def test_what_may_not_be_kept_is_refused(run, tmp_path, capsys, made, message):
    assert keep_episodes.main([str(run(**made)), "--to", str(tmp_path / "kept")]) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "kept" / "episodes.json").exists()
