"""Guard a real chat model from labels to figures: score models, one pool of answers, runs of several seeds.

    python scripts/guard_chat_model.py --red-team PKU.jsonl.gz --everyday PROMPTS.jsonl.gz \\
        --comparisons PREFERENCES.jsonl.gz --more-labels labelled_train.json.gz --device cuda --out DIR

On one GPU it takes some minutes; the stages go in the order of their worth and leave what they made in --out
as soon as it is there, so that a machine that is taken away costs the running stage only:

1. scores: cost models from people's labels (with and without --more-labels; the better held-out AUC is taken;
   --harmless answers of the comparisons, to everyday prompts, join them as harmless ones) and reward models
   from comparisons, in folds of prompts, LoRA in all linear layers -> cost.tar, reward.tar
2. pool: candidates to a mixture of prompts, with rewards and labels -> pool.npz (texts: not to be published)
3. seeds: `run.py experiment=llm source=chat` for every seed, side by side -> candidates.parquet (labels,
   rewards, margins), runs.tar (results), classifiers.tar (of --keep seeds)
4. bench: `bench_llm.py` of OPT shapes -> bench.csv

With --pool the first two stages are left out: the seeds share a pool that is there, and the model is their
classifier (--default-reward: the reward of the default answer; results/tables/llm_chat_pool.csv has that of
the committed pool).

The device tests run beside the first stage (--tests). log.json says what was done when. A stage that would
begin after --budget-seconds is left out, and what runs then is stopped. Called again with the same --work it
goes on: what is there is not made again.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shlex
import shutil
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
TEMPLATE = (
    "'<|im_start|>system\\nAnswer in one short sentence.<|im_end|>\\n<|im_start|>user\\n{prompt}<|im_end|>\\n"
    "<|im_start|>assistant\\n'"
)
"""SmolLM2's own, with an instruction after which most answers end within 128 tokens."""
TESTS = ("tests/safeframe/guard/test_device.py", "tests/experiments/llm/models/test_device.py")


class Work:
    """The stages, a clock and the log."""

    def __init__(self, options: argparse.Namespace):
        self.options, self.start = options, time.monotonic()
        self.out, self.work = Path(options.out).resolve(), Path(options.work).resolve()
        self.out.mkdir(parents=True, exist_ok=True)
        (self.work / "logs").mkdir(parents=True, exist_ok=True)
        self.log: dict[str, Any] = {"options": vars(options), "events": []}
        self.running: dict[str, subprocess.Popen] = {}

    @property
    def left(self) -> float:
        """Seconds of the budget."""
        return self.options.budget_seconds - (time.monotonic() - self.start)

    def note(self, event: str, **more: Any) -> None:
        """Print and keep what happened, with the time since the start."""
        row = {"seconds": round(time.monotonic() - self.start, 1), "event": event, **more}
        print(json.dumps(row), flush=True)
        self.log["events"].append(row)
        (self.out / "log.json").write_text(json.dumps(self.log, indent=1) + "\n", encoding="utf-8")

    def begin(self, name: str, *command: str) -> None:
        """Start a command; its output goes to a log."""
        environment = {
            "OMP_NUM_THREADS": "2", "TOKENIZERS_PARALLELISM": "false",
            "PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True",
        } | os.environ  # fmt: skip
        while sum(job.poll() is None for job in self.running.values()) >= self.options.at_once:
            time.sleep(0.2)
        with open(self.work / "logs" / f"{name}.log", "w", encoding="utf-8") as log:
            self.running[name] = subprocess.Popen(
                [sys.executable, *command], cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT
            )

    def wait(self, names: list[str], reserve: float = 0.0, each: Any = None) -> dict[str, bool]:
        """Wait for commands until `reserve` seconds of the budget are left, then stop them; who succeeded."""
        done: dict[str, bool] = {}
        while len(done) < len(names) and self.left > reserve:
            for name in names:
                code = self.running[name].poll()
                if name not in done and code is not None:
                    done[name] = code == 0
                    tail = (self.work / "logs" / f"{name}.log").read_text(encoding="utf-8")[-1500:]
                    self.note(name, code=code, tail=tail if code else tail[-300:])
            if each:
                each()
            time.sleep(0.5)
        for name in names:
            if name not in done:
                self.running[name].kill()
                tail = (self.work / "logs" / f"{name}.log").read_text(encoding="utf-8")[-600:]
                self.note(f"{name} stopped: the budget is used", tail=tail)
                done[name] = False
        return done

    def pack(self, name: str, folder: Path, files: list[Path]) -> None:
        """A tar of files, by their paths in a folder."""
        with tarfile.open(self.out / f".{name}", "w") as archive:
            for file in files:
                archive.add(file, arcname=str(file.relative_to(folder)))
        os.replace(self.out / f".{name}", self.out / name)
        self.note(f"packed {name}", bytes=(self.out / name).stat().st_size)


