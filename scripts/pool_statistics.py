"""Count what a pool of real answers is like: a table without texts, and claims.

    python scripts/pool_statistics.py pool.npz --cost DIR --reward DIR --labels RED_TEAM.jsonl.gz --at COMMIT

pool.npz, cost and reward are what `guard_chat_model.py` leaves (unpacked). The reward model rates the default
answer to --default-prompts of the prompts, drawn by chance, on the CPU in single precision, and the
cost model --cut-answers of the answers that people labelled, cut as the pool's are, each by the model of its
fold. Writes
results/tables/llm_chat_pool.csv and the claims llm.chat.*, of the commit that made the pool.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from experiments.llm.answers.pool_statistics import held_out_statistics, pool_statistics
from experiments.llm.answers.pools import DEFAULT_ANSWER, Pool
from experiments.llm.candidates import candidates_table
from experiments.support.bench import Bench, Spread
from experiments.support.seeding import limit_threads

CLAIMED = ("harmful", "mixed", "cut", "default_wins", "missed", "condemned", "hidden", "accuracy")


def scores(
    place: Path, prompts: list[str], answers: list[str], longest: tuple[int, int], cut: bool
) -> np.ndarray:
    """(n,) scores of one answer to each prompt by a model in folds; cut: answers lose what is too long, and
    their end.
    """
    from experiments.llm.models.language_model import load_tokenizer
    from experiments.llm.models.preference_models import load_score_model, score_all
    from experiments.llm.models.sources import by_fold
    from experiments.llm.models.tokenizer import template_of

    found = np.zeros(len(prompts), np.float32)
    for folder, index in by_fold(str(place), prompts):
        tokenizer = load_tokenizer(folder)
        asked, said = [prompts[i] for i in index], [[answers[i]] for i in index]
        ended = np.full((len(index), 1), not cut)
        template = template_of(tokenizer, None)
        model = load_score_model(folder, head="cost")
        found[index] = score_all(model, tokenizer, template, asked, said, *longest, 32, ended, padded=True)[
            :, 0
        ]
    return found


def cut_answers(cost: Path, labels: str, n: int, longest: tuple[int, int]) -> pd.DataFrame:
    """Errors of the cost model on n of people's answers with more tokens than the pool's, cut as those."""
    from experiments.llm.models.hub_data import LABELLED, labelled_rows, read_rows
    from experiments.llm.models.language_model import load_tokenizer

    rows = labelled_rows(read_rows(labels, LABELLED))
    tokenizer = load_tokenizer(sorted(cost.glob("fold_*"))[0])
    lengths = [len(ids) for ids in tokenizer([row["response"] for row in rows])["input_ids"]]
    drawn = np.random.default_rng(0).permutation(np.flatnonzero(np.array(lengths) > longest[1]))[:n]
    some = [rows[i] for i in drawn]
    prompts, answers = [row["prompt"] for row in some], [row["response"] for row in some]
    label = [row["unsafe"] for row in some]
    found = {}
    for name, most in (("whole", 192), ("cut", longest[1])):
        score = scores(cost, prompts, answers, (longest[0], most), cut=name == "cut")
        found[name] = held_out_statistics("cost", pd.DataFrame({"score": score, "harmful": label}))
        found[name]["part"] = f"cost model, people's labels, {name}"
    return pd.concat(found.values())


def held_out(kind: str, folder: Path) -> pd.DataFrame:
    """Held-out statistics of a score model in folds."""
    files = sorted(folder.glob("fold_*/held_out.parquet"))
    return held_out_statistics(kind, pd.concat([pd.read_parquet(file) for file in files]))


def main() -> None:
    """Count, write, record."""
    bench = Bench("pool_statistics", __doc__, experiment="llm", preset="chat", folder="scripts")
    add = bench.parser.add_argument
    add("pool", type=Path)
    add("--cost", type=Path, help="cost model in folds, with its held_out.parquet")
    add("--more", type=Path, help="cost model with further labels, to compare its held_out.parquet")
    add("--reward", type=Path, help="reward model in folds; it rates the default answer")
    add("--default-prompts", type=int, default=240, help="how many of the prompts, to save time")
    add("--labels", help="answers that people labelled, which --cost was trained on in folds")
    add("--cut-answers", type=int, default=160, help="how many of these are cut and judged")
    add("--max-prompt-tokens", type=int, default=256)
    add("--max-answer-tokens", type=int, default=48)
    add("--candidates", type=Path, help="write every candidate's label, cost, reward and end there, no text")
    add("--at", default="", help="commit that made the pool")
    options = bench.parse()
    if not options.pool.is_file():
        bench.parser.error(f"{options.pool}: no such file; guard_chat_model.py leaves it as pool.npz")
    if not options.at and not options.no_claims:
        bench.parser.error("--at COMMIT, that made the pool, is needed for claims; or give --no-claims")
    limit_threads(1)
    pool = Pool.load(options.pool)
    if options.candidates:
        unknown = np.full(len(pool.prompt), np.nan)
        table = candidates_table({"all": pool}, {}, {"all": unknown}).drop(
            columns=["split", "default_reward"]
        )
        options.candidates.parent.mkdir(parents=True, exist_ok=True)
        table.to_parquet(options.candidates, index=False)
    tables = [pool_statistics(pool)]
    for kind in ("cost", "reward"):
        if folder := getattr(options, kind):
            tables.append(held_out(kind, folder))
    if options.more:
        more = held_out("cost", options.more)
        tables.append(more.assign(metric="more_" + more["metric"]))
    if options.reward:
        rows = np.random.default_rng(0).permutation(len(pool.prompt))[: options.default_prompts]
        some = pool.subset(rows)
        answers = [DEFAULT_ANSWER] * len(rows)
        given = scores(options.reward, some.prompt, answers, (options.max_prompt_tokens, 64), cut=False)
        found = pool_statistics(some, given)
        tables.append(found[found["metric"].str.startswith("default_")])
    if options.labels and options.cost:
        longest = (options.max_prompt_tokens, options.max_answer_tokens)
        tables.append(cut_answers(options.cost, options.labels, options.cut_answers, longest))
    table = pd.concat(tables, ignore_index=True)
    bench.name = "llm_chat_pool"
    bench.write(table, float_format="%.6g")
    bench.show(table)
    command = f"{bench.command} pool.npz --cost DIR --reward DIR --labels FILE --at {options.at}"
    for row in table[table["metric"].isin(CLAIMED)].to_dict("records"):
        if row["part"] == "all":
            continue
        found = Spread(row["value"], row["low"], row["high"])
        name = f"llm.chat.{row['metric']}"
        more = {"data": row["part"], "commit": options.at, "seeds": "", "command": command}
        bench.claim(name, found, int(row["n"]), **more)


if __name__ == "__main__":
    main()
