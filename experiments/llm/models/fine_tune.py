"""Fine-tune models for `source=hub`, in the order of Dai et al. 2024 (arXiv 2310.12773):

    python -m experiments.llm.models.fine_tune step=sft model=facebook/opt-1.3b out=DIR/sft
    python -m experiments.llm.models.fine_tune step=reward model=DIR/sft out=DIR/reward
    python -m experiments.llm.models.fine_tune step=cost model=DIR/sft out=DIR/cost
    python -m experiments.llm.models.fine_tune step=ppo_lag model=DIR/sft reward=DIR/reward cost=DIR/cost \\
        cost_limit=0.05 out=DIR/ai

data=FILE or a data set on the hub (default PKU-SafeRLHF, its columns: `hub_data.py`); sft imitates the better
response. reward and cost may be PKU's beaver-7b models instead. Several GPUs: `accelerate launch -m
experiments.llm.models.fine_tune ... distributed=true`. Every step resumes from OUT.checkpoint; one that is
done is left alone. Other settings: the fields of `FineTuning`, and for ppo_lag those of `PPOSettings`, whose
defaults here are those of safe-rlhf's scripts/ppo-lag.sh.
"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any

import numpy as np

from experiments.llm.models.conversations import Conversations, join
from experiments.llm.models.hub_data import COMPARED, PROMPTS, comparison_rows, read_rows
from experiments.llm.models.language_model import load_language_model, load_tokenizer, save_pretrained
from experiments.llm.models.ppo_lag import PPOSettings
from experiments.llm.models.ppo_training import PPOLag, two_headed
from experiments.llm.models.preference_models import (
    Comparisons,
    TokenScores,
    compared,
    cost_loss,
    load_score_model,
    new_score_model,
    reward_loss,
    scorer,
)
from experiments.llm.models.runtime import DTYPES, Runtime
from experiments.llm.models.supervised import FitSettings, fit, language_loss
from experiments.llm.models.tokenizer import PKU_TEMPLATE, encode_answers, encode_prompts
from experiments.support.errors import ConfigError
from experiments.support.progress import progress
from safeframe.types import SafeframeError

STEPS = ("sft", "reward", "cost", "ppo_lag")
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
        reward: reward model of ppo_lag.
        cost: cost model of ppo_lag.
        template: a prompt as the model sees it.
        steps: updates.
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
        checkpoint_every: updates between checkpoints.
        seed: of the order of the data, and of sampling.
    """

    step: str = ""
    model: str = ""
    out: str = ""
    data: str = PROMPTS
    reward: str = ""
    cost: str = ""
    template: str = PKU_TEMPLATE
    steps: int = 2000
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


