"""Count what a pool of real answers is like: a table without texts, and claims.

    python scripts/pool_statistics.py pool.npz --cost DIR --reward DIR --at COMMIT

pool.npz, cost and reward are what `guard_chat_model.py` leaves (unpacked). The reward model rates the default
answer to --default-prompts of the prompts, drawn by chance, on the CPU in single precision. Writes
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
from experiments.support.bench import Bench, Spread
from experiments.support.seeding import limit_threads

CLAIMED = ("harmful", "mixed", "cut", "default_wins", "missed", "condemned", "hidden", "accuracy")


def default_rewards(prompts: list[str], reward: Path, longest: int) -> np.ndarray:
    """(n,) reward of the default answer, each prompt by the model of its fold."""
    from experiments.llm.models.hub_data import by_fold
    from experiments.llm.models.language_model import load_tokenizer
    from experiments.llm.models.preference_models import load_score_model, scorer
    from experiments.llm.models.tokenizer import template_of

    found = np.zeros(len(prompts), np.float32)
    for place, index in by_fold(str(reward), prompts):
        tokenizer = load_tokenizer(place)
        template = template_of(tokenizer, None)
        score = scorer(load_score_model(place), tokenizer, template, longest, 64, batch=32, padded=True)
        found[index] = score([prompts[i] for i in index], [DEFAULT_ANSWER] * len(index))
    return found


def held_out(kind: str, folder: Path) -> pd.DataFrame:
    """Held-out statistics of a score model in folds."""
    files = sorted(folder.glob("fold_*/held_out.parquet"))
    return held_out_statistics(kind, pd.concat([pd.read_parquet(file) for file in files]))


def main() -> None:
    """Count, write, record."""
    bench = Bench("pool_statistics", __doc__, experiment="llm", preset="chat")
    add = bench.parser.add_argument
    add("pool", type=Path)
    add("--cost", type=Path, help="cost model in folds, with its held_out.parquet")
    add("--reward", type=Path, help="reward model in folds; it rates the default answer")
    add("--default-prompts", type=int, default=10**9, help="how many of the prompts, to save time")
    add("--max-prompt-tokens", type=int, default=256)
    add("--at", default="", help="commit that made the pool")
    options = bench.parse()
    if not options.pool.is_file():
        bench.parser.error(f"{options.pool}: no such file; guard_chat_model.py leaves it as pool.npz")
    if not options.at and not options.no_claims:
        bench.parser.error("--at COMMIT, that made the pool, is needed for claims; or give --no-claims")
    limit_threads(1)
    pool = Pool.load(options.pool)
    tables = [pool_statistics(pool)]
    for kind in ("cost", "reward"):
        if folder := getattr(options, kind):
            tables.append(held_out(kind, folder))
    if options.reward:
        rows = np.random.default_rng(0).permutation(len(pool.prompt))[: options.default_prompts]
        some = pool.subset(rows)
        found = pool_statistics(some, default_rewards(some.prompt, options.reward, options.max_prompt_tokens))
        tables.append(found[found["metric"].str.startswith("default_")])
    table = pd.concat(tables, ignore_index=True)
    bench.name = "llm_chat_pool"
    bench.write(table, float_format="%.6g")
    bench.show(table)
    for row in table[table["metric"].isin(CLAIMED)].to_dict("records"):
        if row["part"] == "all":
            continue
        found = Spread(row["value"], row["low"], row["high"])
        name = f"llm.chat.{row['metric']}"
        more = {"data": row["part"], "commit": options.at, "seeds": ""}
        bench.claim(name, found, int(row["n"]), **more)


if __name__ == "__main__":
    main()
