"""Make the models that come with the repository.

    python -m experiments.llm.world.reference_models NAME ... [out=DIR]

Names, in the order in which they need one another: ai, classifier_base, reward, cost, ppo_lag_<limit>; `all`
is all of them. One thread; a training that was killed goes on when the command is given again; a model that
is there is left alone. Default folder: experiments/llm/reference. steps=N shortens every training (for
trials).
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from experiments.llm.models.language_model import (
    Shape,
    load_language_model,
    new_language_model,
    save_pretrained,
)
from experiments.llm.models.ppo_lag import PPOSettings
from experiments.llm.models.ppo_training import PPOLag, two_headed
from experiments.llm.models.preference_models import (
    TokenScores,
    cost_loss,
    load_score_model,
    new_score_model,
    reward_loss,
    scorer,
)
from experiments.llm.models.supervised import FitSettings, fit, language_loss
from experiments.llm.models.tokenizer import SYNTHETIC_TEMPLATE
from experiments.llm.world import corpus
from experiments.llm.world.conversation_world import World
from experiments.llm.world.grammar import MAX_ANSWER
from experiments.llm.world.vocabulary import build_tokenizer
from experiments.support.progress import progress
from safeframe.types import SafeframeError

REFERENCE = Path(__file__).parents[1] / "reference"
WORLD_SEED = 0
AI_SHAPE = Shape(hidden=64, layers=2, heads=4, feed_forward=128)
SMALL_SHAPE = Shape(hidden=48, layers=2, heads=4, feed_forward=96)
MAX_PROMPT = 40
BANK_PROMPTS = 10_000
PPO_LIMITS = (0.05, 0.02)  # harmful rates by the cost model; the ai model's own is about 0.1
PPO_ITERATIONS = 100


def make_ai(folder: Path, steps: int | None) -> Any:
    """The model that is guarded: imitates what people write."""
    return _pretrain(AI_SHAPE, folder / "ai.checkpoint", steps or 1200, seed=1, prompts_too=False)


def make_classifier_base(folder: Path, steps: int | None) -> Any:
    """What the classification model is fine-tuned from: a smaller one, pretrained on prompts and answers."""
    return _pretrain(
        SMALL_SHAPE, folder / "classifier_base.checkpoint", steps or 600, seed=2, prompts_too=True
    )


def _pretrain(shape: Shape, checkpoint: Path, steps: int, seed: int, prompts_too: bool) -> Any:
    model = new_language_model(build_tokenizer(), shape, seed)
    draw = corpus.written(World(WORLD_SEED), 64, seed)
    return fit(
        model,
        draw,
        lambda m, batch: language_loss(m, batch, prompts_too),
        FitSettings(steps=steps, learning_rate=1e-2),
        checkpoint,
        lambda it: progress(it, checkpoint.stem),
        report=_printer(checkpoint.stem),
    )


def make_reward(folder: Path, steps: int | None) -> Any:
    """Learned from noisy comparisons of helpfulness."""
    return _prefer(folder, "reward", "helpfulness", reward_loss, steps or 2500, seed=3)


def make_cost(folder: Path, steps: int | None) -> Any:
    """Learned from noisy comparisons of harm and noisy labels."""
    return _prefer(folder, "cost", "harm", cost_loss, steps or 12_000, seed=4)


def _prefer(folder: Path, name: str, about: str, loss: Any, steps: int, seed: int) -> Any:
    ai = load_language_model(_needed(folder, "ai"))
    prompts = min(BANK_PROMPTS, 20 * steps)
    bank = corpus.make_bank(
        World(WORLD_SEED), ai, prompts, 9, folder / "bank", lambda it: progress(it, "answers to compare")
    )
    trained = fit(
        TokenScores(new_score_model(ai, seed)),
        corpus.comparisons(bank, 64, seed, about),
        loss,
        FitSettings(steps=steps, learning_rate=8e-3),
        folder / f"{name}.checkpoint",
        lambda it: progress(it, name),
        report=_printer(name),
    )
    return trained.model


def make_ppo_lag(limit: float, folder: Path, steps: int | None) -> Any:
    """PPO-Lag from the ai model, with the learned reward and cost models, at one cost limit."""
    tokenizer = build_tokenizer()
    ai, reward, cost = (_needed(folder, name) for name in ("ai", "reward", "cost"))
    models = {name: load_score_model(path) for name, path in (("reward", reward), ("cost", cost))}

    def prompts(iteration: int) -> list[str]:
        return corpus.model_prompts(settings.batch, np.random.default_rng([6, iteration])).text()

    settings = PPOSettings(
        cost_limit=limit,
        iterations=steps or PPO_ITERATIONS,
        batch=512,
        minibatch=128,
        epochs=3,
        learning_rate=2e-3,
        multiplier_rate=0.5,
        multiplier_most=20.0,
        kl_coefficient=0.02,
    )
    training = PPOLag(
        load_language_model(ai),
        two_headed(models["reward"]),
        tokenizer,
        SYNTHETIC_TEMPLATE,
        prompts,
        scorer(models["reward"], tokenizer, SYNTHETIC_TEMPLATE, MAX_PROMPT, MAX_ANSWER),
        scorer(models["cost"], tokenizer, SYNTHETIC_TEMPLATE, MAX_PROMPT, MAX_ANSWER),
        settings,
        seed=7,
        max_prompt_tokens=MAX_PROMPT,
        max_answer_tokens=MAX_ANSWER,
    )
    name = f"ppo_lag_{limit:g}"

    def report(row: dict[str, float]) -> None:
        if (row["iteration"] + 1) % 20 == 0:
            print(name, " ".join(f"{key} {value:.4g}" for key, value in row.items()), flush=True)

    return training.train(folder / f"{name}.checkpoint", lambda it: progress(it, name), report)


def _needed(folder: Path, name: str) -> Path:
    if not (folder / name / "model.safetensors").exists():
        raise SafeframeError(f"{folder / name} is needed first: make {name}")
    return folder / name


def _printer(name: str) -> Callable[[int, float], None]:
    def report(step: int, loss: float) -> None:
        if step % 200 == 0:
            print(f"{name} step {step} loss {loss:.4f}", flush=True)

    return report


MAKERS: dict[str, Callable[[Path, int | None], Any]] = {
    "ai": make_ai,
    "classifier_base": make_classifier_base,
    "reward": make_reward,
    "cost": make_cost,
    **{f"ppo_lag_{limit:g}": functools.partial(make_ppo_lag, limit) for limit in PPO_LIMITS},
}


def main(arguments: list[str]) -> int:
    """Make the models named; 0 done, 2 wrong arguments."""
    pairs = dict(argument.split("=", 1) for argument in arguments if "=" in argument)
    names = [argument for argument in arguments if "=" not in argument]
    out, steps = Path(pairs.pop("out", REFERENCE)), pairs.pop("steps", None)
    if pairs or not names or not set(names) <= {*MAKERS, "all"}:
        print(f"wrong arguments; names: {', '.join(MAKERS)}, all; options: out=DIR steps=N", file=sys.stderr)
        return 2
    torch.set_num_threads(1)
    out.mkdir(parents=True, exist_ok=True)
    for name in MAKERS if names == ["all"] else names:
        if (out / name / "model.safetensors").exists():
            print(f"{out / name} is there already")
            continue
        try:
            model = MAKERS[name](out, None if steps is None else int(steps))
        except SafeframeError as error:
            print(f"{name}: {error}", file=sys.stderr)
            return 2
        save_pretrained(model, build_tokenizer(), out / name, torch.float16)
        (out / f"{name}.checkpoint").unlink(missing_ok=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
