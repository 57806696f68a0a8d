"""Fine-tune models for `source=hub` and `source=chat`, in the order of Dai et al. 2024 (arXiv 2310.12773):

    python -m experiments.llm.models.fine_tune step=sft model=facebook/opt-1.3b out=DIR/sft template=safe-rlhf
    python -m experiments.llm.models.fine_tune step=reward model=DIR/sft out=DIR/reward template=safe-rlhf
    python -m experiments.llm.models.fine_tune step=cost model=DIR/sft out=DIR/cost template=safe-rlhf
    python -m experiments.llm.models.fine_tune step=ppo_lag model=DIR/sft reward=DIR/reward cost=DIR/cost \\
        cost_limit=0.05 out=DIR/ai template=safe-rlhf

data=FILE or a data set on the hub (default PKU-SafeRLHF, its columns: `hub_data.py`); sft imitates the better
response, reward needs to know the better one only, and cost learns from single labelled answers (columns
prompt, response, unsafe) too. step=scores trains one body with a head for each, from rows with both kinds of
comparisons: its folder serves as models.reward and models.cost, and every answer is then read once.
lora_rank=16 trains adapters of all linear layers and writes them instead of a whole model. folds=2 fold=0
leaves a part of the prompts out, counts on it, and writes held_out.json; a folder with fold_0, fold_1, ... is
one model trained in folds (`sources.by_fold`).

reward and cost may be PKU's beaver-7b models instead. Several GPUs: `accelerate launch -m
experiments.llm.models.fine_tune ... distributed=true`. Every step resumes from OUT.checkpoint; one that is
done is left alone. Other settings: the fields of `FineTuning`, and for ppo_lag those of `PPOSettings`, whose
defaults here are those of safe-rlhf's scripts/ppo-lag.sh.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

from experiments.llm.models.fine_tune_steps import Steps
from experiments.llm.models.hub_data import PROMPTS
from experiments.llm.models.language_model import save_pretrained
from experiments.llm.models.ppo_lag import PPOSettings
from experiments.llm.models.preference_models import HEADS, HEADS_FILE
from experiments.llm.models.sources import ADAPTERS, save_adapters
from experiments.support.errors import ConfigError
from safeframe.types import SafeframeError

STEPS = ("sft", "reward", "cost", "scores", "ppo_lag")
DAI = {
    "batch": 128, "minibatch": 16, "epochs": 1, "kl_coefficient": 0.01, "clip": 0.2, "learning_rate": 1e-5,
    "critic_learning_rate": 5e-6, "ptx_coefficient": 8.0, "multiplier_rate": 0.1, "multiplier_most": 5.0,
}  # fmt: skip


@dataclasses.dataclass
class FineTuning:
    """What to train, from what, and how long.

    Attributes:
        step: one of STEPS.
        model: what it starts from, a folder or a name on the hub.
        out: folder for the result.
        data: a file or a data set on the hub.
        more: files of further rows, joined by +; those to prompts of the fold that is left out are left out
            too, and counted nowhere.
        reward: reward model of ppo_lag.
        cost: cost model of ppo_lag.
        template: a prompt as the model sees it: chat, safe-rlhf or a text with {prompt} (\\n is a line
            break); empty: the tokenizer's own for chats.
        lora_rank: rank of LoRA's adapters, of all linear layers; 0 trains all weights.
        lora_alpha: scale of the adapters; they are multiplied by alpha / rank.
        folds: parts that the prompts are cut into by their text; 0: all are trained on.
        fold: the part that is left out.
        steps: updates.
        alike: batches that are drawn together and parted by length, so that less of each is padding; 1 draws
            every batch by itself.
        batch: rows of an update.
        micro: rows at once.
        learning_rate: of AdamW.
        weight_decay: of AdamW.
        precision: float32 or bfloat16.
        gradient_checkpointing: whether activations are computed again in the backward pass, to save memory.
        distributed: whether accelerate spreads it over several processes.
        device: cpu, cuda or auto.
        max_prompt_tokens: longer prompts are cut.
        max_answer_tokens: longer answers are cut.
        unfinished: share of the rows of reward, cost and scores whose answers lose their end, as do answers
            of a pool that reach its longest length: a model that has only seen whole ones says nothing of
            those.
        checkpoint_every: updates between checkpoints.
        seed: of the order of the data, and of sampling.
    """

    step: str = ""
    model: str = ""
    out: str = ""
    data: str = PROMPTS
    more: str = ""
    reward: str = ""
    cost: str = ""
    template: str = ""
    lora_rank: int = 0
    lora_alpha: float = 32.0
    folds: int = 0
    fold: int = 0
    steps: int = 2000
    alike: int = 1
    batch: int = 64
    micro: int = 8
    learning_rate: float = 2e-5
    weight_decay: float = 0.0
    precision: str = "float32"
    gradient_checkpointing: bool = False
    distributed: bool = False
    device: str = "auto"
    max_prompt_tokens: int = 512
    max_answer_tokens: int = 128
    unfinished: float = 0.0
    checkpoint_every: int = 100
    seed: int = 0

    @classmethod
    def parse(cls, pairs: dict[str, str]) -> tuple[FineTuning, dict[str, str]]:
        """Settings from key=value pairs, and the pairs that are PPOSettings'; ConfigError for others."""
        own = {f.name: f.type for f in dataclasses.fields(cls)}
        ppo = {f.name for f in dataclasses.fields(PPOSettings)}
        step = pairs.get("step", "")
        mine = {
            key: value
            for key, value in pairs.items()
            if key in own and not (step == "ppo_lag" and key in ppo)
        }
        rest = {key: value for key, value in pairs.items() if key not in mine}
        unknown = sorted(set(rest) - (ppo if step == "ppo_lag" else set()))
        if unknown:
            raise ConfigError(f"unknown settings: {', '.join(unknown)}; known: {', '.join(sorted(own))}")
        found = cls(**{key: _value(value, str(own[key]), key) for key, value in mine.items()})
        if found.step not in STEPS:
            raise ConfigError(f"step={found.step!r} is not one of: {', '.join(STEPS)}")
        needed = ("model", "out", "reward", "cost") if found.step == "ppo_lag" else ("model", "out")
        missing = [name for name in needed if not getattr(found, name)]
        if missing:
            raise ConfigError(f"step={found.step} needs {', '.join(f'{name}=...' for name in missing)}")
        if found.lora_rank and found.step == "ppo_lag":
            raise ConfigError("lora_rank is for sft, reward, cost and scores; ppo_lag trains all weights")
        if found.alike < 1:
            raise ConfigError(f"alike={found.alike}: 1 or more is needed")
        if not 0 <= found.unfinished <= 1:
            raise ConfigError(f"unfinished={found.unfinished}: a share from 0 to 1 is needed")
        if found.folds and not (found.folds >= 2 and 0 <= found.fold < found.folds):
            raise ConfigError(f"folds={found.folds} fold={found.fold}: 2 or more, and one of 0 to folds - 1")
        return found, rest


