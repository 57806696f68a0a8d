"""Saving and loading a SafetyGuard: the same decisions again, and damage is noticed."""

import json

import numpy as np
import pytest
import torch
from guard_problem import (
    N,
    calibrated,
    candidate_classifier,
    candidate_model,
    candidates,
    classifier,
    model,
    problem,
)

from safeframe.guard import files
from safeframe.guard.safety_guard import SafetyGuard
from safeframe.internal_test import InternalTestData
from safeframe.threshold_rule import Conservative, PlugIn
from safeframe.types import SafeframeError

SAVED = [
    {},
    {"threshold": [0.01, 0.05], "prior": 0.2, "rule": PlugIn(0.1, "paper")},
    {"prior": (0.1, 0.2), "rule": Conservative(share=0.1)},
    {"certificate_delta": 0.1, "rule": "certificate"},
]


@pytest.mark.parametrize("keywords", SAVED)
def test_save_and_load(keywords, tmp_path):
    made = calibrated(**keywords)
    made.save(tmp_path / "guard")
    again = SafetyGuard.load(tmp_path / "guard", model, classifier)
    assert again.calibrations == made.calibrations
    assert again.settings == made.settings
    fresh, _ = problem(50, seed=4)
    a, b = made.act(fresh, 0.05), again.act(fresh, 0.05)
    np.testing.assert_array_equal(a.action, b.action)
    np.testing.assert_array_equal(a.bound, b.bound)
    assert a.reason == b.reason
    again.save(tmp_path / "guard")  # over itself: one guard, no leftovers
    assert len(list((tmp_path / "guard").iterdir())) == 2


def test_save_and_load_with_groups_and_candidates(tmp_path):
    y, label = candidates()
    group = np.where(np.arange(N) % 2 == 0, "even", "odd")
    made = calibrated(
        model=candidate_model, classifier=candidate_classifier,
        internal_test=InternalTestData(y, label, group),
        constraint="per_group", prior={"even": 0.2, "odd": 0.1}, event="selected",
    )  # fmt: skip
    made.save(tmp_path)
    again = SafetyGuard.load(tmp_path, candidate_model, candidate_classifier)
    assert again.calibrations == made.calibrations
    acted = again.act(y[:6], group=group[:6])
    np.testing.assert_array_equal(acted.index, made.act(y[:6], group=group[:6]).index)


def test_save_and_load_of_torch_data(tmp_path):
    network = torch.nn.Linear(3, 2)
    y, label = problem()
    data = InternalTestData(torch.from_numpy(y), label)
    made = calibrated(model=torch.nn.Identity(), classifier=network, internal_test=data, threshold=0.5)
    made.save(tmp_path)
    again = SafetyGuard.load(tmp_path, torch.nn.Identity(), network)
    assert again.calibrations == made.calibrations
    assert torch.equal(again.act(data.measurement).action, made.act(data.measurement).action)
    with pytest.raises(SafeframeError, match="other margins"):
        SafetyGuard.load(tmp_path, torch.nn.Identity(), torch.nn.Linear(3, 2))


def test_another_classifier_is_noticed(tmp_path):
    calibrated().save(tmp_path)
    other = lambda y: 2.0 * classifier(y)  # noqa: E731
    with pytest.raises(SafeframeError, match="other margins"):
        SafetyGuard.load(tmp_path, model, other)
    SafetyGuard.load(tmp_path, model, other, check=False)


def flip(path, position):
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(bytes(content))


@pytest.mark.parametrize(
    "damage", ["arrays", "json", "cut arrays", "cut json", "no arrays", "no json", "format", "empty"]
)
def test_corrupt_files_are_noticed(damage, tmp_path):
    calibrated().save(tmp_path)
    arrays, settings = next(tmp_path.glob("*.npz")), tmp_path / "guard.json"
    if damage == "arrays":
        flip(arrays, 1000)
    elif damage == "json":
        settings.write_text(settings.read_text().replace("0.05", "0.06"))
    elif damage == "cut arrays":
        arrays.write_bytes(arrays.read_bytes()[:-100])
    elif damage == "cut json":
        settings.write_text(settings.read_text()[:-5])
    elif damage == "no arrays":
        arrays.unlink()
    elif damage == "no json":
        settings.unlink()
    elif damage == "empty":
        settings.write_text("")
    else:
        settings.write_text(json.dumps({"guard": 3, "sha256": ""}))
    with pytest.raises(SafeframeError, match=r"corrupt|missing"):
        SafetyGuard.load(tmp_path, model, classifier)


def test_a_failed_save_keeps_the_old_guard(tmp_path, monkeypatch):
    calibrated().save(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    replace = files.os.replace

    def fail(source, target):
        if str(target).endswith("guard.json"):
            raise OSError("disk full")
        replace(source, target)

    monkeypatch.setattr(files.os, "replace", fail)
    with pytest.raises(SafeframeError, match="disk full"):
        calibrated(threshold=0.1, prior=0.5).save(tmp_path)
    assert {name: (tmp_path / name).read_bytes() for name in before} == before
    assert SafetyGuard.load(tmp_path, model, classifier).settings.threshold == (0.05,)
