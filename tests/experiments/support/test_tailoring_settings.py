"""Parts of tailored training that are off by default: what is on, who is held out, what identities say."""

from __future__ import annotations

import numpy as np
import pytest
from hydra import compose, initialize_config_dir

from experiments.support import registry
from experiments.support.config import identity, run_id, to_object
from experiments.support.files import REPOSITORY
from experiments.support.settings import unset_later
from experiments.support.tailoring_settings import AnchoredTailoringSettings, TailoringSettings
from safeframe.training.loop import TrainingSettings

OWN = (0.3, 1.5, 1.0, 0.5, 0.0)


def config(*overrides: str):
    registry.register_schemas()
    with initialize_config_dir(str(REPOSITORY / "configs"), version_base="1.3"):
        composed = compose("config", overrides=[*overrides])
    name = next(word.split("=")[1] for word in overrides if word.startswith("experiment="))
    return to_object(composed, registry.get(name).schema)


@pytest.mark.parametrize("experiment", ["production", "llm", "safetygym"])
def test_a_run_keeps_its_identity_while_every_part_is_off(experiment):
    off = config(f"experiment={experiment}")
    assert "tailoring" in unset_later(off)
    assert "tailoring" not in identity(off)
    assert run_id(config(f"experiment={experiment}", "tailoring.checkpoints=4")) == run_id(off)
    on = config(f"experiment={experiment}", "tailoring.selection_share=0.2")
    assert identity(on)["tailoring"]["selection_share"] == 0.2
    assert run_id(on) != run_id(off)


def test_as_it_stands_the_loss_is_the_experiment_s_own():
    found = TailoringSettings().of(1e-2, TrainingSettings(10, 1e-3), *OWN)
    loss = found.loss
    assert (loss.form, loss.open_width, loss.relative, loss.anchor) == ("gated", None, False, 0.0)
    values = [getattr(loss, name).at(9, 10) for name in ("penalty", "perturbation", "temperature")]
    assert values == [0.3, 1.5, 1.0]


def test_every_part_arrives():
    settings = AnchoredTailoringSettings(
        form="priced", price=3.0, open_width=2.0, relative=True, schedule="linear", penalty_end=3.0,
        perturbation_end=0.5, temperature_end=0.1, temperature_output_end=0.2, checkpoints=99, alpha=0.2,
    )  # fmt: skip
    found = settings.of(1e-2, TrainingSettings(11, 1e-3), *OWN[:-1], 0.7)
    loss = found.loss
    assert (loss.form, loss.price, loss.open_width, loss.relative, loss.anchor) == (
        "priced",
        3.0,
        2.0,
        True,
        0.7,
    )
    ends = [
        getattr(loss, n).at(10, 11) for n in ("penalty", "perturbation", "temperature", "temperature_output")
    ]
    assert ends == [3.0, 0.5, 0.1, 0.2]
    assert loss.penalty.at(5, 11) == pytest.approx(1.65)  # half-way
    assert found.checkpoints == 11
    assert found.selection.alpha == 0.2


@pytest.mark.parametrize(("share", "every"), [(0.5, 2), (0.25, 4), (0.2, 5)])
def test_whole_blocks_are_held_out(share, every):
    block = np.repeat(np.arange(40) * 7, 3)
    out = TailoringSettings(selection_share=share).held_out(block)
    assert out.mean() == pytest.approx(1 / every)
    assert all(len(set(out[block == key])) == 1 for key in np.unique(block))
    assert not TailoringSettings().held_out(block).any()


def test_values_out_of_range_are_named():
    for wrong in ("form=free", "selection_share=0.6", "alpha=0", "penalty_end=-1", "schedule=cosine"):
        with pytest.raises(ValueError, match=f"tailoring.{wrong.split('=')[0]}"):
            config("experiment=production", f"tailoring.{wrong}")
