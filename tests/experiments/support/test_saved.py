"""Records of runs from directories and from raw files: the same; damage and other versions are noticed."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from experiments.support.errors import CacheError, ResultsError
from experiments.support.results import collect, frames, saved

ROWS = [{"method": "ours", "metric": "m", "value": 0.1 + 0.2, "n": 3, "r_t": 1e-3}]


def write_run(root, seed: int, table: pd.DataFrame | None = None, **manifest):
    directory = root / "toy" / f"run{seed}"
    directory.mkdir(parents=True)
    (directory / "config.yaml").write_text(f"seed: {seed}\npreset: laptop\ndata:\n  source: a\n")
    about = {"commit": "c" * 40, "dirty": False, "finished": f"2020-01-0{seed + 1}"} | manifest
    (directory / "manifest.json").write_text(json.dumps(about))
    if table is not None:
        table.to_csv(directory / "extra.csv", index=False)
    sums = frames.write(frames.tidy(ROWS, experiment="toy", seed=seed), directory)
    (directory / "DONE").write_text(json.dumps({"sha256": sums, "code": {}}))
    return directory


@pytest.fixture
def root(tmp_path):
    for seed in range(3):
        extra = pd.DataFrame({"a": [seed, 2], "b": ["x", None], "c": [0.1, np.nan]})
        write_run(tmp_path / "runs", seed, None if seed == 2 else extra.iloc[: 2 - 2 * seed])
    return tmp_path / "runs"


@pytest.fixture
def raw(root, tmp_path):
    saved.write_raw(collect.finished("toy", root=root), ["extra"], tmp_path / "raw" / "toy")
    return tmp_path / "raw"


def test_raw_files_hold_what_the_directories_do(root, raw):
    runs, again = collect.finished("toy", root=root), collect.finished("toy", root=raw)
    assert [run.run for run in again] == ["run0", "run1", "run2"]
    for one, other in zip(runs, again, strict=True):
        assert (one.config, one.manifest, one.seed) == (other.config, other.manifest, other.seed)
        pd.testing.assert_frame_equal(one.table("results"), other.table("results"))
        assert one.has("extra") == other.has("extra")
    pd.testing.assert_frame_equal(runs[0].table("extra"), again[0].table("extra"))
    assert len(again[1].table("extra")) == 0  # kept, with no row
    assert not again[2].has("extra")
    with pytest.raises(ResultsError, match="run run2 has no table 'extra'"):
        again[2].table("extra")
    assert [run.seed for run in collect.finished("toy", {"seed": 1, "data.source": "a"}, raw)] == [1]
    assert collect.finished("toy", {"data.nothing": None}, raw) == []


def test_written_twice_they_are_the_same_bytes(root, tmp_path):
    runs = collect.finished("toy", root=root)
    for name in ("a", "b"):
        saved.write_raw(runs[::-1] if name == "b" else runs, ["extra"], tmp_path / name)
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


def test_numbers_come_back_bit_for_bit_in_the_encoding_that_takes_least_room(tmp_path):
    noisy = np.append(np.random.default_rng(0).normal(size=4000) + 9, [np.nan, np.inf, -0.0, 5e-324])
    few = np.where(np.arange(len(noisy)) % 7, 0.1, np.nan)
    table = pd.DataFrame({"noisy": noisy, "few": few, "name": "x"})
    run = saved.Saved("a", {}, {"commit": "c" * 40, "dirty": False}, {"results": table, "plain": table}.get)
    saved.write_raw([run], ["plain"], tmp_path / "raw")
    found = pd.read_parquet(tmp_path / "raw" / "plain.parquet")
    for name in ("noisy", "few"):
        assert found[name].to_numpy().tobytes() == table[name].to_numpy().tobytes()
    plain = tmp_path / "as_pandas_does.parquet"
    table.assign(run="a").astype({"run": "category"}).to_parquet(
        plain, index=False, compression="zstd", compression_level=19
    )
    assert (tmp_path / "raw" / "plain.parquet").stat().st_size < 0.95 * plain.stat().st_size


def test_a_raw_file_of_another_version_is_refused(raw):
    index = raw / "toy" / "runs.json"
    content = json.loads(index.read_text())
    index.write_text(json.dumps(content | {"format": 99}))
    with pytest.raises(ResultsError, match=r"runs\.json has format 99, this version reads 1: gather"):
        collect.finished("toy", root=raw)
    index.write_text("{")
    with pytest.raises(ResultsError, match=r"runs\.json cannot be read"):
        collect.finished("toy", root=raw)


def test_a_changed_or_missing_raw_file_is_noticed(raw):
    path = raw / "toy" / "extra.parquet"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(CacheError, match=r"extra\.parquet is missing or was changed"):
        collect.finished("toy", root=raw)[0].table("extra")
    path.unlink()
    with pytest.raises(CacheError, match=r"extra\.parquet is missing or was changed"):
        collect.finished("toy", root=raw)[0].table("extra")


@pytest.mark.parametrize("about", [{"dirty": True}, {"commit": None}])
def test_runs_of_a_dirty_tree_are_refused_unless_asked(root, tmp_path, about):
    write_run(root, 7, **about)
    runs = collect.finished("toy", root=root)
    with pytest.raises(ResultsError, match="run run7 was made from a tree with uncommitted changes"):
        saved.write_raw(runs, [], tmp_path / "raw")
    assert not (tmp_path / "raw").exists()
    saved.write_raw(runs, [], tmp_path / "raw", dirty=True)
    assert len(saved.read_raw(tmp_path / "raw")) == 4


def test_of_two_places_the_first_that_has_a_run_gives_it(root, raw, tmp_path):
    other = tmp_path / "other"
    write_run(other, 0, finished="2030-01-01")
    write_run(other, 8)
    found = collect.finished("toy", root=[other, raw])
    assert [run.run for run in found] == ["run0", "run8", "run1", "run2"]
    assert found[0].finished == "2030-01-01"
    with pytest.raises(saved.NoRuns, match=r"under .*other or .*raw"):
        collect.required("toy", {"seed": 9}, [other, raw])


def test_no_runs_is_an_error_of_its_own_type(root, tmp_path):
    with pytest.raises(saved.NoRuns, match="no finished run of toy with seed=9"):
        collect.required("toy", {"seed": 9}, root)
    with pytest.raises(ResultsError, match="no runs to keep"):
        saved.write_raw([], [], tmp_path / "raw")
    with pytest.raises(saved.NoRuns, match="does not exist"):
        saved.read_raw(tmp_path / "nowhere")


def test_settings_that_came_later_do_not_part_runs_that_did_the_same(root):
    old = "seed: 7\npreset: laptop\ndata:\n  source: a\n  tokens: 40\n"
    new = {
        "same": "seed: 8\npreset: laptop\ndata: {source: a, tokens: null}\nextra: {rate: 1, kind: x}\n",
        "other": "seed: 9\npreset: laptop\ndata:\n  source: a\n  tokens: null\nextra: {rate: 2, kind: x}\n",
        "longer": "seed: 10\npreset: laptop\ndata:\n  source: a\n  tokens: 50\n",
    }
    for seed, text in zip(range(4), (old, *new.values()), strict=True):
        directory = write_run(root / "more", seed)
        (directory / "config.yaml").write_text(text)
    runs = collect.finished("toy", root=root / "more")
    later = {"data.tokens": [40], "extra.rate": [1], "extra.kind": ["x"]}
    found, notes = collect.comparable(runs, ["seed"], later=later)
    assert [run.seed for run in found] == [7, 8]
    assert sorted(notes) == [
        "1 runs left out: other data.tokens=50 (not None)",
        "1 runs left out: other extra.rate=2 (not None)",
    ]
    alone, _ = collect.comparable(runs, ["seed"])
    assert len(alone) == 1  # nothing is known to be later
