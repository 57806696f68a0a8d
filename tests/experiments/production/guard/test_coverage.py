"""The coverage guard on production: counts by hand, its changes, its command, real data if any."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from experiments.production.config import ProductionConfig
from experiments.production.demand import synthetic
from experiments.production.demand.series import Quarter
from experiments.production.guard import coverage
from scripts import production_coverage

HOURS = 1344


def load(columns=None):
    assert columns is None
    return synthetic.synthetic(0, hours_per_quarter=HOURS, order=tuple(coverage.ORDER))


def small() -> ProductionConfig:
    config = ProductionConfig(experiment="production")
    config.training.epochs = 2
    return config


def test_the_validation_year_is_the_last():
    data = load()
    last = data.target_hour[data.where(Quarter.VALIDATION)]
    assert last.min() > data.target_hour[data.where(Quarter.INTERNAL_TEST_VALIDATION)].max()


def test_changes_concern_one_product_and_leave_the_rest():
    data = load()
    asked = []

    def other(names):
        asked.append(names)
        return data

    found = list(coverage.changes(data, other, "elsewhere"))
    assert [name for name, _, _ in found].count("another region") == 4
    assert all(names.count("elsewhere") == 1 for names in asked)
    assert all(names[i] == "elsewhere" for i, names in enumerate(asked))
    half = [(products, changed) for name, products, changed in found if name == "sensor at half"]
    for (i,), changed in half:
        np.testing.assert_array_equal(changed.measurement[:, :, i] * 2, data.measurement[:, :, i])
        np.testing.assert_array_equal(np.delete(changed.measurement, i, 2), np.delete(data.measurement, i, 2))
        np.testing.assert_array_equal(changed.unsafe, data.unsafe)
    assert [name for name, _, _ in coverage.changes(data, other, None)].count("another region") == 0


def test_counts_fit_together_and_a_wrong_sensor_is_noticed(monkeypatch):
    monkeypatch.setattr(coverage, "SETTINGS", coverage.CoverageSettings(0.05))
    table = coverage.measure(small(), load, None, 0)
    assert len(table) == 2 * 4 * len(coverage.THRESHOLDS)
    assert (table["unsafe"] <= table["accepted"]).all()
    assert (table["accepted_guarded"] <= table["accepted"]).all()
    assert (table["accepted"] - table["accepted_guarded"] <= table["refused"]).all()
    own, wrong = (
        table[table["change"] == name]["refused"].mean() for name in ("later year", "sensor at half")
    )
    assert wrong > own
    pooled = coverage.pooled(table)
    row = pooled[(pooled["change"] == "later year") & (pooled["r_t"] == 0.1)].iloc[0]
    part = table[(table["change"] == "later year") & (table["r_t"] == 0.1)]
    assert row["firing"] == part["refused"].sum() / part["hours"].sum()
    assert row["violation"] == part["unsafe"].sum() / part["accepted"].sum()


def command(*words: str) -> int:
    """The script's main function, in this process."""
    return production_coverage.main(list(words))


def test_command_says_what_is_missing(tmp_path, capsys):
    with pytest.raises(SystemExit):
        command("--data", "eia")
    assert "--path" in capsys.readouterr().err
    words = (
        "--data",
        "eia",
        "--path",
        str(tmp_path / "no.csv"),
        "--no-claims",
        "--table",
        str(tmp_path / "t"),
    )
    assert command(*words) == 1
    assert "no such file" in capsys.readouterr().err
    assert not (tmp_path / "t").exists()


@pytest.mark.long
@pytest.mark.real_data
def test_command_on_real_data_goes_on_where_it_stopped(tmp_path, capsys):
    path = os.environ.get("SAFEFRAME_EIA_CSV")
    if not path or not Path(path).is_file():
        pytest.skip("SAFEFRAME_EIA_CSV names no demand file")
    table = str(tmp_path / "table.csv")
    words = (
        "--data",
        "eia",
        "--path",
        path,
        "--seeds",
        "0",
        "--epochs",
        "1",
        "--no-claims",
        "--table",
        table,
    )
    assert command(*words) == 0
    assert set(pd.read_csv(table)["change"]) == {"later year", "another region", "sensor at half"}
    assert "kept" not in capsys.readouterr().out
    assert command(*words) == 0
    assert "kept" in capsys.readouterr().out
