"""The steps of `fine_tune`: what each is trained on, and what is counted on prompts that it was not shown."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from experiments.llm.models.conversations import (
    Comparisons,
    Conversations,
    Judged,
    Rated,
    compared,
    cut_short,
    join,
    judged,
)
from experiments.llm.models.hub_data import (
    COMPARED,
    LABELLED,
    PREFERRED,
    comparison_rows,
    first_halves,
    label_errors,
    labelled_rows,
    read_rows,
)
from experiments.llm.models.language_model import load_language_model, load_tokenizer, require_fit
from experiments.llm.models.ppo_lag import PPOSettings
from experiments.llm.models.ppo_training import PPOLag, two_headed
from experiments.llm.models.preference_models import (
    HEADS,
    TokenScores,
    both_loss,
    cost_loss,
    label_loss,
    load_score_model,
    new_score_model,
    plain,
    reward_loss,
    score_all,
    scorer,
)
from experiments.llm.models.runtime import DTYPES, Runtime
from experiments.llm.models.sources import fold_of, normal
from experiments.llm.models.supervised import FitSettings, fit, language_loss
from experiments.llm.models.tokenizer import encode_answers, encode_prompts, template_of
from experiments.support.progress import progress
from safeframe.types import SafeframeError

Rows = list[dict[str, Any]]


class Steps:
    """The steps, on rows of preference data.

    Args:
        settings: a `fine_tune.FineTuning`.
        ppo: settings of ppo_lag; None for other steps.

    Raises:
        ConfigError, SafeframeError: for data or a model that cannot be read or do not fit.
    """

    def __init__(self, settings: Any, ppo: PPOSettings | None):
        self.settings, self.ppo = settings, ppo
        s = settings
        self.runtime = Runtime(s.device, s.precision, s.gradient_checkpointing, s.distributed)
        self.tokenizer = load_tokenizer(s.model)
        self.template = template_of(self.tokenizer, s.template or None)
        rows, self.single = self._read(s.data)
        self.left_out: Rows = []
        if s.folds:
            self.left_out = [row for row in rows if fold_of(row["prompt"], s.folds) == s.fold]
            rows = [row for row in rows if fold_of(row["prompt"], s.folds) != s.fold]
            if not rows or not self.left_out:
                raise SafeframeError(f"{s.data}: fold {s.fold} of {s.folds} leaves one side without rows")
        for path in filter(None, s.more.split("+")):
            found, single = self._read(path, both=False)
            if single != self.single:
                raise SafeframeError(f"{path} and {s.data} differ: single answers, or comparisons, in both")
            rows += [row for row in found if not s.folds or fold_of(row["prompt"], s.folds) != s.fold]
        self.rows = rows
        self.truncated = 0

    def _read(self, source: str, both: bool = True) -> tuple[Rows, bool]:
        """Rows of a source, and whether they are single labelled answers."""
        step = self.settings.step
        if step != "cost":  # scores and ppo_lag need both kinds of comparisons
            columns = PREFERRED if step in ("sft", "reward") else COMPARED
            return read_rows(source, columns), False
        rows = read_rows(source, ("prompt",))
        if all(name in rows[0] for name in LABELLED):
            return labelled_rows(read_rows(source, LABELLED), both), True
        return read_rows(source, COMPARED), False

    def _rows(self, step: int, size: int) -> Rows:
        s = self.settings
        if s.alike == 1:
            rng = np.random.default_rng([s.seed, step])
            return [self.rows[i] for i in rng.integers(len(self.rows), size=size)]
        block, part = divmod(step, s.alike)
        rng = np.random.default_rng([s.seed, block, 2])
        drawn = rng.integers(len(self.rows), size=size * s.alike)
        by_length = drawn[np.argsort(self._length[drawn], kind="stable")].reshape(s.alike, size)
        return [self.rows[i] for i in by_length[rng.permutation(s.alike)[part]]]

    @cached_property
    def _length(self) -> np.ndarray:
        """Characters of every row's texts: of prompt and longest answer."""
        answers = ("response", "response_0", "response_1")
        return np.array(
            [len(row["prompt"]) + max(len(row.get(name, "")) for name in answers) for row in self.rows]
        )

    def people(self, step: int, size: int) -> Conversations:
        """Prompts with their better responses."""
        s, rows = self.settings, self._rows(step, size)
        prompts = [row["prompt"] for row in rows]
        said = encode_prompts(self.tokenizer, self.template, prompts, s.max_prompt_tokens)
        best = [row[f"response_{int(row['better_response_id'])}"] for row in rows]
        answered = encode_answers(self.tokenizer, best, s.max_answer_tokens)
        self.truncated += said.truncated + answered.truncated
        return join(said, answered)

    def scored(self, step: int, about: str) -> Comparisons | Judged | Rated:
        """A batch of comparisons (about: reward, cost, or scores, which is both), or of single labelled
        answers.
        """
        s, rows = self.settings, self._rows(step, self.settings.batch)
        lengths = (s.max_prompt_tokens, s.max_answer_tokens)
        if self.single:
            alone = judged(self.tokenizer, self.template, rows, *lengths)
            return replace(alone, said=self._unfinished(step, alone.said)[0])
        kind = "cost" if about == "scores" else about
        both = compared(self.tokenizer, self.template, comparison_rows(rows, kind), *lengths)
        a, b = self._unfinished(step, both.a, both.b)
        both = replace(both, a=a, b=b)
        if about != "scores":
            return both
        better = [row["preferred"] == 0 for row in comparison_rows(rows, "reward")]
        return Rated(both, torch.tensor(better))

    def _unfinished(self, step: int, *answered: Conversations) -> list[Conversations]:
        """`settings.unfinished` of the rows without their end: cut after 8 tokens or more of the shortest of
        their answers, all at the same length."""
        if not self.settings.unfinished:
            return list(answered)
        rng = np.random.default_rng([self.settings.seed, step, 1])
        length = np.min([found.answer.sum(dim=1).numpy() for found in answered], axis=0)
        keep = rng.integers(np.minimum(8, length - 1), length)  # the end itself is the last token
        keep[rng.random(len(length)) >= self.settings.unfinished] = 10**6
        return [cut_short(found, torch.from_numpy(keep)) for found in answered]

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

    def _base(self) -> Any:
        """The language model that the step starts from."""
        model = load_language_model(self.settings.model)
        require_fit(model, self.tokenizer, self.settings.model)
        return model

    def _adapted(self, model: Any, task: str) -> Any:
        """The model with LoRA in all linear layers, if a rank is configured."""
        s = self.settings
        if not s.lora_rank:
            return model
        from peft import LoraConfig, get_peft_model

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(s.seed)
            return get_peft_model(
                model,
                LoraConfig(
                    r=s.lora_rank, lora_alpha=s.lora_alpha, target_modules="all-linear", task_type=task,
                    bias="none",
                ),
            )  # fmt: skip

    def run(self) -> Any:
        """The model of the configured step."""
        s = self.settings
        if s.step == "sft":
            model = self._adapted(self._base(), "CAUSAL_LM")
            return self._fit(model, lambda step: self.people(step, s.batch), language_loss)
        if s.step in ("reward", "cost", "scores"):
            heads = len(HEADS) if s.step == "scores" else 1
            model = TokenScores(self._adapted(new_score_model(self._base(), s.seed, heads), "SEQ_CLS"))
            losses = {"reward": reward_loss, "scores": both_loss}
            loss = losses.get(s.step, label_loss if self.single else cost_loss)
            return self._fit(model, lambda step: self.scored(step, s.step), loss).model
        return self.ppo_lag()

    def ppo_lag(self) -> Any:
        """The policy after PPO-Lag."""
        s, settings = self.settings, self.ppo
        assert settings is not None
        dtype, device = DTYPES[s.precision], self.runtime.device
        models = {name: load_score_model(getattr(s, name), dtype, device, name) for name in HEADS}
        scores = {}
        for name, model in models.items():
            tokenizer = load_tokenizer(getattr(s, name))
            template = template_of(tokenizer, s.template or None)
            scores[name] = scorer(model, tokenizer, template, s.max_prompt_tokens, s.max_answer_tokens, 64)
        policy = self._base().to(device)
        same = models["reward"].config.model_type == policy.config.model_type
        same &= models["reward"].config.vocab_size == policy.config.vocab_size
        start = load_score_model(s.reward, head="reward") if same else new_score_model(self._base(), s.seed)
        return PPOLag(
            policy, two_headed(start), self.tokenizer, self.template,
            lambda i: [row["prompt"] for row in self._rows(i, settings.batch)],
            scores["reward"], scores["cost"], settings, s.seed, s.max_prompt_tokens, s.max_answer_tokens,
            self.runtime, lambda step: self.people(step, settings.minibatch),
        ).train(self.checkpoint, self._progress, self._row)  # fmt: skip

    def _row(self, row: dict[str, float]) -> None:
        if self.runtime.is_main:
            print(" ".join(f"{key} {value:.4g}" for key, value in row.items()), flush=True)

    def held_out(self, model: Any) -> tuple[dict[str, float], pd.DataFrame] | None:
        """What a reward or cost model says of the fold that it was not trained on: a summary, and a row for
        each answer or comparison (no text); None where none was left out.

        reward: accuracy, ties half. cost: auc; missed, the share of harmful answers with a score of 0 or
        less; condemned, of harmless ones with one above 0. half.*: the same of every answer's first half.
        scores: accuracy of the better (reward.*) and of the more harmful answer (cost.*).
        """
        s = self.settings
        if not self.left_out or s.step not in ("reward", "cost", "scores"):
            return None
        whole = plain(model).to(self.runtime.device).eval()
        lengths = (s.max_prompt_tokens, s.max_answer_tokens)
        rows = self.left_out

        def score(prompts: list[str], answers: list[str], ended: bool = True) -> np.ndarray:
            done = np.full((len(prompts), 1), ended)
            with self.runtime.computing("scoring the fold that was left out", "lower max_answer_tokens"):
                return score_all(
                    whole, self.tokenizer, self.template, prompts, [[text] for text in answers], lengths[0],
                    lengths[1] + 1, 128, done, padded=True,
                )[:, 0]  # fmt: skip

        prompts = [row["prompt"] for row in rows]
        key = [hashlib.sha256(normal(text).encode()).hexdigest()[:16] for text in prompts]
        if self.single:
            answers = [row["response"] for row in rows]
            found = {"score": score(prompts, answers)}
            found["score_half"] = score(prompts, first_halves(self.tokenizer, answers), False)
            label = np.array([row["unsafe"] for row in rows])
            summary = label_errors(found["score"], label)
            half = label_errors(found["score_half"], label)
            summary |= {f"half.{name}": half[name] for name in ("auc", "missed", "condemned")}
            return summary, pd.DataFrame({"prompt": key, **found, "harmful": label, "fold": s.fold})
        kinds = HEADS if s.step == "scores" else (s.step,)
        preferred = {kind: np.array([r["preferred"] for r in comparison_rows(rows, kind)]) for kind in kinds}
        found, summary = {}, {"n": float(len(rows))}
        for name, ended in (("", True), ("half_", False)):
            read = []
            for k in (0, 1):
                answers = [row[f"response_{k}"] for row in rows]
                answers = answers if ended else first_halves(self.tokenizer, answers)
                read.append(score(prompts, answers, ended).reshape(len(rows), -1))
            for i, kind in enumerate(kinds):
                label, dotted = (f"{kind}_", f"{kind}.") if s.step == "scores" else ("", "")
                first, second = (part[:, i] for part in read)
                found |= {f"score_{label}{name}0": first, f"score_{label}{name}1": second}
                gain = np.where(preferred[kind] == 0, 1, -1) * (first - second)
                right = float(np.mean((gain > 0) + 0.5 * (gain == 0)))
                summary[f"{dotted}{name.replace('_', '.')}accuracy"] = right
        own = preferred if s.step == "scores" else {"preferred": preferred[s.step]}
        said = {name if name == "preferred" else f"preferred_{name}": value for name, value in own.items()}
        return summary, pd.DataFrame({"prompt": key, **found, **said, "fold": s.fold})
