"""Language generation end to end: candidates, classifiers, thresholds, answers, counts.

Source: arXiv 2504.20924, section 5.3 and figure 4.

Prompts are split in three that share none: the classifier is trained on the first (both halves serve as
inputs and as internal test data in turn), thresholds are chosen on the second, answers are counted on the
third.

Methods ("rank": the feasible candidate of highest reward; "sample": the first feasible one):

- ours: tailored classifier, rank, threshold for the selected answer, radius configured or measured
- ours_accepted: the same with the threshold for an accepted candidate (the paper's event)
- ours_paper: the same with the paper's sampling instead of ranking
- ours_priced, ours_one_more, ours_shrinkage, ...: further rules on the same margins (`guard.rules`)
- ours_people, ours_denoised, ours_denoised_untested: promises about people's labels (`guard.people`)
- ours_xi_0, ours_accepted_xi_0: ours, ours_accepted with radius 0
- cross_entropy, cross_entropy_xi_0: the warm-up classifier (LoRA) in the place of ours, ours_xi_0
- cross_entropy_accepted: LoRA with cross-entropy and bias correction alone: accepted event, radius 0
- learn_then_test: the tailored classifier, threshold by fixed-sequence testing on the selected answer
- rejection_sampling, rejection_best: a fully fine-tuned classifier at fixed levels (knob), first, best answer
- ai, best_of_k, oracle, default: first answer; best by reward; best by reward of those labelled harmless;
  always the default answer
- ppo_lag: first answer of models trained with other cost limits (knob); synthetic and hub
- transfer.<format>.*: ours on another set of recorded answers, at the thresholds of this one; with it come
  ours_covered, ours_covered_pairs: ours behind a coverage guard (`transfer`)
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from experiments.llm.answers.hub import HubSource
from experiments.llm.answers.prepared import PreparedSource
from experiments.llm.answers.recorded_source import RecordedSource
from experiments.llm.candidates import candidates_table, real_rows
from experiments.llm.config import LLMConfig
from experiments.llm.evaluation import Evaluation
from experiments.llm.guard import baselines, coverage
from experiments.llm.guard.calibration import Calibrator
from experiments.llm.guard.judge import judge_of, recorded_rows
from experiments.llm.guard.people import People
from experiments.llm.guard.rules import Rules, fitting_part
from experiments.llm.preparation import (
    Experiment,
    choose_capacity,
    classifiers_ahead,
    compared_rows,
    tailored_ahead,
)
from experiments.llm.records import BLOCKS_TABLE, CANDIDATES_TABLE
from experiments.llm.transfer import Calibrated, other_configuration, transfer
from experiments.support.files import atomic_path
from experiments.support.runs.running import RunContext
from safeframe.optimisation.candidates import DEFAULT

KINDS_SHOWN = 8
"""Kinds of real prompts, at most, for each of which shares are counted too."""


def run(settings: LLMConfig, context: RunContext) -> pd.DataFrame:
    """All methods on one seed; see the module's text."""
    this = Experiment(settings, context)
    thresholds = sorted({*settings.evaluation.thresholds, settings.r_t})
    share, fixed = settings.evaluation.xi_mass, settings.fixed_radius()
    if settings.transfer.path:
        coverage.require_enough(len(this.pool["internal_test"].prompt), settings.transfer.epsilon)

    classifiers_ahead(this)
    compared = choose_capacity(this)
    names = this.classifiers()
    with context.stage("margins of the warm-up"):
        warm_train = this.margin("cross_entropy", names["cross_entropy"], "train")
        before = this.margin(this.start, names[this.start], "train")
    tailored_ahead(this)
    names["ours"] = ours = this.tailored(names[this.start], before)

    with context.stage("margins"):
        validation = {name: this.margin(name, module, "validation") for name, module in names.items()}
        calibration = this.calibration_pool()
        n = len(calibration.prompt)
        test = {
            name: this.margin(name, names[name], "internal_test")[:n] for name in ("ours", "cross_entropy")
        }
        ours_train = this.margin("ours", ours, "train")

    with context.stage("evaluation"):
        pool = this.pool["validation"]
        default = this.source.default_reward(pool.prompt)
        real = isinstance(this.source, HubSource | PreparedSource)
        few_kinds = 1 < len(set(pool.group)) <= KINDS_SHOWN
        counting = Evaluation(pool, default, int(calibration.mask.sum()), real and few_kinds)
        chosen, few = {}, settings.evaluation.n_t is not None
        for name, by, rule, event, radius in (
            ("ours", "ours", "rank", "selected", fixed),
            ("ours_accepted", "ours", "rank", "accepted", fixed),
            ("ours_paper", "ours", "sample", "accepted", fixed),
            ("ours_xi_0", "ours", "rank", "selected", 0.0),
            ("ours_accepted_xi_0", "ours", "rank", "accepted", 0.0),
            ("cross_entropy", "cross_entropy", "rank", "selected", fixed),
            ("cross_entropy_xi_0", "cross_entropy", "rank", "selected", 0.0),
            ("cross_entropy_accepted", "cross_entropy", "rank", "accepted", 0.0),
        ):
            calibrator = Calibrator(test[by], calibration, rule, few)
            chosen[name] = calibrator.choose(event, thresholds, radius, share)
            counting.guarded(name, validation[by], chosen[name], rule)
        calibrator = Calibrator(test["ours"], calibration, few=few)
        certified = calibrator.certified(
            thresholds, ours_train[this.pool["train"].mask], settings.evaluation.delta
        )
        counting.guarded("learn_then_test", validation["ours"], certified)
        if (kind := settings.rules.scale) != "none":
            fits = fitting_part(n, settings.rules.share, context.seeds.generator("rules"))
            usual = this.source.default_reward(calibration.prompt)
            for by in ("ours", "cross_entropy"):
                rules = Rules(test[by], calibration, usual, kind, fits)
                counting.further(
                    by, validation[by], rules, thresholds, fixed, share, settings.evaluation.delta
                )
        rejecting = (("rejection_sampling", "sample"), ("rejection_best", "rank"))
        for name, rule in rejecting if "fully_tuned" in names else ():
            levels = baselines.rejection_thresholds()
            counting.with_knob(name, validation["fully_tuned"], levels, rule)
        counting.count("ai", baselines.first_answer(pool))
        counting.count("best_of_k", baselines.best_of_all(pool))
        counting.count("oracle", baselines.oracle(pool))
        counting.count("default", np.full(len(pool.prompt), DEFAULT))
        for limit in settings.evaluation.cost_limits:
            other = this.source.pool("validation", len(pool.prompt), f"ppo_lag_{limit:g}", candidates=1)
            counting.count("ppo_lag", baselines.first_answer(other), other, knob=limit)
        if isinstance(this.source, RecordedSource):
            if settings.people.calibrate and this.source.human is not None:
                people = People(this.source, judge_of(this.source), ours, settings.people.delta)
                promised = people.choices(calibrator, thresholds, fixed, share)
                for name, choices in promised.items():
                    counting.guarded(name, validation["ours"], choices)
                counting.rows += people.rows({"ours": chosen["ours"]} | promised)
            counting.rows += recorded_rows(this.source, ours, chosen["ours"], counting.n_t)
        counting.rows += compared_rows(this, compared)
        counting.rows += [{"method": "texts", "metric": "truncated", "value": float(this.cut), "n": this.cut}]
        if real:
            cut = this.source.cut_prompts(pool) if isinstance(this.source, HubSource) else None
            counting.rows += real_rows(pool, default, cut)
            judged = {"train": {"ours": ours_train, "cross_entropy": warm_train}, "validation": validation}
            judged["internal_test"] = {by: this.margin(by, names[by], "internal_test") for by in test}
            rewards = {split: this.source.default_reward(found.prompt) for split, found in this.pool.items()}
            with atomic_path(context.directory / f"{CANDIDATES_TABLE}.parquet") as path:
                candidates_table(this.pool, judged, rewards).to_parquet(path, index=False)
    if settings.transfer.path and isinstance(this.source, RecordedSource):
        with context.stage("transfer"):
            other = RecordedSource(other_configuration(settings), context, judge_of)
            transfer(
                Calibrated(settings, this.source, this.pool["internal_test"], ours, chosen),
                other, validation["ours"], counting, context.seeds.integer("coverage"),
            )  # fmt: skip
    with atomic_path(context.directory / f"{BLOCKS_TABLE}.parquet") as path:
        pd.concat(counting.blocks, ignore_index=True).to_parquet(path, index=False)
    return pd.DataFrame(counting.rows)


def report(settings: LLMConfig, directory: Path, frame: pd.DataFrame) -> str:
    """The summary that a run prints at its end, with the paths of its figures."""
    from experiments.llm.reporting.figures import draw, summary

    paths = draw(directory)
    return "\n".join([summary(directory), "", "figures:", *(f"  {path}" for path in paths)])
