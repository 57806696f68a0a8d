"""How much of a classifier is trained: adapters, all weights or the head, of which body, how many of them.

A capacity is written `lora16` (LoRA's adapters of rank 16), `all` (all weights) or `head` (the two outputs
over states that stay as they are). `ai:` before it takes the body of the AI model in the place of the
classification model's, so `ai:head` reads the AI model's hidden states; `*3` behind it trains three from
seeds of their own and takes the mean of their logits.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Literal

from safeframe.types import SafeframeError

_WRITTEN = re.compile(r"(?P<body>ai:)?(?P<training>lora(?P<rank>[1-9]\d*)|all|head)(\*(?P<members>[2-9]))?")
Training = Literal["lora", "all", "head"]
Body = Literal["classifier", "ai"]


@dataclass(frozen=True)
class Capacity:
    """What of a classifier is trained.

    Attributes:
        training: "lora", "all" or "head".
        rank: of LoRA's updates; 0 without.
        body: the model of `ModelsConfig` that it is fine-tuned from.
        members: classifiers whose logits are averaged.
    """

    training: Training
    rank: int = 0
    body: Body = "classifier"
    members: int = 1

    @classmethod
    def of(cls, text: str) -> Capacity:
        """As it is written. SafeframeError for what is no capacity."""
        found = _WRITTEN.fullmatch(text)
        if found is None:
            raise SafeframeError(
                f"{text!r} is no capacity; one is lora<rank>, all or head, with ai: before it for the AI"
                " model's body and *2 to *9 behind it for so many classifiers (lora16, ai:all, all*3)"
            )
        named: dict[str, Training] = {"all": "all", "head": "head"}
        training = named.get(found["training"], "lora")
        return cls(
            training,
            int(found["rank"] or 0),
            "ai" if found["body"] else "classifier",
            int(found["members"] or 1),
        )

    def __str__(self) -> str:
        body, many = "ai:" * (self.body == "ai"), f"*{self.members}" * (self.members > 1)
        return f"{body}{self.training}{self.rank or ''}{many}"

    @property
    def slug(self) -> str:
        """As it is written, for the name of a file: letters, digits and _."""
        return re.sub(r"\W", "_", str(self))

    @property
    def one(self) -> Capacity:
        """A single member."""
        return replace(self, members=1)
