"""Source `hub`: the paper's own models, or any others that transformers loads, by name or from folders.

    python run.py experiment=llm source=hub models.ai=DIR models.device=auto models.precision=bfloat16

models.ai is OPT-1.3B fine-tuned (`python -m experiments.llm.models.fine_tune`, steps sft and ppo_lag), with
models.template=safe-rlhf; the classification model is fine-tuned from OPT-350M, rewards and labels are by
PKU's beaver-7b models, prompts are PKU-SafeRLHF's. It is the pipeline of the synthetic source with other
names: nothing here but prompts and names.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from experiments.llm.answers.generating import Asked, ModelSource
from experiments.llm.answers.pools import SPLITS
from experiments.llm.models.hub_data import PROMPTS, read_rows
from experiments.llm.models.sources import normal
from safeframe.types import SafeframeError

NAMES = {
    "classifier": "facebook/opt-350m",
    "reward": "PKU-Alignment/beaver-7b-v1.0-reward",
    "cost": "PKU-Alignment/beaver-7b-v1.0-cost",
}
GROUPS = ("category", "prompt_source", "source")  # the first column that is there


def split_of_text(prompt: str) -> str:
    """The split of a prompt: a hash of its text, so that no two splits share one."""
    digest = hashlib.sha256(normal(prompt).encode("utf-8")).digest()
    return SPLITS[digest[0] % len(SPLITS)]


class HubSource(ModelSource):
    """Prompts of a data set, or of a mixture of files; no truth but the labels."""

    limits = (512, 128)
    real = True

    def default_models(self, name: str) -> dict[str, str]:
        """The paper's, where they are public."""
        return NAMES

    def ask(self, split: str, n: int) -> Asked:
        """n different prompts of a split by chance, of every file its share; SafeframeError where there are
        fewer.
        """
        files = self.models.prompt_files() or [PROMPTS]
        counts = shared_out(n, self.models.shares or [1.0] * len(files))
        rng = self.seeds.generator("prompts", split)
        taken: set[str] = set()
        texts: list[str] = []
        groups: list[str] = []
        for source, count in zip(files, counts, strict=True):
            rows = read_rows(source, ("prompt",))
            found = {normal(row["prompt"]): row for row in reversed(rows)}
            own = [row for text, row in found.items() if text not in taken and self.belongs(text, split)]
            if len(own) < count:
                raise SafeframeError(
                    f"{source} has {len(own)} different prompts for {split}, {count} are asked for; lower"
                    f" {self.sizes(split)}" + (" or change models.shares" if len(files) > 1 else "")
                )
            chosen = [own[i] for i in rng.permutation(len(own))[:count]]
            column = next((name for name in GROUPS if name in chosen[0]), None) if chosen else None
            texts += [row["prompt"] for row in chosen]
            groups += [
                Path(source).name.split(".")[0] if len(files) > 1 else _text(row[column]) if column else ""
                for row in chosen
            ]
            taken |= set(found)
        if len(files) > 1:
            order = rng.permutation(n)
            texts, groups = [texts[i] for i in order], [groups[i] for i in order]
        return Asked(texts, groups)

    def belongs(self, text: str, split: str) -> bool:
        """Whether a prompt is of a split."""
        return split_of_text(text) == split

    def sizes(self, split: str) -> str:
        """The setting that says how many prompts a split has."""
        return f"pools.{split}"


def shared_out(n: int, shares: list[float]) -> list[int]:
    """n in whole parts by shares, the largest remainders rounded up."""
    exact = n * np.asarray(shares, float) / sum(shares)
    parts = np.floor(exact + 1e-9).astype(int)
    parts[np.argsort(parts - exact, kind="stable")[: n - int(parts.sum())]] += 1
    return parts.tolist()


def _text(value: object) -> str:
    """A category as text; of a table of yes and no (BeaverTails), the first yes."""
    if isinstance(value, dict):
        return next((str(name) for name, holds in value.items() if holds), "none")
    return str(value)