def scores(work: Work) -> dict[str, Path] | None:
    """Cost and reward models in folds; the folders of both."""
    o, folder = work.options, work.work / "models"
    common = (
        f"model={o.model}", f"device={o.device}", f"precision={o.precision}", f"lora_rank={o.rank}",
        f"lora_alpha={2 * o.rank}", "max_prompt_tokens=160", "max_answer_tokens=192",
        "weight_decay=0.01", "checkpoint_every=100000", "unfinished=0.5", f"batch={o.batch}",
        f"micro={o.batch}", "alike=8",
    )  # fmt: skip
    more = [str(harmless(work))] if o.harmless else []
    cost = ("step=cost", f"data={o.red_team}", "learning_rate=4e-4")
    kinds = {
        "cost": (*cost, f"steps={o.cost_steps}", *(f"more={file}" for file in more)),
        "reward": ("step=reward", f"data={o.comparisons}", f"steps={o.reward_steps}", "learning_rate=3e-4"),
    }
    folds = {"cost": o.folds, "reward": o.reward_folds}
    if o.more_labels:
        every = "+".join([*more, o.more_labels])
        kinds["cost_more"] = (*cost, f"more={every}", f"steps={o.more_steps or 2 * o.cost_steps}")
        folds["cost_more"] = o.folds
    names = []
    for kind, arguments in kinds.items():
        arguments = (*arguments, f"folds={folds[kind]}")
        for fold in range(o.more_folds or folds[kind] if kind == "cost_more" else folds[kind]):
            names.append(f"{kind}_{fold}")
            out = folder / kind / f"fold_{fold}"
            module = "experiments.llm.models.fine_tune"
            work.begin(names[-1], "-m", module, *common, *arguments, f"fold={fold}", f"out={out}")
    done = work.wait(names)
    counted: dict[str, list[dict]] = {}
    for kind in kinds:
        files = [folder / kind / f"fold_{fold}" / "held_out.json" for fold in range(folds[kind])]
        counted[kind] = [json.loads(file.read_text(encoding="utf-8")) for file in files if file.exists()]
    work.note("held out", done=done, **counted)
    whole = {kind for kind in kinds if len(counted[kind]) == folds[kind]}
    costs = [kind for kind in ("cost", "cost_more") if kind in whole]
    if not costs or "reward" not in whole:
        return None
    best = max(costs, key=lambda kind: sum(fold["auc"] for fold in counted[kind]))
    work.note(f"cost model: {best}")
    found = {"cost": folder / best, "reward": folder / "reward"}
    other = [file for kind in kinds for file in sorted((folder / kind).rglob("held_out.*"))]
    for name, place in found.items():
        kept = [file for file in sorted(place.rglob("*")) if file.is_file()]
        work.pack(f"{name}.tar", folder, sorted({*kept, *(other if name == "cost" else [])}))
    return found


def harmless(work: Work) -> Path:
    """Answers to everyday prompts, drawn from the comparisons, as rows that a cost model reads."""
    from experiments.llm.models.hub_data import PREFERRED, read_rows

    rows = read_rows(work.options.comparisons, PREFERRED)
    found = sorted({(row["prompt"], row[f"response_{k}"]) for row in rows for k in (0, 1)})
    found = [pair for pair in found if pair[1].strip()]
    chosen = random.Random(0).sample(found, min(work.options.harmless, len(found)))
    file = work.work / "harmless.jsonl"
    lines = [json.dumps({"prompt": said, "response": answer, "unsafe": 0}) for said, answer in chosen]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


