"""Where tailored training gains on a law that is known, where it harms, why, and what mends it.

Each draw of the cases trains a classifier of each capacity by cross-entropy (the start). From there it goes
on for as many steps again by each method; "cross-entropy" is one of them. What counts is the true acceptance
of the score at r_t, the largest among thresholds whose true risk is at most r_t, from a large sample with
P(unsafe | features) in the place of labels: no calibration is in it.

- plain: the approximate loss with constant beta, lambda and temperatures, of .3 of the margins' spread.
- anchor, schedules, open only: one part added to that (:mod:`safeframe.training.tailored_loss`).
- mended: narrow temperatures in units of the margins' spread, which narrow further, beta up and lambda down,
  and a light anchor.
- never harm: mended, with the choice of a checkpoint on a fold of its own (half as many cases), compared
  under the conservative rule or the plug-in one.
- priced, priced mended: the same two with the priced inner problem; what counts is the reward earned under
  the priced rule at r_t, and so it does for cross-entropy beside them.

`why` takes one thing away at a time from the harm that a well fitted classifier suffers: the few cases (fresh
ones every step), the noise of the minibatch (all cases every step), and the width of the temperatures.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from experiments.theory.config import TailoringConfig
from experiments.theory.laws import tailoring_laws as laws
from safeframe.risk_curve import RiskCurve
from safeframe.threshold_rule import Conservative, PlugIn
from safeframe.training.finite_actions import FiniteActions
from safeframe.training.loop import TrainingSettings, train
from safeframe.training.never_harm import NeverHarm, SelectionFold
from safeframe.training.schedules import geometric
from safeframe.training.tailored import Fold, TailoredSettings, tailor
from safeframe.training.tailored_loss import StepCases, TailoredLoss, logistic

RATE = {"too little": 1e-2, "just enough": 3e-3, "ample": 1e-3}
"""Learning rate after warm-up, of every method."""
WIDE = {
    "temperature": 0.3,
    "temperature_output": 0.3,
    "penalty": 0.3,
    "perturbation": 1.5,
    "relative": True,
}
"""Of the plain form."""
NARROW = {
    "temperature": geometric(0.1, 0.01),
    "temperature_output": geometric(0.1, 0.01),
    "penalty": geometric(0.3, 3.0),
    "perturbation": geometric(1.5, 0.3),
    "relative": True,
}
MENDED = NARROW | {"anchor": 0.1}
METHODS: dict[str, dict[str, Any]] = {
    "plain": WIDE,
    "anchor": WIDE | {"anchor": 1.0},
    "schedules": NARROW,
    "open only": WIDE | {"open_width": 4.0},
    "mended": MENDED,
    "priced": WIDE | {"form": "priced"},
    "priced mended": MENDED | {"form": "priced"},
}
SELECTED = {"never harm": Conservative(radius=0.0), "never harm, plug-in": PlugIn()}
"""What takes a checkpoint of the mended training, or the start, with the rule that checkpoints are compared
under."""
WARM_RATE, BATCH, AVERAGE, UNSAFE_COST = 0.02, 512, 0.95, 1.0
_WHY_R_T = 1e-3


class Problem:
    """Act or not, for one reward: inputs from one half of the cases, internal test cases from the other.

    Args:
        sample: the cases.
        inputs: of a step.
        tests: internal test cases of a step.
        rewards: whether acting earns each case's own reward, or 1.
        fresh: seed of new cases of the law every step, in place of the sample's; None: the sample's.
    """

    def __init__(
        self, sample: laws.Sample, inputs: int, tests: int, rewards: bool = False, fresh: bool = False
    ):
        self.sample, self.inputs, self.tests = sample, inputs, tests
        self.rewards, self.fresh = rewards, fresh
        self.halves = torch.arange(len(sample))[::2], torch.arange(len(sample))[1::2]

    def cases(self, module: nn.Module, generator: Generator) -> StepCases:
        """Of one step."""
        if self.fresh:
            seed = int(torch.randint(2**40, (), generator=generator))
            found, inputs = laws.draw(self.inputs + self.tests, seed), self.inputs
        else:
            first = int(torch.randint(2, (), generator=generator))
            batch = _some(self.halves[first], self.inputs, generator)
            found = self.sample.rows(torch.cat([batch, _some(self.halves[1 - first], self.tests, generator)]))
            inputs = len(batch)
        margin, unsafe = module(found.features), found.label[inputs:, None]
        reward = found.reward[:inputs] if self.rewards else torch.ones(inputs)
        nothing = torch.zeros(inputs)
        loss = UNSAFE_COST * found.label[:inputs] - reward
        actions = FiniteActions(
            torch.stack([nothing, -reward], 1), torch.stack([nothing, loss], 1), torch.tensor([[0.0], [1.0]])
        )
        return StepCases(
            margin[:inputs], margin[inputs:], unsafe, unsafe.mean(0).clamp(1e-4, 1 - 1e-4), torch.zeros(1),
            actions, unsafe=found.label[:inputs, None],
        )  # fmt: skip


def _some(index: Tensor, count: int, generator: Generator) -> Tensor:
    return index[torch.randperm(len(index), generator=generator)[:count]]


def cross_entropy(sample: laws.Sample) -> Callable[[nn.Module, Generator], Tensor]:
    """The loss of warm-up."""

    def loss(module: nn.Module, generator: Generator) -> Tensor:
        rows = sample.rows(torch.randint(len(sample), (BATCH,), generator=generator))
        return binary_cross_entropy_with_logits(module(rows.features)[:, 0], rows.label)

    return loss


def margins(module: nn.Module, sample: laws.Sample) -> np.ndarray:
    """(n,) of a sample."""
    with torch.no_grad():
        return module(sample.features)[:, 0].double().numpy()


class Scores:
    """What modules accept and earn, truly and on the cases that they were trained on.

    Args:
        judge: of the law.
        sample: that they were trained on.
        held_out: that they were not, on which p^ of the priced rule is a logistic of the margin.
    """

    def __init__(self, judge: laws.Judge, sample: laws.Sample, held_out: laws.Sample):
        self.judge, self.sample, self.held_out = judge, sample, held_out

    def of(self, module: nn.Module, r_t: float) -> dict[str, float]:
        """True acceptance, plug-in acceptance on the cases trained on, and the share of all rewards that the
        priced rule truly earns.
        """
        large = self.judge.sample
        margin, own = margins(module, large), torch.from_numpy(margins(module, self.held_out))[:, None]
        offset, slope = logistic(own, self.held_out.label[:, None].double())
        worth = large.reward.double().numpy()
        priced = laws.price_score(float(offset) + float(slope) * margin, worth, r_t)
        label = self.sample.label.numpy().astype(np.int64)
        return {
            "acceptance": self.judge.acceptance(margin, r_t),
            "seen": RiskCurve(margins(module, self.sample), label).largest_threshold(r_t).acceptance,
            "reward": self.judge.acceptance(priced, r_t, worth),
        }


def run(config: TailoringConfig, seed: int) -> pd.DataFrame:
    """One row per capacity, number of cases, draw, r_t and method."""
    judge, rows = laws.judge(config.judge, seed), []
    for n in config.cases:
        for repeat in range(config.repeats):
            own = seed + 1 + repeat
            sample, held_out = laws.draw(n, own), laws.draw(max(n // 2, 2), own + 10_000)
            for capacity in laws.CAPACITIES:
                rows += _one(config, judge, sample, held_out, capacity, own)
    return pd.DataFrame(rows)


def _one(
    config: TailoringConfig,
    judge: laws.Judge,
    sample: laws.Sample,
    held_out: laws.Sample,
    capacity: str,
    seed: int,
) -> list[dict[str, Any]]:
    start, scores = warm_up(config, sample, capacity, seed), Scores(judge, sample, held_out)
    schedule = schedule_of(config, capacity)
    longer = train(start, cross_entropy(sample), schedule, seed + 1)
    label = held_out.label.numpy().astype(np.int64)
    rows = []
    for r_t in config.r_t:
        key = {"capacity": capacity, "n": len(sample), "repeat": seed, "r_t": r_t}

        def row(method: str, module: nn.Module, key=key, r_t=r_t, **more: Any) -> None:
            best = {"best_acceptance": judge.best(r_t), "best_reward": judge.best_reward(r_t)}
            rows.append(key | {"method": method, **scores.of(module, r_t), "step": -1} | best | more)

        row("start", start)
        row("cross-entropy", longer)
        for method, chosen in METHODS.items():
            priced = chosen.get("form") == "priced"
            problem = Problem(sample, config.inputs, config.tests, rewards=priced)
            loss = TailoredLoss(r_t, **chosen)
            if method != "mended":
                row(method, tailor(start, problem, TailoredSettings(loss, schedule), seed + 2).module)
                continue
            fold, last = Fold(SelectionFold(label), lambda module: margins(module, held_out)), None
            for name, rule in SELECTED.items():
                selection = NeverHarm(config.alpha, rule, config.swaps)
                found = tailor(start, problem, TailoredSettings(loss, schedule, 4, selection), seed + 2, fold)
                row(name, found.module, step=found.report.step)
                last = found.last
            assert last is not None
            row(method, last)
    return rows


def warm_up(config: TailoringConfig, sample: laws.Sample, capacity: str, seed: int) -> nn.Module:
    """The start."""
    settings = TrainingSettings(config.warm_steps, WARM_RATE)
    return train(laws.new(capacity, seed), cross_entropy(sample), settings, seed)


def schedule_of(config: TailoringConfig, capacity: str) -> TrainingSettings:
    """Steps after warm-up."""
    return TrainingSettings(config.steps, RATE[capacity], one_cycle=False, average=AVERAGE)


def why(config: TailoringConfig, seed: int) -> pd.DataFrame:
    """What harms a well fitted classifier at the strictest r_t: one row per draw and intervention."""
    judge, rows = laws.judge(config.judge, seed), []
    n = config.why_cases
    for repeat in range(config.repeats):
        own = seed + 1 + repeat
        sample = laws.draw(n, own)
        for capacity in laws.CAPACITIES[1:]:
            start, scores = warm_up(config, sample, capacity, own), Scores(judge, sample, sample)
            before = scores.of(start, _WHY_R_T)
            for width, chosen in (("wide", WIDE), ("narrow", NARROW)):
                for data in ("as trained", "all cases", "fresh cases"):
                    large = data == "all cases"
                    problem = Problem(
                        sample, n if large else config.inputs, n if large else config.tests,
                        fresh=data == "fresh cases",
                    )  # fmt: skip
                    settings = TailoredSettings(
                        TailoredLoss(_WHY_R_T, **chosen), schedule_of(config, capacity),
                        noise_every=config.steps, noise_draws=6,
                    )  # fmt: skip
                    found = tailor(start, problem, settings, own + 2)
                    after = scores.of(found.module, _WHY_R_T)
                    rows.append(
                        {"capacity": capacity, "temperature": width, "data": data, "n": n, "repeat": own,
                         "r_t": _WHY_R_T, "gain": after["acceptance"] - before["acceptance"],
                         "gain_seen": after["seen"] - before["seen"],
                         "signal_to_noise": found.report.noise[0].ratio}
                    )  # fmt: skip
    return pd.DataFrame(rows)
