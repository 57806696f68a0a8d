"""Internal test data on disk: shards, fingerprints, limits, damage, and going on after a kill."""

import json

import numpy as np
import pytest
from safetygym_small import CAR, POINT, Driver

from experiments.safetygym.states import collection, internal_data
from experiments.safetygym.states.collection import collect
from experiments.safetygym.states.internal_data import InternalData, Shard
from safeframe.types import SafeframeError

FINGERPRINT = {"task": POINT, "candidates": [[0.0, 1.0]], "label": "backup"}


def shard(rows: int, labelled: int, start: int = 0) -> Shard:
    """rows states of 4 candidates, the first `labelled` of them labelled."""
    unsafe = np.full((rows, 4), -1, np.int8)
    unsafe[:, :labelled] = np.arange(rows * labelled).reshape(rows, labelled) % 2
    return Shard(np.arange(start, start + rows, dtype=np.float32)[:, None].repeat(60, 1), unsafe)


def test_what_is_appended_is_found_again(tmp_path):
    data = InternalData(tmp_path / "data", FINGERPRINT)
    data.append(shard(10, 1))
    data.append(shard(5, 4, start=10))
    again = InternalData(tmp_path / "data", FINGERPRINT)
    assert again.n_t == data.n_t == 10 + 20
    whole = again.load()
    np.testing.assert_array_equal(whole.observation[:, 0], np.arange(15))
    assert (whole.unsafe >= 0).sum() == 30
    assert whole.clearance is None
    assert whole.path is None
    assert all(isinstance(part.observation, np.memmap) for part in again)


def test_a_limit_takes_as_few_rows_as_hold_it(tmp_path):
    data = InternalData(tmp_path / "data", FINGERPRINT)
    data.append(shard(10, 1))
    data.append(shard(5, 4, start=10))
    for limit, rows in ((1, 1), (10, 10), (11, 11), (14, 11), (15, 12), (30, 15)):
        assert len(data.load(limit).observation) == rows, limit
    with pytest.raises(SafeframeError, match="holds 30 cases; 31 were asked for"):
        data.load(31)


@pytest.mark.parametrize(
    ("key", "value"), [("task", CAR), ("candidates", [[0.0, 0.5]]), ("label", "logged"), ("behaviour", "x")]
)
def test_data_of_another_collection_are_refused_by_the_key_that_differs(tmp_path, key, value):
    data = InternalData(tmp_path / "data", FINGERPRINT)
    data.append(shard(10, 1))
    before = (tmp_path / "data" / "data.json").read_bytes()
    with pytest.raises(SafeframeError, match=f"have {key} = .* is needed") as error:
        InternalData(tmp_path / "data", FINGERPRINT | {key: value})
    assert repr(value) in str(error.value)
    assert "\n" not in str(error.value)
    assert (tmp_path / "data" / "data.json").read_bytes() == before


@pytest.mark.parametrize("text", ["", "{", "[]", '{"fingerprint": {}}', '{"fingerprint": 3, "shards": []}'])
def test_a_damaged_record_is_named(tmp_path, text):
    data = InternalData(tmp_path / "data", FINGERPRINT)
    data.append(shard(10, 1))
    (tmp_path / "data" / "data.json").write_text(text)
    with pytest.raises(SafeframeError, match=r"data\.json cannot be read .*; delete"):
        InternalData(tmp_path / "data", FINGERPRINT)


@pytest.mark.parametrize("name", ["observation_0.npy", "unsafe_0.npy"])
@pytest.mark.parametrize("damage", ["missing", "cut", "rows"])
def test_a_damaged_shard_is_named(tmp_path, name, damage):
    data = InternalData(tmp_path / "data", FINGERPRINT)
    data.append(shard(10, 1))
    path = tmp_path / "data" / name
    if damage == "missing":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:-20])
    else:
        np.save(path, np.load(path)[:5])
    with pytest.raises(SafeframeError, match=f"{name}.*delete"):
        InternalData(tmp_path / "data", FINGERPRINT).load()


class Killed(BaseException):
    """As a signal would: no ordinary handler sees it."""


def gather(directory, kill=lambda name, count: None) -> InternalData:
    """Three shards of backup-labelled cases; kill(where, how often it was there) may raise."""
    counts = {"step": 0, "shard": 0, "record": 0}

    def at(name: str) -> None:
        counts[name] += 1
        kill(name, counts[name])

    class Watched(Driver):
        def __call__(self, observation):
            at("step")
            return super().__call__(observation)

    def write(path, value):
        at("record")
        write_json(path, value)

    write_json = internal_data.write_json
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(collection, "NUM_ENVS", 16)
        patch.setattr(collection, "SHARD_CASES", 600)
        patch.setattr(collection, "BURN_IN", 5)
        patch.setattr(internal_data, "write_json", write)
        data = InternalData(directory, FINGERPRINT)
        policy = Watched(POINT, change=1.0)  # a new candidate at every step: it remembers nothing
        collect(
            data, policy, 1300, "backup", seed=3, every=4, with_paths=True, progress=lambda _: at("shard")
        )
    return data


def contents(directory) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


@pytest.mark.parametrize("where", [("shard", 1), ("step", 25), ("record", 2), ("record", 1)])
def test_a_killed_collection_goes_on_to_the_same_bytes(tmp_path, where):
    def kill(name: str, count: int) -> None:
        if (name, count) == where:
            raise Killed

    whole = gather(tmp_path / "whole")
    assert [s["cases"] for s in whole.shards] == [600, 600, 105]  # whole states of 15 candidates
    with pytest.raises(Killed):
        gather(tmp_path / "killed", kill)
    left = InternalData(tmp_path / "killed", FINGERPRINT)
    assert left.n_t < 1300
    assert gather(tmp_path / "killed").n_t == 1305
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")
    record = json.loads((tmp_path / "whole" / "data.json").read_text())
    assert record["fingerprint"] == FINGERPRINT
