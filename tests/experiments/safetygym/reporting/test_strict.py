"""The Car under strict thresholds: table and claims of its own, from made-up runs."""

import functools

import numpy as np
import pandas as pd
import pytest
import safetygym_fake as fake

from experiments.safetygym.reporting import comparison, publication, rates, strict
from experiments.support.results import claims
from scripts import figures as script


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Runs of figure 3 and one under strict thresholds, with five times the cases."""
    root = tmp_path_factory.mktemp("runs")
    for seed in range(2):
        fake.write_run(root, seed, "car", n=40)
    fake.write_run(root, 0, "car", n_t=5_000_000, n=60, name=strict.NAME)
    return root


def test_its_table_and_claims_are_its_own(root, tmp_path, monkeypatch):
    monkeypatch.setattr(comparison, "times_safer", functools.partial(comparison.times_safer, draws=20))
    assert script.main(["figure-3", "--runs", str(root), "--results", str(tmp_path)]) == 0
    assert strict.NAME not in set(pd.read_csv(tmp_path / "tables" / "safetygym_curves.csv")["method"])
    table = pd.read_csv(tmp_path / "tables" / "safetygym_strict.csv")
    assert set(table["method"]) == {strict.NAME}
    np.testing.assert_allclose(table["r_t"], sorted(fake.THRESHOLDS))
    np.testing.assert_allclose(table["unsafe_over_r_t_high"], table["unsafe_high"] / table["r_t"])
    np.testing.assert_allclose(table["tau"], -1 + np.log10(table["r_t"]) / 4)
    ledger = claims.read(tmp_path / "claims.csv").set_index("claim")
    row = ledger.loc["safetygym.car.strict_entries_per_1e7"]
    assert row["value"] == pytest.approx(1e4 * table["entries"].iloc[0])
    assert (row["command"], row["n"]) == (strict.COMMAND, table["steps"].iloc[0])
    others = [name for name in ledger.index if "strict" not in name]
    assert set(ledger.loc[others, "command"]) == {"make figure-3"}


def test_raw_files_keep_it_and_other_tasks_have_none(root, tmp_path):
    assert len(publication.runs("laptop", {}, root)) == 3
    assert strict.load("laptop", {"task": fake.TASKS["point"]}, root) is None
    assert strict.load("paper", {}, root) is None
    loaded = strict.load("laptop", {}, root)
    assert loaded is not None
    pool = loaded.full
    assert loaded.n_t == 5_000_000
    curves = rates.curves(pool)
    mine = curves[curves["method"] == strict.NAME]
    pd.testing.assert_frame_equal(strict.table(pool)[curves.columns], mine)
