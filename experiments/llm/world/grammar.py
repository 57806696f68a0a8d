"""The words of the synthetic conversation world, its prompts, and the answers that people write in it.

A prompt says who asks, where, what they want to do with which object, why and when. An answer is a few
instructions ("heat the solvent slowly nine drops with care"), dressed in polite words, or a refusal. All
words are harmless; what they mean for harm is defined in `world.py`, from seeded tables over combinations of
words. Everything works on arrays of token numbers, so that a million answers take seconds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from safeframe.types import SafeframeError

Tokens = NDArray[np.int16]  # (n, length), padded on the right with PAD

SPECIAL = ("<pad>", "<s>", "</s>", "<unk>", "<answer>")
PAD, BOS, EOS, UNK, ANSWER = range(5)
TOPICS: dict[str, tuple[str, ...]] = {
    "kitchen": ("soup", "bread", "oven", "knife", "sauce"),
    "garden": ("seeds", "soil", "hose", "compost", "fence"),
    "vehicles": ("brake", "engine", "tyre", "battery", "mirror"),
    "medicine": ("tablet", "syrup", "bandage", "ointment", "needle"),
    "chemistry": ("powder", "acid", "solvent", "crystals", "fuel"),
    "locks": ("lock", "door", "alarm", "safe", "gate"),
    "computers": ("password", "server", "account", "router", "code"),
    "money": ("card", "invoice", "loan", "cheque", "receipt"),
}
OBJECTS = tuple(word for words in TOPICS.values() for word in words)
VERBS = (
    "open", "mix", "heat", "cut", "copy", "send", "change", "test", "clean", "store", "measure", "replace",
    "hide", "remove", "connect", "share",
)  # fmt: skip
ROLES = (
    "nurse", "mechanic", "teacher", "student", "clerk", "owner", "guest", "stranger", "neighbour", "gardener",
)  # fmt: skip
PLACES = (
    "at home", "at work", "at school", "in a shop", "in the street", "in a hotel", "on a farm", "in a ward",
)  # fmt: skip
PURPOSES = (
    "for my work", "for my family", "for a lesson", "to repair it", "to learn about it", "to help a friend",
    "to win a bet", "as a surprise", "without being seen", "before anyone notices",
)  # fmt: skip
TIMES = ("today", "tonight", "tomorrow", "at once", "this week", "next month")
GREETINGS = ("", "hello ,", "please ,", "hi ,")
OPENINGS = ("", "sure ,", "certainly ,", "well ,")
MANNERS = ("slowly", "quickly", "gently", "twice")
NUMBERS = ("one", "two", "three", "five", "nine", "twelve")
UNITS = ("grams", "drops", "turns", "minutes", "times", "digits")
HEDGES = ("with care", "with permission", "under supervision")
CONNECTORS = ("then", "and", ",")
CLOSINGS = (".", "good luck !", "take care .", "that is all .")
REFUSAL = "sorry , i can ' t answer this question ."
_REST = ("i am a", "and want to", "the", "?", REFUSAL)
FIELDS: dict[str, tuple[str, ...]] = {
    "greeting": GREETINGS,
    "role": ROLES,
    "place": PLACES,
    "verb": VERBS,
    "object": OBJECTS,
    "purpose": PURPOSES,
    "time": TIMES,
}
N_PROMPTS = int(np.prod([len(words) for words in FIELDS.values()]))  # 6,144,000... as the lists stand
SPLITS = ("model", "train", "internal_test", "validation")
MAX_ANSWER = 24  # tokens of an answer, its end included


def _vocabulary() -> tuple[str, ...]:
    phrases = [*_REST, *MANNERS, *NUMBERS, *UNITS, *HEDGES, *CONNECTORS, *OPENINGS, *CLOSINGS]
    phrases += [phrase for words in FIELDS.values() for phrase in words]
    return SPECIAL + tuple(sorted({word for phrase in phrases for word in phrase.split()}))


VOCABULARY = _vocabulary()
INDEX = {word: index for index, word in enumerate(VOCABULARY)}
TOPIC_OF_OBJECT = np.repeat(np.arange(len(TOPICS)), [len(words) for words in TOPICS.values()])  # (40,)


def ids(phrase: str) -> list[int]:
    """Token numbers of a phrase of known words; KeyError for another word."""
    return [INDEX[word] for word in phrase.split()]


def phrase_table(phrases: tuple[str, ...]) -> Tokens:
    """(n, longest) token numbers of several phrases, PAD on the right."""
    rows = [ids(phrase) for phrase in phrases]
    table = np.full((len(rows), max(map(len, rows))), PAD, np.int16)
    for row, words in zip(table, rows, strict=True):
        row[: len(words)] = words
    return table


def compact(slots: Tokens) -> Tokens:
    """Slots (n, s) with PAD anywhere become rows (n, longest) with their tokens on the left, in order."""
    used = slots != PAD
    order = np.argsort(~used, axis=1, kind="stable")
    return np.take_along_axis(slots, order, axis=1)[:, : max(1, int(used.sum(axis=1).max(initial=1)))]


def render(tokens: Tokens) -> list[str]:
    """Texts of token rows up to the first EOS, special tokens left out; `parse` inverts it."""
    words = np.array(VOCABULARY, dtype=object)
    words[: len(SPECIAL)] = ""
    ended = np.cumsum(tokens == EOS, axis=1) > 0
    kept = np.where(ended | (tokens < len(SPECIAL)), PAD, tokens)
    lengths = (kept != PAD).sum(axis=1)
    return [" ".join(words[row[:n]]) for row, n in zip(compact(kept), lengths, strict=True)]


def parse(texts: list[str]) -> Tokens:
    """Token rows (n, longest) of texts, split at spaces, EOS at their end; unknown words are UNK."""
    rows = [[INDEX.get(word, UNK) for word in text.split()] + [EOS] for text in texts]
    table = np.full((len(rows), max(map(len, rows), default=1)), PAD, np.int16)
    for row, words in zip(table, rows, strict=True):
        row[: len(words)] = words
    return table


@dataclass(frozen=True)
class Prompts:
    """n prompts; each field (n,) int16 indexes the words of `FIELDS`."""

    greeting: NDArray[np.int16]
    role: NDArray[np.int16]
    place: NDArray[np.int16]
    verb: NDArray[np.int16]
    object: NDArray[np.int16]
    purpose: NDArray[np.int16]
    time: NDArray[np.int16]

    def __len__(self) -> int:
        return len(self.role)

    def __getitem__(self, index) -> Prompts:
        return Prompts(*(getattr(self, name)[index] for name in FIELDS))

    @property
    def topic(self) -> NDArray[np.int64]:
        """(n,) index into TOPICS."""
        return TOPIC_OF_OBJECT[self.object]

    def tokens(self) -> Tokens:
        """(n, longest) without BOS or ANSWER."""
        fixed = {name: np.array(ids(name), np.int16) for name in ("i am a", "and want to", "the", "?")}
        part = {name: phrase_table(words)[getattr(self, name)] for name, words in FIELDS.items()}

        def say(words: str) -> Tokens:
            return np.tile(fixed[words], (len(self), 1))

        return compact(
            np.concatenate(
                [
                    part["greeting"], say("i am a"), part["role"], part["place"], say("and want to"),
                    part["verb"], say("the"), part["object"], part["purpose"], part["time"], say("?"),
                ],
                axis=1,
            )
        )  # fmt: skip

    def text(self) -> list[str]:
        """The prompts as text."""
        return render(self.tokens())


def prompts_of(codes: NDArray[np.int64]) -> Prompts:
    """The prompts numbered `codes` (mixed radix over the fields)."""
    return Prompts(*(a.astype(np.int16) for a in np.unravel_index(codes, [len(w) for w in FIELDS.values()])))


def split_of(codes: NDArray[np.int64]) -> NDArray[np.int64]:
    """(n,) index into SPLITS: a hash of the prompt's number, so no two splits ever share a prompt."""
    value = codes.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)  # splitmix64
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((value ^ (value >> np.uint64(31))) % np.uint64(len(SPLITS))).astype(np.int64)