def _value(text: str, kind: str, key: str) -> Any:
    try:
        if kind == "bool":
            return {"true": True, "false": False}[text.lower()]
        return {"int": lambda t: int(float(t)), "float": float, "str": str}[kind](text)
    except (ValueError, KeyError):
        raise ConfigError(f"{key}={text!r}: a value of type {kind} is needed") from None


def ppo_settings(pairs: dict[str, str]) -> PPOSettings:
    """Dai's defaults with what was given."""
    kinds = {f.name: str(f.type) for f in dataclasses.fields(PPOSettings)}
    return PPOSettings(**(DAI | {key: _value(value, kinds[key], key) for key, value in pairs.items()}))


def main(arguments: list[str]) -> int:
    """Fine-tune as the arguments say; 0 done, 1 failed, 2 wrong arguments."""
    try:
        stray = [argument for argument in arguments if "=" not in argument]
        if stray:
            raise ConfigError(f"{stray[0]!r} is not key=value")
        settings, pairs = FineTuning.parse(dict(argument.split("=", 1) for argument in arguments))
        ppo = ppo_settings(pairs) if settings.step == "ppo_lag" else None
    except (ConfigError, SafeframeError) as error:
        print(f"wrong arguments: {error}", file=sys.stderr)
        return 2
    out = Path(settings.out)
    if (out / "config.json").exists() or (out / ADAPTERS).exists():
        print(f"{settings.out} is done")
        return 0
    try:
        steps = Steps(settings, ppo)
        model = steps.run()
        counted = steps.held_out(model)
    except (ConfigError, SafeframeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if steps.runtime.is_main:
        out.mkdir(parents=True, exist_ok=True)
        if counted is not None:
            summary, rows = counted
            (out / "held_out.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
            rows.to_parquet(out / "held_out.parquet", index=False)
            print(" ".join(f"{name} {value:.4g}" for name, value in summary.items()), flush=True)
        if settings.lora_rank:
            save_adapters(model, settings.model, out)  # the tokenizer is the base's
        else:
            save_pretrained(model, steps.tokenizer, settings.out)
        if settings.step == "scores":
            (out / HEADS_FILE).write_text(json.dumps(list(HEADS)) + "\n", encoding="utf-8")
        steps.checkpoint.unlink(missing_ok=True)
        print(f"written to {settings.out}; {steps.truncated} texts were cut to their longest length")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
