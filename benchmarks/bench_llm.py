"""Measure language models: candidates a second of generation, scoring and classification, and memory.

    python benchmarks/bench_llm.py                     # the models that come with the repository, on one core
    python benchmarks/bench_llm.py --shapes opt-1.3b   # OPT-1.3B and OPT-350M, random weights, bf16, on a GPU
    python benchmarks/bench_llm.py --shapes opt-1.3b --batch 256 --prompts 64 --device cuda
    python benchmarks/bench_llm.py --shapes smollm2-135m --dtype bfloat16 --batch 128 --prompts 8

generation: 16 answers to each prompt, sampled with the key/value cache. scoring: by a reward model of the
shape of the AI model, or the one that comes with the repository. classification: margins of the
classification model, texts as token rows. training: steps of the classification model with LoRA and gradient
checkpointing. "over kept states": the same of the uppermost quarter of its layers, what those below put out
being kept (`frozen.layers`). Time is that of the process on a CPU (other work on the machine disturbs less),
of the wall on a GPU; memory is the peak of what torch allocated on a GPU, of the process on a CPU. Random
weights never end an answer, so those have all their tokens. Writes results/tables/bench_llm.csv (--shapes:
bench_llm_SHAPES.csv) and, without --shapes, the claims llm.generation_per_s, llm.scoring_per_s and
llm.classification_per_s.

A machine with a GPU may hold a copy of the code without its history, so what it measured is recorded where
the history is:

    python benchmarks/bench_llm.py --shapes opt-1.3b --measured TABLE.csv --at COMMIT

writes results/tables/bench_llm_gpu.csv and the claims llm.gpu.generation_per_s, llm.gpu.scoring_per_s,
llm.gpu.classification_per_s and llm.gpu.training_per_s, of that commit.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, AutoModelForSequenceClassification

from experiments.llm.capacity import Capacity
from experiments.llm.config import ClassifierConfig
from experiments.llm.guard.classifier import decoder_classifier
from experiments.llm.guard.frozen import UpperClassifier, layers_of, split
from experiments.llm.models.conversations import join
from experiments.llm.models.generation.sampling import Sampling, generate, texts_of
from experiments.llm.models.language_model import load_language_model, memory_guard
from experiments.llm.models.model_settings import REFERENCE
from experiments.llm.models.preference_models import load_score_model, score_all
from experiments.llm.models.tokenizer import (
    SYNTHETIC_TEMPLATE,
    Encoded,
    encode_answers,
    encode_prompts,
    padded,
)
from experiments.llm.world import grammar
from experiments.llm.world.vocabulary import build_tokenizer
from experiments.support.bench import Bench, Spread, spread, timed
from safeframe.types import SafeframeError

K = 16
OPT = {"vocab_size": 50272, "max_position_embeddings": 2048}
SMOLLM = {"model_type": "llama", "vocab_size": 49152, "hidden_size": 576, "intermediate_size": 1536,
          "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3,
          "max_position_embeddings": 8192, "tie_word_embeddings": True}  # fmt: skip
# Zhang et al. 2022, table 1; OPT-350M normalises after each block and embeds in 512. Allal et al. 2025,
# arXiv 2502.02737: SmolLM2-135M
SHAPES: dict[str, dict[str, dict[str, Any]]] = {
    "opt-1.3b": {
        "generator": OPT | {"hidden_size": 2048, "word_embed_proj_dim": 2048, "num_hidden_layers": 24,
                            "num_attention_heads": 32, "ffn_dim": 8192},
        "classifier": OPT | {"hidden_size": 1024, "word_embed_proj_dim": 512, "num_hidden_layers": 24,
                             "num_attention_heads": 16, "ffn_dim": 4096, "do_layer_norm_before": False},
    },
    "smollm2-135m": {"generator": SMOLLM, "classifier": SMOLLM},
    "tiny": {
        "generator": {"vocab_size": 200, "hidden_size": 16, "word_embed_proj_dim": 16, "num_hidden_layers": 2,
                      "num_attention_heads": 2, "ffn_dim": 32, "max_position_embeddings": 2048},
        "classifier": {"vocab_size": 200, "hidden_size": 16, "word_embed_proj_dim": 8, "num_hidden_layers": 2,
                       "num_attention_heads": 2, "ffn_dim": 32, "max_position_embeddings": 2048,
                       "do_layer_norm_before": False},
    },
}  # fmt: skip


class Clock:
    """Seconds and memory of one measurement."""

    def __init__(self, device: str):
        self.cuda = device.startswith("cuda")

    def __call__(self, work: Callable[[], Any]) -> tuple[float, float]:
        """(seconds, peak memory in MiB) of work()."""
        if self.cuda:
            torch.cuda.reset_peak_memory_stats()
            torch.cuda.synchronize()
            seconds, _ = timed(lambda: (work(), torch.cuda.synchronize()), time.perf_counter)
            return seconds, torch.cuda.max_memory_allocated() / 2**20
        seconds, _ = timed(work)
        return seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def measured(
    what: str, candidates: int, clock: Clock, repeats: int, work: Callable[[], Any]
) -> dict[str, Any]:
    """A row: candidates a second, median and extremes over the repeats."""
    work()  # compiles and warms up
    found = [clock(work) for _ in range(repeats)]
    rate = spread([candidates / max(seconds, 1e-9) for seconds, _ in found])
    return {
        "what": what, "candidates_per_s": rate.value, "low": rate.low, "high": rate.high,
        "repeats": repeats, "candidates": candidates, "memory_mib": max(memory for _, memory in found),
    }  # fmt: skip


def shipped(prompts: int, batch: int, repeats: int) -> list[dict[str, Any]]:
    """Rows of the models that come with the repository."""
    tokenizer, clock = build_tokenizer(), Clock("cpu")
    texts = grammar.draw_prompts("validation", prompts, np.random.default_rng(0)).text()
    encoded = encode_prompts(tokenizer, SYNTHETIC_TEMPLATE, texts, 40)
    ai, reward = load_language_model(REFERENCE / "ai"), load_score_model(REFERENCE / "reward")
    name = str(REFERENCE / "classifier_base")
    classifier = AutoModelForSequenceClassification.from_pretrained(name, num_labels=2).eval()
    sampling = Sampling(K, grammar.MAX_ANSWER, batch=batch)
    answers = texts_of(tokenizer, generate(ai, tokenizer, encoded, sampling, 0).tokens)
    flat = encode_answers(tokenizer, [text for row in answers for text in row], grammar.MAX_ANSWER)
    rows = join(Encoded(np.repeat(encoded.ids, K, 0), np.repeat(encoded.mask, K, 0), 0), flat)

    def classify() -> None:
        with torch.inference_mode():
            for start in range(0, len(rows), batch):
                part = rows[slice(start, start + batch)]
                hidden = classifier.model(**part.arguments()).last_hidden_state
                classifier.score(hidden[torch.arange(len(part)), part.last])

    n = prompts * K
    score = lambda: score_all(reward, tokenizer, SYNTHETIC_TEMPLATE, texts, answers, 40, 25, batch)  # noqa: E731
    return [
        measured("generation", n, clock, repeats, lambda: generate(ai, tokenizer, encoded, sampling, 0)),
        measured("scoring, texts read", n, clock, repeats, score),
        measured("classification", n, clock, repeats, classify),
    ]


def random_weights(
    shapes: str,
    prompts: int,
    batch: int,
    repeats: int,
    device: str,
    dtype: torch.dtype,
    lengths: tuple[int, int],
) -> list[dict[str, Any]]:
    """Rows of random models of given shapes."""
    from peft import LoraConfig, TaskType, get_peft_model

    clock, rng = Clock(device), np.random.default_rng(0)
    special = {"pad_token_id": 1, "bos_token_id": 2, "eos_token_id": 2}
    given = {name: _configuration(shape | special) for name, shape in SHAPES[shapes].items()}
    vocabulary = given["generator"].vocab_size
    ids = [rng.integers(4, vocabulary, size=lengths[0]).tolist() for _ in range(prompts)]
    encoded = padded(ids, 1, left=True)
    whole = torch.from_numpy(rng.integers(4, vocabulary, size=(batch, sum(lengths)))).to(device)

    endless = SimpleNamespace(pad_token_id=1, eos_token_id=-1)

    def sample(model: Any, prompts: Encoded, sampling: Sampling) -> None:
        generate(model, endless, prompts, sampling, 0)

    advice = f"lower --batch (now {batch}) or --answer-tokens (now {lengths[1]})"
    with memory_guard(f"{shapes} on {device}", advice):
        generator = AutoModelForCausalLM.from_config(given["generator"]).to(device, dtype).eval()
        generator.generation_config.eos_token_id = None  # no token ends an answer
        sampling = Sampling(K, lengths[1], batch=batch)
        weights = [generator.num_parameters()]
        made = [
            measured(
                "generation", prompts * K, clock, repeats, lambda m=generator: sample(m, encoded, sampling)
            )
        ]
        made[0]["tokens_per_s"] = made[0]["candidates_per_s"] * lengths[1]
        del generator
        scores = _judging(given["generator"], 1).to(device, dtype).eval()
        weights.append(scores.num_parameters())
        made.append(measured("scoring", batch, clock, repeats, lambda m=scores: _forward(m, whole)))
        del scores
        model = _judging(given["classifier"], 2).to(device, dtype).eval()
        weights.append(model.num_parameters())
        made.append(measured("classification", batch, clock, repeats, lambda: _forward(model, whole)))
        upper, states, mask = _over_states(model, whole)
        weights.append(sum(p.numel() for p in upper.parameters()))
        made.append(
            measured(
                "classification over kept states", batch, clock, repeats, lambda: _read(upper, states, mask)
            )
        )
        model.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
        opt = ["q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"]
        targets = opt if model.config.model_type == "opt" else "all-linear"
        lora = get_peft_model(
            model, LoraConfig(r=8, target_modules=targets, task_type=TaskType.SEQ_CLS)
        ).train()
        trained = [p for p in lora.parameters() if p.requires_grad]
        weights.append(sum(p.numel() for p in trained))
        optimiser = torch.optim.AdamW(trained, 1e-4)
        label = torch.zeros(batch, dtype=torch.long, device=device)

        def step() -> None:
            lora(input_ids=whole, labels=label, use_cache=False).loss.backward()
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)

        made.append(measured("training, LoRA", batch, clock, repeats, step))
        weights.append(sum(p.numel() for p in upper.parameters() if p.requires_grad))
        further = torch.optim.AdamW([p for p in upper.parameters() if p.requires_grad], 1e-4)

        def upper_step() -> None:
            upper.train()(states, mask).square().sum().backward()
            further.step()
            further.zero_grad(set_to_none=True)

        made.append(measured("training, LoRA over kept states", batch, clock, repeats, upper_step))
    return [row | {"weights": count} for row, count in zip(made, weights, strict=True)]


def _configuration(shape: dict[str, Any]) -> Any:
    kind = shape.get("model_type", "opt")
    return CONFIG_MAPPING[kind](**{key: value for key, value in shape.items() if key != "model_type"})


def _judging(config: Any, n: int) -> Any:
    """A sequence classifier with n outputs."""
    given = {k: v for k, v in config.to_dict().items() if k not in ("id2label", "label2id")}
    return AutoModelForSequenceClassification.from_config(_configuration(given | {"num_labels": n}))


def _over_states(model: Any, ids: torch.Tensor) -> tuple[Any, torch.Tensor, torch.Tensor]:
    """A classifier of the uppermost quarter of a model's layers, and random states and mask for it."""
    _, base = split(model, max(1, len(layers_of(model)) // 4))
    precision = "bfloat16" if model.dtype == torch.bfloat16 else "float32"
    settings = ClassifierConfig(rank=8)
    upper = decoder_classifier(
        base, settings, Capacity("lora", 8), 0, precision, len(ids), UpperClassifier, False
    )
    states = torch.randn((*ids.shape, model.config.hidden_size), device=ids.device)
    return upper, states, torch.ones(ids.shape, dtype=torch.bool, device=ids.device)


@torch.inference_mode()
def _read(upper: Any, states: torch.Tensor, mask: torch.Tensor) -> None:
    upper.eval()(states, mask)


@torch.inference_mode()
def _forward(model: Any, ids: torch.Tensor) -> None:
    model(input_ids=ids)


def record_measured(bench: Bench, shapes: str, file: Path, commit: str) -> None:
    """The table and claims of a measurement on another machine; ends the process where it is none."""
    frame = pd.read_csv(file)
    wanted = {"what", "candidates_per_s", "low", "high", "repeats", "candidates", "dtype", "device"}
    if missing := wanted - set(frame.columns):
        bench.parser.error(f"--measured {file}: it lacks {', '.join(sorted(missing))}: --shapes writes them")
    bench.name = "bench_llm_gpu"
    rows = frame.set_index("what")
    command = (
        f"{bench.command} --shapes {shapes} --device cuda --repeats {rows.repeats.iloc[0]}"
        f" --batch {rows.candidates['scoring']} --prompts {rows.candidates['generation'] // K}"
    )
    for row in frame[~frame["what"].str.contains("kept")].to_dict("records"):
        rate = Spread(row["candidates_per_s"], row["low"], row["high"])
        data = f"random weights, {row['dtype']}, {row['device']}"
        name = f"llm.gpu.{row['what'].split(',')[0]}_per_s"
        bench.claim(name, rate, row["repeats"], data=data, commit=commit, command=command)
    bench.write(frame)
    bench.show(frame)


def main() -> None:
    bench = Bench("bench_llm", __doc__, experiment="llm", data="synthetic, one core")
    parser = bench.parser
    parser.add_argument("--shapes", choices=list(SHAPES), help="random models of these shapes instead")
    parser.add_argument("--prompts", type=int, default=256)
    parser.add_argument(
        "--batch", type=int, default=None, help="candidates at once (2048; with --shapes 256)"
    )
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", choices=["bfloat16", "float32"], default=None)
    parser.add_argument("--prompt-tokens", type=int, default=64, help="with --shapes")
    parser.add_argument("--answer-tokens", type=int, default=128, help="with --shapes")
    parser.add_argument("--measured", type=Path, help="record this table, measured with --shapes on a GPU")
    parser.add_argument("--at", default="", help="commit that measured it")
    options = bench.parse()
    if options.measured:
        if not (options.shapes and options.at and options.measured.is_file()):
            parser.error("--measured needs a table, --shapes and --at: the shapes and commit that it is of")
        record_measured(bench, options.shapes, options.measured, options.at)
        return
    if not options.shapes:  # random weights make no claims
        bench.require_commit()
    torch.set_num_threads(1)
    options.batch = options.batch or (256 if options.shapes else 2048)
    device = options.device
    if device == "auto":
        device = "cuda" if options.shapes and torch.cuda.is_available() else "cpu"
    if device.startswith("cuda") and not torch.cuda.is_available():
        parser.error(f"--device {device}: torch sees no GPU here")
    try:
        if options.shapes:
            dtype = options.dtype or ("bfloat16" if device.startswith("cuda") else "float32")
            lengths = (options.prompt_tokens, options.answer_tokens)
            rows = random_weights(
                options.shapes,
                options.prompts,
                options.batch,
                options.repeats,
                device,
                getattr(torch, dtype),
                lengths,
            )
            hardware = torch.cuda.get_device_name() if device.startswith("cuda") else "one CPU core"
            rows = [
                row | {"dtype": dtype, "tokens": "+".join(map(str, lengths)), "device": hardware}
                for row in rows
            ]
        else:
            rows = shipped(options.prompts, options.batch, options.repeats)
    except SafeframeError as error:
        raise SystemExit(f"error: {error}") from error
    frame = pd.DataFrame(rows)
    if options.shapes:
        bench.name = f"bench_llm_{options.shapes}"
    bench.write(frame)
    bench.show(frame)
    for row in () if options.shapes else rows:
        rate = Spread(row["candidates_per_s"], row["low"], row["high"])
        bench.claim(f"llm.{row['what'].split(',')[0]}_per_s", rate, options.repeats)


if __name__ == "__main__":
    main()
