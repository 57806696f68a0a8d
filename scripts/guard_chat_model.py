"""Guard a real chat model from labels to figures: score models, one pool of answers, runs of several seeds.

    python scripts/guard_chat_model.py --red-team PKU.jsonl.gz --everyday PROMPTS.jsonl.gz \\
        --comparisons PREFERENCES.jsonl.gz --more-labels labelled_train.json.gz --device cuda --out DIR

On one GPU it takes some minutes; the stages go in the order of their worth and leave what they made in --out
as soon as it is there, so that a machine that is taken away costs the running stage only:

1. scores: cost models from people's labels (with and without --more-labels; the better held-out AUC is taken)
   and reward models from comparisons, in folds of prompts, LoRA in all linear layers -> cost.tar, reward.tar
2. pool: candidates to a mixture of prompts, with rewards and labels -> pool.npz (texts: not to be published)
3. seeds: `run.py experiment=llm source=chat` for every seed, side by side -> candidates.parquet (labels,
   rewards, margins), runs.tar (results), classifiers.tar (of three seeds)
4. bench: `bench_llm.py` of OPT shapes -> bench.csv

The device tests run beside the first stage (--tests). log.json says what was done when. A stage that would
begin after --budget-seconds is left out, and what runs then is stopped.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
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
        f"lora_alpha={2 * o.rank}", f"folds={o.folds}", "max_prompt_tokens=160", "max_answer_tokens=192",
        "weight_decay=0.01", "checkpoint_every=100000", "unfinished=0.5", f"batch={o.batch}",
        f"micro={o.batch}",
    )  # fmt: skip
    kinds = {
        "cost": ("step=cost", f"data={o.red_team}", f"steps={o.cost_steps}", "learning_rate=4e-4"),
        "reward": ("step=reward", f"data={o.comparisons}", f"steps={o.reward_steps}", "learning_rate=3e-4"),
    }
    if o.more_labels:
        kinds["cost_more"] = (*kinds["cost"], f"more={o.more_labels}", f"steps={2 * o.cost_steps}")
    names = []
    for kind, arguments in kinds.items():
        for fold in range(o.folds):
            names.append(f"{kind}_{fold}")
            out = folder / kind / f"fold_{fold}"
            module = "experiments.llm.models.fine_tune"
            work.begin(names[-1], "-m", module, *common, *arguments, f"fold={fold}", f"out={out}")
    done = work.wait(names)
    counted: dict[str, list[dict]] = {}
    for kind in kinds:
        if all(done[f"{kind}_{fold}"] for fold in range(o.folds)):
            files = [folder / kind / f"fold_{fold}" / "held_out.json" for fold in range(o.folds)]
            counted[kind] = [json.loads(file.read_text(encoding="utf-8")) for file in files]
    work.note("held out", **counted)
    costs = [kind for kind in ("cost", "cost_more") if kind in counted]
    if not costs or "reward" not in counted:
        return None
    best = max(costs, key=lambda kind: sum(fold["auc"] for fold in counted[kind]))
    work.note(f"cost model: {best}")
    found = {"cost": folder / best, "reward": folder / "reward"}
    other = [file for kind in costs for file in sorted((folder / kind).rglob("held_out.*"))]
    for name, place in found.items():
        kept = [file for file in sorted(place.rglob("*")) if file.is_file()]
        work.pack(f"{name}.tar", folder, sorted({*kept, *(other if name == "cost" else [])}))
    return found


def seeds(work: Work, models: dict[str, Path]) -> None:
    """Runs side by side on one pool; what is there is collected, also when the budget ends."""
    import pandas as pd

    o, runs = work.options, work.work / "runs"
    settings = [
        "experiment=llm", "source=chat", "progress=false", "threads=1", f"output={runs}",
        f"models.prompts={o.everyday}+{o.red_team}", f"models.shares=[{o.shares}]",
        *(f"models.{name}={folder}" for name, folder in models.items()),
        f"models.device={o.device}", f"models.precision={o.precision}", f"models.batch={o.answers_at_once}",
        "models.top_k=50", "models.top_p=0.95", "models.shard=512", f"pools.candidates={o.candidates}",
        f"classifier.rank={o.rank}", f"classifier.alpha={2 * o.rank}", f"classifier.epochs={o.epochs}",
        "classifier.micro=128", "classifier.checkpoint_every=100000", "classifier.learning_rate=4e-4",
        "classifier.full_learning_rate=5e-5",
        "tailored.learning_rate=1e-4", *o.setting,
    ]  # fmt: skip
    for key in ("ai", "classifier"):
        if o.model != "smollm2-135m-instruct":
            settings.append(f"models.{key}={o.model}")
    for split in ("train", "internal_test", "validation"):
        settings.append(f"pools.{split}={o.prompts // 3}")
    pool = work.out / "pool.npz"

    def keep_pool() -> None:
        made = sorted((runs / "cache" / "pool_ai_all").glob("*/stage.json"))
        if made and not pool.exists():
            shutil.copy(made[0].parent / "value.npz", pool)
            work.note("pool", bytes=pool.stat().st_size)

    names = [f"seed_{seed}" for seed in o.seeds]
    for name, seed in zip(names, o.seeds, strict=True):
        work.begin(name, "run.py", *settings, f"seed={seed}")
    work.wait(names, reserve=25.0, each=keep_pool)
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
    for folder in small[:3]:
        halve(folder / "value.pt")
    files = [file for folder in small[:3] for file in sorted(folder.iterdir()) if file.is_file()]
    if files:
        work.pack("classifiers.tar", runs, files)


def halve(file: Path) -> None:
    """Write a classifier's trained weights again in half precision."""
    import torch

    weights = torch.load(file, weights_only=True, map_location="cpu")
    torch.save({name: value.half() for name, value in weights.items()}, file)