class Steps:
    """The steps, on rows of preference data."""

    def __init__(self, settings: FineTuning, ppo: dict[str, str]):
        self.settings, self.ppo = settings, ppo
        s = settings
        self.runtime = Runtime(s.device, s.precision, s.gradient_checkpointing, s.distributed)
        self.tokenizer = load_tokenizer(s.model)
        self.rows = read_rows(s.data, COMPARED)
        self.truncated = 0

    def _rows(self, step: int, size: int) -> list[dict[str, Any]]:
        rng = np.random.default_rng([self.settings.seed, step])
        return [self.rows[i] for i in rng.integers(len(self.rows), size=size)]

    def people(self, step: int, size: int) -> Conversations:
        """Prompts with their better responses."""
        s, rows = self.settings, self._rows(step, size)
        said = encode_prompts(
            self.tokenizer, s.template, [row["prompt"] for row in rows], s.max_prompt_tokens
        )
        best = [row[f"response_{int(row['better_response_id'])}"] for row in rows]
        answered = encode_answers(self.tokenizer, best, s.max_answer_tokens)
        self.truncated += said.truncated + answered.truncated
        return join(said, answered)

    def compared(self, step: int, about: str) -> Comparisons:
        """A batch of comparisons."""
        s = self.settings
        rows = comparison_rows(self._rows(step, s.batch), about)
        return compared(self.tokenizer, s.template, rows, s.max_prompt_tokens, s.max_answer_tokens)

    def _fit(self, model: Any, draw: Any, loss: Any) -> Any:
        s = self.settings
        fitting = FitSettings(s.steps, s.learning_rate, s.weight_decay, s.micro, s.checkpoint_every)
        return fit(
            model, draw, loss, fitting, self.checkpoint, self._progress, self.runtime, self._report
        )  # fmt: skip

    @property
    def checkpoint(self) -> Path:
        """Where the step keeps its state."""
        return Path(f"{self.settings.out}.checkpoint")

    def _progress(self, steps: Any) -> Any:
        return progress(steps, self.settings.step, enabled=self.runtime.is_main)

    def _report(self, step: int, loss: float) -> None:
        if step % 50 == 0 and self.runtime.is_main:
            print(f"{self.settings.step} step {step} loss {loss:.4f}", flush=True)

    def run(self) -> Any:
        """The model of the configured step."""
        s = self.settings
        if s.step == "sft":
            model = load_language_model(s.model, device=self.runtime.device)
            return self._fit(model, lambda step: self.people(step, s.batch), language_loss)
        if s.step in ("reward", "cost"):
            model = TokenScores(new_score_model(load_language_model(s.model), s.seed))
            loss = reward_loss if s.step == "reward" else cost_loss
            return self._fit(model, lambda step: self.compared(step, s.step), loss).model
        return self.ppo_lag()

    def ppo_lag(self) -> Any:
        """The policy after PPO-Lag."""
        s, settings = self.settings, ppo_settings(self.ppo)
        dtype, device = DTYPES[s.precision], self.runtime.device
        models = {name: load_score_model(getattr(s, name), dtype, device) for name in ("reward", "cost")}
        scores = {
            name: scorer(
                model,
                load_tokenizer(getattr(s, name)),
                s.template,
                s.max_prompt_tokens,
                s.max_answer_tokens,
                64,
            )
            for name, model in models.items()
        }
        policy = load_language_model(s.model, device=device)
        same = models["reward"].config.model_type == policy.config.model_type
        same &= models["reward"].config.vocab_size == policy.config.vocab_size
        start = load_score_model(s.reward) if same else new_score_model(load_language_model(s.model), s.seed)
        return PPOLag(
            policy, two_headed(start), self.tokenizer, s.template,
            lambda i: [row["prompt"] for row in self._rows(i, settings.batch)],
            scores["reward"], scores["cost"], settings, s.seed, s.max_prompt_tokens, s.max_answer_tokens,
            self.runtime, lambda step: self.people(step, settings.minibatch),
        ).train(self.checkpoint, self._progress, self._row)  # fmt: skip

    def _row(self, row: dict[str, float]) -> None:
        if self.runtime.is_main:
            print(" ".join(f"{key} {value:.4g}" for key, value in row.items()), flush=True)


def main(arguments: list[str]) -> int:
    """Fine-tune as the arguments say; 0 done, 1 failed, 2 wrong arguments."""
    try:
        stray = [argument for argument in arguments if "=" not in argument]
        if stray:
            raise ConfigError(f"{stray[0]!r} is not key=value")
        settings, ppo = FineTuning.parse(dict(argument.split("=", 1) for argument in arguments))
    except (ConfigError, SafeframeError) as error:
        print(f"wrong arguments: {error}", file=sys.stderr)
        return 2
    if (Path(settings.out) / "config.json").exists():
        print(f"{settings.out} is done")
        return 0
    try:
        steps = Steps(settings, ppo)
        model = steps.run()
    except (ConfigError, SafeframeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if steps.runtime.is_main:
        save_pretrained(model, steps.tokenizer, settings.out)
        steps.checkpoint.unlink(missing_ok=True)
        print(f"written to {settings.out}; {steps.truncated} texts were cut to their longest length")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
