"""The words of the synthetic world as a tokenizer of transformers' own class."""

from __future__ import annotations

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from experiments.llm.world.grammar import BOS, SPECIAL, UNK, VOCABULARY


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Lower-cased words and punctuation of the synthetic world, BOS first; unknown words are <unk>."""
    core = Tokenizer(models.WordLevel({word: i for i, word in enumerate(VOCABULARY)}, unk_token=SPECIAL[UNK]))
    core.normalizer = normalizers.Lowercase()
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    core.post_processor = processors.TemplateProcessing(
        single=f"{SPECIAL[BOS]} $A", special_tokens=[(SPECIAL[BOS], BOS)]
    )
    pad, bos, eos, unk, answer = SPECIAL
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token=pad,
        bos_token=bos,
        eos_token=eos,
        unk_token=unk,
        additional_special_tokens=[answer],
        padding_side="left",
        clean_up_tokenization_spaces=False,
        model_max_length=64,
    )
