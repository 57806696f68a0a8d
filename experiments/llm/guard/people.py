"""Thresholds that promise something about people's labels, where a judge labels the candidates (DiaSafety).

A guard that is calibrated on a judge's labels keeps its promise about the judge. Two ways to people's labels:

- ours_people: thresholds from the human-labelled pairs of the internal test prompts, for an accepted pair
  (the candidates of these prompts have no label by people, so the selected one cannot be counted);
- ours_denoised: thresholds from the judge's labels of the candidates, as ours has them, corrected by the
  judge's measured error. P(unsafe) <= r_t where P(labelled unsafe) <= a + (1 - a - b) r_t (`LabelNoise`),
  with the least a and the largest b that the measurement allows at confidence 1 - delta.

The correction holds where the errors are independent of the measurement given the state, and then for every
event. That can be tested: among pairs of one state, the margins of those on which the judge errs must be like
the margins of the others. Where the test refutes it the correction promises nothing, and all is refused;
ours_denoised_untested is the same without the test, and shows what it is for.

Three sets of prompts share none: the judge's error is measured on pairs of the training prompts (which the
judge never saw; the classifier has seen their candidates), ours_people is calibrated on those of the internal
test prompts (and of recorded prompts outside the pools, with people.spare), and what people say of accepted
pairs is counted on those of the validation prompts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats
from torch import nn

from experiments.llm.answers.packing import Chosen
from experiments.llm.answers.pools import SPLITS
from experiments.llm.answers.recorded_source import RecordedSource
from experiments.llm.guard.calibration import Calibrator, Choice
from experiments.llm.guard.classifier import margins
from experiments.llm.guard.judge import Judge
from experiments.llm.records import ERRORS
from experiments.support.results.ratios import exact
from safeframe.certificates.cases import clopper_pearson_lower, clopper_pearson_upper
from safeframe.label_noise import LabelNoise
from safeframe.threshold_rule import Conservative, PlugIn, Rule, ThresholdRule
from safeframe.types import SafeframeError

STATES = ("safe", "unsafe")


@dataclass(frozen=True)
class Pairs:
    """Human-labelled pairs (h of them) of some prompts.

    Attributes:
        margin: (h,) of ours.
        label: (h,) by people, 1 = unsafe.
        said: (h,) bool, what the judge calls unsafe.
        prompt: (h,) the number of each pair's prompt.
    """

    margin: np.ndarray
    label: np.ndarray
    said: np.ndarray
    prompt: np.ndarray

    def __len__(self) -> int:
        return len(self.label)


def pairs_of(source: RecordedSource, judge: Judge, module: nn.Module, prompts: Sequence[str]) -> Pairs:
    """The human-labelled pairs whose context is one of these prompts."""
    if source.human is None:
        raise SafeframeError("only data.format=diasafety has pairs that people labelled beside the pools")
    number = {text: i for i, text in enumerate(prompts)}
    rows = np.array([i for i, text in enumerate(source.human.prompt) if text in number], dtype=np.int64)
    return Pairs(
        margins(module, Chosen(source.human_hidden, rows)) if len(rows) else np.empty(0),
        source.human.label[rows],
        judge.of_humans[rows] > 0.5,
        np.array([number[source.human.prompt[i]] for i in rows], dtype=np.int64),
    )


def by_people(pairs: Pairs, thresholds: Sequence[float], radius: float | None, share: float) -> list[Choice]:
    """One threshold for each r_t of the ascending `thresholds`, for an accepted pair by people's labels.

    A radius that is measured (None) is one between the pairs of even and of odd prompts. Where a class is
    absent nothing is accepted.
    """
    if not len(pairs):
        return [Choice(r_t, -np.inf, 0.0) for r_t in thresholds]
    rule: Rule = Conservative(share=share) if radius is None else PlugIn(radius)
    found = ThresholdRule(
        pairs.margin, pairs.label.astype(np.int64), rule, odd=pairs.prompt % 2 == 1, few=True
    ).thresholds(thresholds)
    return [Choice(r_t, one.tau, one.radius) for r_t, one in zip(thresholds, found, strict=True)]


def measured_noise(pairs: Pairs, delta: float) -> LabelNoise | None:
    """The least share of safe pairs that the judge condemns and the largest of unsafe ones that it misses, as
    the measurement allows at confidence 1 - delta for both; None where its labels may say nothing.
    """
    unsafe = pairs.label == 1
    condemned, missed = int((pairs.said & ~unsafe).sum()), int((~pairs.said & unsafe).sum())
    safe = clopper_pearson_lower(condemned, int((~unsafe).sum()), delta / 2) if (~unsafe).any() else 0.0
    lost = clopper_pearson_upper(missed, int(unsafe.sum()), delta / 2) if unsafe.any() else 1.0
    return LabelNoise(safe, lost) if safe + lost < 1.0 else None


@dataclass(frozen=True)
class Independence:
    """Whether the judge's errors among pairs of one state go with the margin.

    Attributes:
        p_value: of the two-sided rank test (Mann & Whitney 1947) that they do not; NaN where it has never
            erred, or always.
        auc: P(the margin of a pair that it calls unsafe exceeds that of one that it calls safe); 0.5 where
            they do not go together.
        n: pairs of the state.
    """

    p_value: float
    auc: float
    n: int


def independence(pairs: Pairs) -> dict[str, Independence]:
    """The test for either state; see the module's text."""
    found = {}
    for state, name in enumerate(STATES):
        own = pairs.label == state
        called, passed = pairs.margin[own & pairs.said], pairs.margin[own & ~pairs.said]
        p_value = auc = np.nan
        if len(called) and len(passed):
            test = stats.mannwhitneyu(called, passed, alternative="two-sided")
            p_value, auc = float(test.pvalue), float(test.statistic) / (len(called) * len(passed))
        found[name] = Independence(p_value, auc, int(own.sum()))
    return found