def seeds(work: Work, models: dict[str, Path]) -> bool:
    """Runs side by side on one pool; what is there is collected, also when the budget ends. Whether all were
    finished.
    """
    import pandas as pd

    o, runs = work.options, work.work / "runs"
    answers = (
        [f"prepared.pool={o.pool}", f"models.default_reward={o.default_reward}"]
        if o.pool
        else [f"models.prompts={o.everyday}+{o.red_team}", f"models.shares=[{o.shares}]"]
    )
    settings = [
        "experiment=llm", "source=chat", "progress=false", "threads=1", f"output={runs}", *answers,
        *(f"models.{name}={folder}" for name, folder in models.items()),
        f"models.device={o.device}", f"models.precision={o.precision}", f"models.batch={o.answers_at_once}",
        "models.top_k=50", "models.top_p=0.95", "models.shard=512", f"pools.candidates={o.candidates}",
        f"classifier.rank={o.rank}", f"classifier.alpha={2 * o.rank}", f"classifier.epochs={o.epochs}",
        "classifier.checkpoint_every=100000", "classifier.learning_rate=4e-4",
        "classifier.full_learning_rate=5e-5", "tailored.learning_rate=1e-4", "rules.scale=logistic",
        "models.max_prompt_tokens=160", f"models.max_answer_tokens={o.answer_tokens}",
        f"models.template={o.template}",
    ]  # fmt: skip
    for key in ("ai", "classifier"):
        if o.model != "smollm2-135m-instruct":
            settings.append(f"models.{key}={o.model}")
    for split, count in zip(("train", "internal_test", "validation"), o.prompts, strict=True):
        settings.append(f"pools.{split}={count}")
    settings += o.setting  # the last one holds
    pool = work.out / "pool.npz"

    def keep_pool() -> None:
        made = sorted((runs / "cache" / "pool_ai_all").glob("*/stage.json"))
        if made and not pool.exists():
            shutil.copy(made[0].parent / "value.npz", pool)
            work.note("pool", bytes=pool.stat().st_size)

    names = [f"seed_{seed}" for seed in o.seeds]
    for name, seed in zip(names, o.seeds, strict=True):
        work.begin(name, "run.py", *settings, f"seed={seed}")
    done = work.wait(names, reserve=25.0, each=keep_pool)
    keep_pool()
    tables = []
    for file in sorted((runs / "llm").glob("*/candidates.parquet")):
        seed = next(
            line.split(":")[1].strip()
            for line in (file.parent / "config.yaml").read_text(encoding="utf-8").splitlines()
            if line.startswith("seed:")
        )
        tables.append(pd.read_parquet(file).assign(seed=int(seed)))
    if tables:
        pd.concat(tables, ignore_index=True).to_parquet(work.out / "candidates.parquet", index=False)
        work.note("candidates", seeds=len(tables))
    kinds = ("results.parquet", "blocks.parquet", "manifest.json", "config.yaml", "error.txt")
    files = [file for kind in kinds for file in sorted((runs / "llm").glob(f"*/{kind}"))]
    files += sorted((runs / "cache" / "margins").glob("*/*"))
    work.pack("runs.tar", runs, files)
    small = [
        file.parent
        for name in ("tailored", "cross_entropy")
        for file in sorted((runs / "cache" / name).glob("*/stage.json"))
    ]
    for folder in small[: o.keep]:
        halve(folder / "value.pt")
    files = [file for folder in small[: o.keep] for file in sorted(folder.iterdir()) if file.is_file()]
    if files:
        work.pack("classifiers.tar", runs, files)
    return all(done.values())


def halve(file: Path) -> None:
    """Write a classifier's trained weights again in half precision."""
    import torch

    weights = torch.load(file, weights_only=True, map_location="cpu")
    torch.save({name: value.half() for name, value in weights.items()}, file)


