"""The benchmark of the language models runs and writes its table and, if asked, the ledger."""

from __future__ import annotations

import sys

import pandas as pd
import pytest
import torch

from benchmarks import bench_llm as bench
from experiments.support.results import claims

QUICK = ("--prompts", "4", "--batch", "32", "--repeats", "2", "--device", "cpu")


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["bench_llm.py", *QUICK, *arguments])
    bench.main()


def test_table_and_claims(monkeypatch, tmp_path):
    table, ledger = tmp_path / "bench_llm.csv", tmp_path / "claims.csv"
    monkeypatch.setenv("SAFEFRAME_CLAIMS", str(ledger))
    run(monkeypatch, "--dirty", "--table", str(table))
    rows = pd.read_csv(table).set_index("what")
    assert list(rows.index) == ["generation", "scoring, texts read", "classification"]
    assert (rows["candidates_per_s"] > 10).all()
    assert (rows["candidates"] == 64).all()
    written = claims.read(ledger).set_index("claim")
    assert set(written.index) == {f"llm.{what}_per_s" for what in ("generation", "scoring", "classification")}


def test_random_weights_of_given_shapes(monkeypatch, tmp_path):
    table = tmp_path / "table.csv"
    run(monkeypatch, "--shapes", "tiny", "--answer-tokens", "6", "--table", str(table))
    rows = pd.read_csv(table).set_index("what")
    assert list(rows.index) == [
        "generation", "scoring", "classification", "classification over kept states", "training, LoRA",
        "training, LoRA over kept states",
    ]  # fmt: skip
    assert rows.loc["generation", "tokens_per_s"] == pytest.approx(
        6 * rows.loc["generation"].iloc[0], rel=0.01
    )
    assert (rows[["candidates_per_s", "memory_mib", "weights"]] > 0).all().all()
    assert rows.loc["training, LoRA", "weights"] < rows.loc["classification", "weights"]
    assert (rows["tokens"] == "64+6").all()


def test_the_paper_shapes_are_those_of_opt():
    """Parameters of OPT-1.3B and OPT-350M (Zhang et al. 2022), counted without allocating them."""
    counts = {}
    with torch.device("meta"):
        for name, shape in bench.SHAPES["opt-1.3b"].items():
            made = bench.AutoModelForCausalLM.from_config(bench._configuration(shape))
            counts[name] = made.num_parameters()
        smollm = bench._configuration(bench.SMOLLM)
        assert bench.AutoModelForCausalLM.from_config(smollm).num_parameters() == 134_515_008
    assert counts["generator"] == pytest.approx(1.3158e9, rel=1e-3)
    assert counts["classifier"] == pytest.approx(3.312e8, rel=1e-3)


def test_a_gpu_that_is_not_there(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit):
        run(monkeypatch, "--shapes", "opt-1.3b", "--device", "cuda")
    assert "torch sees no GPU here" in capsys.readouterr().err


def test_out_of_memory_says_what_to_lower(monkeypatch):
    def full(*_args, **_more):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(bench, "_forward", full)
    with pytest.raises(SystemExit, match=r"out of memory in tiny on cpu .* lower --batch \(now 32\)"):
        run(monkeypatch, "--shapes", "tiny", "--answer-tokens", "2")


def test_what_another_machine_measured_is_recorded_with_its_commit(monkeypatch, tmp_path, capsys):
    measured, table, ledger = (tmp_path / name for name in ("measured.csv", "table.csv", "claims.csv"))
    monkeypatch.setenv("SAFEFRAME_CLAIMS", str(ledger))
    given = pd.DataFrame(
        {
            "what": ["generation", "scoring", "training, LoRA"], "candidates_per_s": [85.18, 1134.0, 354.8],
            "low": [71.67, 1129, 354.7], "high": [98.68, 1138, 355], "repeats": 2,
            "candidates": [256, 128, 128], "memory_mib": 7274, "dtype": "bfloat16", "device": "NVIDIA H200",
        }
    )  # fmt: skip
    given.to_csv(measured, index=False)
    recorded = ("--shapes", "opt-1.3b", "--measured", str(measured), "--table", str(table))
    run(monkeypatch, *recorded, "--at", "0123abc")
    pd.testing.assert_frame_equal(pd.read_csv(table), given, check_dtype=False)
    found = claims.read(ledger).set_index("claim")
    assert list(found.index) == [f"llm.gpu.{what}_per_s" for what in ("generation", "scoring", "training")]
    assert set(found["commit"]) == {"0123abc"}
    assert set(found["data"]) == {"random weights, bfloat16, NVIDIA H200"}
    said = (
        "python benchmarks/bench_llm.py --shapes opt-1.3b --device cuda --repeats 2 --batch 128 --prompts 16"
    )
    assert set(found["command"]) == {said}
    given.drop(columns="device").to_csv(measured, index=False)
    for arguments in (("--at", "0123abc"), ()):
        with pytest.raises(SystemExit):
            run(monkeypatch, *recorded, *arguments)
    given.to_csv(measured, index=False)
    with pytest.raises(SystemExit, match="is no commit"):
        run(monkeypatch, *recorded, "--at", "yesterday")
