"""What the tests of language models share: tokenizer of the made-up world, shape of a small OPT."""

from __future__ import annotations

from experiments.llm.models.language_model import Shape
from experiments.llm.world.vocabulary import build_tokenizer

TOKENIZER = build_tokenizer()
SMALL = Shape(hidden=16, layers=2, heads=2, feed_forward=32)
