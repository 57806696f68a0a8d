"""What a run of language keeps, as its writer and its readers both know it."""

from __future__ import annotations

BLOCKS_TABLE = "blocks"
"""Table of sums over blocks of validation prompts, a row for each point and block."""
POINT = ["method", "r_t", "knob"]
SUMS = ("prompts", "answered", "harmful", "true_harm", "reward")
CANDIDATES_TABLE = "candidates"
"""Table of every candidate's label, reward and margins, without texts (hub, chat)."""
BLOCK_COLUMNS = (*POINT, "block", *SUMS)
KINDS = ("prompt", "pair")
"""Kinds of coverage: is the prompt, or the prompt with the answer, like the internal test data?"""
COVERED = {"ours_covered": "prompt", "ours_covered_pairs": "pair"}
"""Method behind a coverage guard -> its kind."""
TRANSFER = "transfer."
"""Methods on another set of recorded answers begin with this and the set's format."""
ERRORS = "judge_errors"
"""Method of the rows on a judge's errors, as measured anew for each run's splits (`guard.people`)."""