def main() -> int:
    """0 if every seed was finished."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--red-team", help="labelled answers: prompt, response, unsafe")
    add("--everyday", help="prompts")
    add("--comparisons", help="prompt, response_0, response_1, better_response_id")
    add("--pool", default="", help="a pool that is there, pool.npz: only the runs of the seeds are done")
    add("--default-reward", type=float, help="of the default answer, with --pool")
    add("--more-labels", default="", help="further labelled answers, of other prompts")
    add("--out", required=True)
    add(
        "--work",
        default="results/runs/guard_chat_model",
        help="models, caches, logs and runs of one set of settings",
    )
    add("--model", default="smollm2-135m-instruct")
    add("--device", default="cpu")
    add("--precision", default="bfloat16", choices=("float32", "bfloat16"))
    add("--seeds", type=int, nargs="+", default=[5, 6, 7, 8, 9])
    add(
        "--prompts",
        type=int,
        nargs=3,
        default=[800, 1200, 1000],
        help="for training, calibration, validation",
    )
    add("--shares", default="1,2.75", help="of everyday and red-team prompts")
    add("--template", default=TEMPLATE, help="text around a prompt, for the model behind the guard")
    add("--answer-tokens", type=int, default=128)
    add("--candidates", type=int, default=16)
    add("--answers-at-once", type=int, default=2048)
    add("--rank", type=int, default=8)
    add("--folds", type=int, default=3, help="of the cost model")
    add("--reward-folds", type=int, default=2)
    add("--harmless", type=int, default=2500, help="answers of the comparisons that count as harmless")
    add("--batch", type=int, default=32)
    add("--cost-steps", type=int, default=400)
    add("--more-folds", type=int, default=0, help="trained with --more-labels, to compare; 0: all")
    add("--more-steps", type=int, default=0, help="with --more-labels; 0: twice as many")
    add("--reward-steps", type=int, default=200)
    add("--epochs", type=float, default=1.0)
    add("--keep", type=int, default=1, help="seeds whose classifiers are kept")
    add("--at-once", type=int, default=64, help="commands that run side by side")
    add("--setting", nargs="*", default=[], help="further settings of the runs (key=value)")
    add("--tests", action="store_true", help="run the device tests")
    add("--bench", default=None, help="arguments of bench_llm.py, in one text; it runs last")
    add("--budget-seconds", type=float, default=1e9)
    o = parser.parse_args()
    if o.pool and not Path(o.pool).is_file():
        parser.error(f"--pool {o.pool}: no such file")
    if o.pool and o.default_reward is None:
        parser.error("--pool needs --default-reward: no model rates the default answer")
    if not o.pool and not (o.red_team and o.everyday and o.comparisons):
        parser.error("--red-team, --everyday and --comparisons are needed, or --pool")
    for name in ("red_team", "everyday", "comparisons", "more_labels", "pool", "model"):
        typed = getattr(o, name)
        if typed and Path(typed).exists():  # the stages run in the repository's folder
            setattr(o, name, str(Path(typed).resolve()))
    work = Work(o)
    sys.path.insert(0, str(ROOT))
    from experiments.llm.models.sources import model_folder

    work.note("model", folder=model_folder(o.model))
    if o.tests:
        plain = ("-c", os.devnull, "--rootdir", ".", "-o", f"pythonpath={ROOT} {ROOT / 'tests' / 'helpers'}")
        work.begin("tests", "-m", "pytest", "-q", "--import-mode=importlib", *plain, *TESTS)
    models = {} if o.pool else scores(work)
    if o.tests:
        work.wait(["tests"], reserve=max(0.0, work.left - 30))
    finished = models is not None and work.left > 60 and seeds(work, models)
    if o.bench is not None and work.left > 20:
        work.begin(
            "bench",
            "benchmarks/bench_llm.py",
            *shlex.split(o.bench),
            "--no-claims",
            "--table",
            str(work.out / "bench.csv"),
        )
        work.wait(["bench"], reserve=2.0)
    work.note("end")
    return 0 if finished else 1


if __name__ == "__main__":
    sys.exit(main())