def main() -> int:
    """0 if everything was done."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--red-team", required=True, help="labelled answers: prompt, response, unsafe")
    add("--everyday", required=True, help="prompts")
    add("--comparisons", required=True, help="prompt, response_0, response_1, better_response_id")
    add("--more-labels", default="", help="further labelled answers, of other prompts")
    add("--out", required=True)
    add("--work", default="results/runs/guard_chat_model", help="models, caches and logs")
    add("--model", default="smollm2-135m-instruct")
    add("--device", default="cpu")
    add("--precision", default="bfloat16", choices=("float32", "bfloat16"))
    add("--seeds", type=int, nargs="+", default=[5, 6, 7, 8, 9])
    add("--prompts", type=int, default=2400, help="in all; a third of them to each split")
    add("--shares", default="1,2", help="of everyday and red-team prompts")
    add("--candidates", type=int, default=16)
    add("--answers-at-once", type=int, default=2048)
    add("--rank", type=int, default=8)
    add("--folds", type=int, default=2)
    add("--batch", type=int, default=32)
    add("--cost-steps", type=int, default=300)
    add("--reward-steps", type=int, default=200)
    add("--epochs", type=float, default=1.5)
    add("--at-once", type=int, default=64, help="commands that run side by side")
    add("--setting", nargs="*", default=[], help="further settings of the runs (key=value)")
    add("--tests", action="store_true", help="run the device tests")
    add("--bench", default=None, help="arguments of bench_llm.py, in one text; it runs last")
    add("--budget-seconds", type=float, default=1e9)
    work = Work(parser.parse_args())
    o = work.options
    sys.path.insert(0, str(ROOT))
    from experiments.llm.models.sources import model_folder

    work.note("model", folder=model_folder(o.model))
    if o.tests:
        plain = ("-c", os.devnull, "--rootdir", ".", "-o", f"pythonpath={ROOT} {ROOT / 'tests' / 'helpers'}")
        work.begin("tests", "-m", "pytest", "-q", "--import-mode=importlib", *plain, *TESTS)
    models = scores(work)
    if o.tests:
        work.wait(["tests"], reserve=max(0.0, work.left - 30))
    if models is not None and work.left > 60:
        seeds(work, models)
    if o.bench is not None and work.left > 20:
        work.begin(
            "bench",
            "scripts/bench_llm.py",
            *shlex.split(o.bench),
            "--no-claims",
            "--table",
            str(work.out / "bench.csv"),
        )
        work.wait(["bench"], reserve=2.0)
    work.note("end")
    return 0 if models is not None else 1


if __name__ == "__main__":
    sys.exit(main())
