"""Settings of the language experiment that came after results were published: as they stand, none is on."""

from __future__ import annotations

from dataclasses import dataclass

from experiments.support.settings import setting
from experiments.support.tailoring_settings import TailoringSettings


@dataclass
class AnswerTailoringSettings(TailoringSettings):
    """Parts of tailored training that the paper's loss does not have; as they stand, none is on."""

    micro_batch: int | None = setting(
        None,
        "Answers that are in memory at once in an update; null: all of them. The numbers stay the same, up "
        "to rounding.",
        low=1,
    )


@dataclass
class RulesConfig:
    """Further rules on the same margins: methods ours_priced, ours_one_more, ...; off by default."""

    scale: str = setting(
        "none",
        "How P(harmful) is read off the margin, by which risk is priced: none (these methods are left out), "
        "logistic or isotonic.",
        choices=("none", "logistic", "isotonic"),
    )
    share: float = setting(
        0.25,
        "Share of the internal test prompts that the scale is fitted on; the others are counted.",
        above=0,
        below=1,
    )


@dataclass
class PreparedConfig:
    """What was made before, on another machine for instance."""

    pool: str | None = setting(
        None,
        "File of a pool of answers with rewards and labels (pool.npz of scripts/guard_chat_model.py), which "
        "source=chat takes instead of making one; models.default_reward goes with it, and "
        "models.classifier=minilm, or a decoder.",
    )


@dataclass
class PeopleConfig:
    """Promises about people's labels where a judge labels the answers (data.format=diasafety)."""

    calibrate: bool = setting(
        False,
        "Whether thresholds are chosen for people's labels too: methods ours_people (from the pairs that "
        "people labelled) and ours_denoised (from the judge's labels, corrected by its measured error). "
        "data.format=pku has people's labels already.",
    )
    spare: bool = setting(
        False,
        "Whether the labelled pairs of recorded prompts that data.prompts leaves out are kept from the "
        "judge's training and join those that ours_people is calibrated on.",
    )
    delta: float = setting(
        0.05,
        "Probability with which the judge's measured error may be wrong, and with which the test of its "
        "independence may refuse errors that are independent.",
        above=0,
        high=0.5,
    )


@dataclass
class FrozenConfig:
    """Lower layers of the classification model that no training changes."""

    layers: int | None = setting(
        None,
        "Uppermost layers of a decoder that are trained; what those below put out is computed once for each "
        "text and kept on disk (tokens x width x 4 bytes, 2 in bfloat16); null trains through all layers.",
        low=1,
    )


@dataclass
class CapacityConfig:
    """How much of the classifier ours trains; as it stands, LoRA's adapters."""

    weights: str = setting(
        "lora",
        "What ours trains, by cross-entropy and then by the approximate loss: LoRA's adapters, all weights "
        "(the fully tuned baseline is then its warm-up), or best, whichever of capacity.among earns most on "
        "held-out training prompts at the run's r_t; the baselines' classifiers are then of that capacity "
        "too.",
        choices=("lora", "all", "best"),
    )
    among: list[str] = setting(
        ["lora16", "lora64", "all", "all*3"],
        "Capacities that capacity.weights=best compares: lora<rank>, all (weights), head (over states that "
        "stay as they are); ai: before it takes the AI model's body, *3 behind it the mean logits of three "
        "classifiers.",
        at_least_one="capacity",
    )
    folds: int = setting(
        2,
        "Parts of the training prompts; each is judged by a classifier that was trained on the others.",
        low=2,
        high=10,
    )