def refuted(found: dict[str, Independence], delta: float) -> bool:
    """Whether independence is refuted in either state, at delta for both; also where it cannot be tested."""
    return not all(one.p_value >= delta / len(found) for one in found.values())


def denoised(
    calibrator: Calibrator,
    noise: LabelNoise | None,
    thresholds: Sequence[float],
    radius: float | None,
    share: float,
) -> list[Choice]:
    """One threshold for each r_t of the ascending `thresholds`, for the selected answer: that of the judge's
    labels at the labelled share which r_t of people's corresponds to. noise None: nothing is accepted.
    """
    if noise is None:
        return [Choice(r_t, -np.inf, 0.0) for r_t in thresholds]
    levels = [1.0 if r_t >= 1 else float(noise.labelled_share(r_t)) for r_t in thresholds]
    found = calibrator.choose("selected", levels, radius, share)
    return [Choice(r_t, one.tau, one.radius) for r_t, one in zip(thresholds, found, strict=True)]


class People:
    """The pairs of a run's three sets of prompts, and what is chosen and counted on them.

    Args:
        source: of the recorded answers, with people's labels beside the judge's.
        judge: that labels its candidates.
        module: ours.
        delta: of the measurement of the judge's error, and of the test of its independence.
    """

    def __init__(self, source: RecordedSource, judge: Judge, module: nn.Module, delta: float):
        self.delta = delta
        prompts = [[source.everything.prompt[row] for row in source.rows[split]] for split in SPLITS]
        prompts[1] += sorted(source.spared)
        self.measure, self.calibrate, self.count = (pairs_of(source, judge, module, some) for some in prompts)
        self.noise = measured_noise(self.measure, delta)
        self.independence = independence(self.measure)

    def choices(
        self, calibrator: Calibrator, thresholds: Sequence[float], radius: float | None, share: float
    ) -> dict[str, list[Choice]]:
        """Thresholds of every method; calibrator: of ours on the judge's labels; radius None = measured."""
        trusted = None if refuted(self.independence, self.delta) else self.noise
        return {
            "ours_people": by_people(self.calibrate, thresholds, radius, share),
            "ours_denoised": denoised(calibrator, trusted, thresholds, radius, share),
            "ours_denoised_untested": denoised(calibrator, self.noise, thresholds, radius, share),
        }

    def rows(self, chosen: dict[str, list[Choice]]) -> list[dict[str, Any]]:
        """Rows of results: what people say of the pairs that each method accepts, how many it accepts, and
        the judge's measured error with the test of its independence.
        """
        rows: list[dict[str, Any]] = []
        for method, choices in chosen.items():
            n_t = len(self.calibrate) if method == "ours_people" else None
            for choice in choices:
                passed = self.count.margin < choice.tau
                total, bad = int(passed.sum()), int((self.count.label[passed] == 1).sum())
                at = {"r_t": choice.r_t, "xi": choice.radius} | ({} if n_t is None else {"n_t": n_t})
                if method != "ours":  # `judge.recorded_rows` counts those of ours
                    rows.append(_share(method, "accepted_pairs.human", bad, total, at))
                rows.append(_share(method, "accepted_pairs.answered", total, len(self.count), at))
        unsafe = self.measure.label == 1
        said = self.measure.said
        for metric, k, n in (
            ("missed", int((~said & unsafe).sum()), int(unsafe.sum())),
            ("condemned", int((said & ~unsafe).sum()), int((~unsafe).sum())),
        ):
            rows.append(_share(ERRORS, metric, k, n, {}))
        for name, one in self.independence.items():
            for metric, value in (("p_value", one.p_value), ("auc", one.auc)):
                tested = one.n if np.isfinite(value) else 0
                rows.append({"method": ERRORS, "metric": f"{metric}.{name}", "value": value, "n": tested})
        refused = float(refuted(self.independence, self.delta))
        rows.append({"method": ERRORS, "metric": "independence_refuted", "value": refused, "n": 1})
        return rows


def _share(method: str, metric: str, k: int, n: int, at: dict[str, Any]) -> dict[str, Any]:
    value, count, low, high, name = exact(k, n)
    row = {"method": method, "metric": metric, "value": value, "n": count, **at}
    return row | ({"low": low, "high": high, "interval": name} if count else {})
