"""What shards may come from: parquet files, Ray Datasets, callables; and what is refused."""

from pathlib import Path
from threading import Lock

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from safeframe.risk_curve import RiskCurve
from safeframe.shards.sources import Shard, for_each, opener
from safeframe.types import SafeframeError

R_T = np.geomspace(1e-4, 1.0, 100)


@pytest.fixture
def parts():
    rng = np.random.default_rng(0)
    found = []
    for n in (400, 0, 900, 1):
        label = (rng.random(n) < 0.2).astype(np.int64)
        found.append((rng.normal(size=n).round(1) + label, label))
    return found


def assert_found(curve, parts):
    whole = RiskCurve(*(np.concatenate(column) for column in zip(*parts, strict=True)))
    np.testing.assert_array_equal(curve.largest_thresholds(R_T), whole.largest_thresholds(R_T))
    np.testing.assert_array_equal(curve.bound(curve.candidates), whole.bound(curve.candidates))


@pytest.mark.parametrize("kind", [str, Path])
@pytest.mark.parametrize("label_type", [pa.int8(), pa.int64(), pa.bool_(), pa.float64()])
def test_a_folder_of_parquet_files(tmp_path, parts, kind, label_type):
    for i, (margin, label) in enumerate(parts):
        column = pa.array(label).cast(label_type)
        table = pa.table({"other": np.zeros(len(label)), "label": column, "margin": margin})
        pq.write_table(table, tmp_path / f"part-{i}.parquet", row_group_size=100)
    (tmp_path / "README.txt").write_text("not a shard")
    assert_found(RiskCurve.from_shards(kind(tmp_path)), parts)
    one = RiskCurve.from_shards(kind(tmp_path / "part-0.parquet"))
    assert_found(one, parts[:1])


def test_bad_parquet_files_are_named(tmp_path):
    with pytest.raises(SafeframeError, match="expected a parquet file or a folder"):
        RiskCurve.from_shards(tmp_path)
    with pytest.raises(SafeframeError, match="expected a parquet file or a folder"):
        RiskCurve.from_shards(str(tmp_path / "absent"))
    pq.write_table(pa.table({"margin": [0.1, 0.2], "state": [0, 1]}), tmp_path / "a.parquet")
    with pytest.raises(SafeframeError, match=r"a\.parquet: no column 'label'.*found \['margin', 'state'\]"):
        RiskCurve.from_shards(tmp_path)
    pq.write_table(pa.table({"margin": [0.1, None], "label": [0, 1]}), tmp_path / "a.parquet")
    with pytest.raises(SafeframeError, match=r"a\.parquet, row group 0: column margin has missing values"):
        RiskCurve.from_shards(tmp_path)
    pq.write_table(pa.table({"margin": [0.1, np.inf], "label": [0, 1]}), tmp_path / "a.parquet")
    with pytest.raises(SafeframeError, match=r"a\.parquet, row group 0: margins hold NaN or infinite"):
        RiskCurve.from_shards(tmp_path)


class Dataset:
    """What Ray's has: batches, whose order and sizes may differ from pass to pass."""

    def __init__(self, parts):
        self.margin, self.label = (np.concatenate(column) for column in zip(*parts, strict=True))
        self.rng = np.random.default_rng(1)

    def iter_batches(self, *, prefetch_batches=1, batch_size=256, batch_format="default", drop_last=False):
        assert batch_format == "numpy"
        assert batch_size > 0
        edges = np.sort(self.rng.integers(0, len(self.margin), 5))
        order = self.rng.permutation(6)
        columns = [np.split(column, edges) for column in (self.margin, self.label)]
        for i in order:
            yield {"margin": columns[0][i], "label": columns[1][i], "id": np.arange(len(columns[0][i]))}


def test_a_ray_dataset(parts):
    assert_found(RiskCurve.from_shards(Dataset(parts)), parts)
    parts[2][0][3] = np.nan
    with pytest.raises(SafeframeError, match=r"batch \d: margins hold NaN"):
        RiskCurve.from_shards(Dataset(parts))


def test_callables_and_lazy_shards(parts):
    def generator():
        yield from parts

    class Reiterable:
        def __iter__(self):
            return iter(parts)

    assert_found(RiskCurve.from_shards(generator), parts)
    assert_found(RiskCurve.from_shards(lambda: list(parts)), parts)
    assert_found(RiskCurve.from_shards(Reiterable()), parts)
    assert_found(RiskCurve.from_shards(tuple(parts)), parts)
    assert_found(RiskCurve.from_shards([lambda part=part: part for part in parts]), parts)
    assert_found(RiskCurve.from_shards([{"margin": m, "label": s} for m, s in parts]), parts)


def test_what_can_be_passed_over_only_once_is_refused(parts):
    def generator():
        yield from parts

    for once in (generator(), iter(parts), zip(*parts, strict=True), map(tuple, parts)):
        with pytest.raises(SafeframeError, match=r"re-iterable.*or a callable returning an iterator"):
            RiskCurve.from_shards(once)
    same = generator()
    with pytest.raises(SafeframeError, match="the second 0"):
        RiskCurve.from_shards(lambda: same)


@pytest.mark.parametrize("shards", [7, None])
def test_what_is_no_source_is_refused(shards):
    with pytest.raises(SafeframeError, match="expected a re-iterable of"):
        RiskCurve.from_shards(shards)


def test_at_most_three_shards_are_held_and_errors_of_the_source_come_through():
    lock, held, most = Lock(), [0], [0]

    def source():
        for i in range(20):
            with lock:
                held[0] += 1
                most[0] = max(most[0], held[0])
            yield i

    def work(shard):
        with lock:
            held[0] -= 1
        return shard.cases

    names, results = for_each(opener(source)(), work)
    assert results == list(range(20))
    assert names[3] == "shard 3"
    assert most[0] <= 3

    def broken():
        raise OSError("disk is gone")

    with pytest.raises(OSError, match="disk is gone"):
        RiskCurve.from_shards([broken, broken, broken, broken])
    assert Shard("a", ([], [])).name == "a"