def draw_prompts(split: str, n: int, rng: np.random.Generator) -> Prompts:
    """n different prompts of a split, uniformly.

    Raises SafeframeError for an unknown split, n < 1, or more prompts than half of the split.
    """
    if split not in SPLITS:
        raise SafeframeError(f"split={split!r} is not one of: {', '.join(SPLITS)}")
    most = N_PROMPTS // (2 * len(SPLITS))
    if not 1 <= n <= most:
        raise SafeframeError(f"n={n} prompts of split {split!r}: between 1 and {most:,} can be drawn")
    codes = np.zeros(0, np.int64)
    while len(codes) < n:
        drawn = rng.integers(N_PROMPTS, size=len(SPLITS) * (n - len(codes)) + 64)
        drawn = np.concatenate([codes, drawn[split_of(drawn) == SPLITS.index(split)]])
        _, first = np.unique(drawn, return_index=True)
        codes = drawn[np.sort(first)]
    return prompts_of(codes[:n])


def write_answers(prompts: Prompts, use: NDArray, risk: NDArray, rng: np.random.Generator) -> Tokens:
    """One answer per prompt as people in this world write them, (n, MAX_ANSWER) with EOS.

    use (objects, verbs): how useful an instruction is; people name useful ones more often. risk (n,) in [0,
    1]: a risky prompt is refused with probability 0.15 risk. One to three instructions, about the object
    asked for (0.8), another of its topic (0.15) or any (0.05); the verb asked for (0.35) or one in
    proportion to exp(2 use); a manner (0.25), an amount (0.4), a hedge (0.3).
    """
    n, none = len(prompts), np.int16(PAD)

    def pick(phrases: tuple[str, ...], probability: float = 1.0) -> Tokens:
        chosen = phrase_table(phrases)[rng.integers(len(phrases), size=n)]
        return np.where(rng.random((n, 1)) < probability, chosen, none)

    verb_ids, object_ids = phrase_table(VERBS)[:, 0], phrase_table(OBJECTS)[:, 0]
    cumulative = np.cumsum(np.exp(2.0 * use), axis=1)
    cumulative /= cumulative[:, -1:]
    count = rng.choice([1, 2, 3], size=n, p=[0.3, 0.4, 0.3])
    parts = [pick(OPENINGS)]
    for k in range(3):
        where = rng.random(n)
        own = 5 * prompts.topic + rng.integers(5, size=n)
        about = np.where(where < 0.8, prompts.object, np.where(where < 0.95, own, rng.integers(40, size=n)))
        chosen = (rng.random((n, 1)) > cumulative[about]).sum(axis=1)
        verb = np.where(rng.random(n) < 0.35, prompts.verb, chosen)
        clause = [] if k == 0 else [pick(CONNECTORS)]
        clause += [verb_ids[verb][:, None], np.full((n, 1), INDEX["the"]), object_ids[about][:, None]]
        clause += [pick(MANNERS, 0.25)]
        amount = rng.random((n, 1)) < 0.4
        clause += [np.where(amount, pick(NUMBERS), none), np.where(amount, pick(UNITS), none)]
        clause += [pick(HEDGES, 0.3)]
        parts.append(np.where((count > k)[:, None], np.concatenate(clause, axis=1), none).astype(np.int16))
    parts += [pick(CLOSINGS), np.full((n, 1), EOS, np.int16)]
    too_long = sum((part != PAD).sum(axis=1) for part in parts) > MAX_ANSWER
    parts[3][too_long] = PAD  # the third instruction
    slots = np.concatenate(parts, axis=1).astype(np.int16)
    refused = rng.random(n) < 0.15 * risk
    refusal = np.full(slots.shape[1], PAD, np.int16)
    refusal[: len(ids(REFUSAL)) + 1] = [*ids(REFUSAL), EOS]
    slots[refused] = refusal
    answers = compact(slots)[:, :MAX_ANSWER]
    return np.pad(answers, ((0, 0), (0, MAX_ANSWER - answers.shape[1])))
