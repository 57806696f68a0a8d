"""Source `hub`: the paper's own models, or any others that transformers loads, by name or from folders.

    python run.py experiment=llm source=hub models.ai=DIR models.device=auto models.precision=bfloat16 \\
        models.max_prompt_tokens=512 models.max_answer_tokens=128

models.ai is OPT-1.3B fine-tuned (`python -m experiments.llm.models.fine_tune`, steps sft and ppo_lag); the
classification model is fine-tuned from OPT-350M, rewards and labels are by PKU's beaver-7b models, prompts
are PKU-SafeRLHF's. It is the pipeline of the synthetic source with other names: nothing here but prompts and
names.
"""

from __future__ import annotations

import hashlib

from experiments.llm.answers.generating import Asked, ModelSource
from experiments.llm.answers.pools import SPLITS
from experiments.llm.models.hub_data import PROMPTS, read_rows
from experiments.llm.models.tokenizer import PKU_TEMPLATE
from safeframe.types import SafeframeError

NAMES = {
    "classifier": "facebook/opt-350m",
    "reward": "PKU-Alignment/beaver-7b-v1.0-reward",
    "cost": "PKU-Alignment/beaver-7b-v1.0-cost",
}
GROUPS = ("category", "prompt_source", "source")  # the first column that is there


def split_of_text(prompt: str) -> str:
    """The split of a prompt: a hash of its text, so that no two splits share one."""
    digest = hashlib.sha256(" ".join(prompt.split()).lower().encode("utf-8")).digest()
    return SPLITS[digest[0] % len(SPLITS)]


class HubSource(ModelSource):
    """Prompts of a data set; no truth but the labels."""

    default_template = PKU_TEMPLATE
    default_score_template = PKU_TEMPLATE

    def default_models(self, name: str) -> dict[str, str]:
        """The paper's, where they are public."""
        return NAMES

    def ask(self, split: str, n: int) -> Asked:
        """n different prompts of a split by chance; SafeframeError where there are fewer."""
        source = self.models.prompts or PROMPTS
        rows = read_rows(source, ("prompt",))
        found = {" ".join(row["prompt"].split()).lower(): row for row in reversed(rows)}
        own = [row for row in found.values() if split_of_text(row["prompt"]) == split]
        if len(own) < n:
            raise SafeframeError(
                f"{source} has {len(own)} different prompts for {split}, {n} are asked for; lower "
                f"pools.{split}"
            )
        order = self.context.seeds.generator("prompts", split).permutation(len(own))[:n]
        chosen = [own[i] for i in order]
        column = next((name for name in GROUPS if name in chosen[0]), None)
        group = [_text(row[column]) if column else "" for row in chosen]
        return Asked([row["prompt"] for row in chosen], group)


def _text(value: object) -> str:
    """A category as text; of a table of yes and no (BeaverTails), the first yes."""
    if isinstance(value, dict):
        return next((str(name) for name, holds in value.items() if holds), "none")
    return str(value)
