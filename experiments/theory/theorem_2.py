"""Theorem 2: L~ tends to L at the action taken as beta grows and lambda falls.

L~ is continuous where L jumps.

On a convex program (two amounts, one constraint) and on a finite set of six candidates, both with exact
minimisers, so that what differs is the loss and not a solver.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import torch

from experiments.theory.config import Theorem2Config
from experiments.theory.laws.problems import R_T, Discrete, convex_problem, discrete_problem

PICTURED = ((1.0, 1.0), (3.0, 0.5), (10.0, 0.1), (100.0, 0.01))
_STEP = 1e-6
_POINTS = 401


def run(config: Theorem2Config, seed: int) -> pd.DataFrame:
    """Distance of L~ from L* over all outputs, for every beta and lambda."""
    rows: list[dict[str, Any]] = []
    for name, (problem, output) in _problems(config.cases, seed).items():
        exact = problem.exact(output)
        for penalty in config.penalties:
            for perturbation in config.perturbations:
                gap = (problem.approximate(penalty, perturbation)(output) - exact).abs()
                rows.append(
                    {"problem": name, "beta": penalty, "lambda": perturbation, "n": len(gap),
                     "mean": float(gap.mean()), "largest": float(gap.max()),
                     "differ": float((gap > 0.01).double().mean())}
                )  # fmt: skip
    return pd.DataFrame(rows)


def _problems(cases: int, seed: int) -> dict[str, tuple[Any, torch.Tensor]]:
    return {"convex": convex_problem(cases, seed), "finite": discrete_problem(cases, seed, coupling=0.1)}


def gradients(config: Theorem2Config, seed: int) -> pd.DataFrame:
    """Envelope gradient against central differences, per output; `smooth`: where the minimisers stay the same
    over the step of the differences, so that a gradient exists.
    """
    rows: list[dict[str, Any]] = []
    for name, (problem, output) in _problems(min(config.cases, 500), seed).items():
        for penalty, perturbation in PICTURED:
            loss = problem.approximate(penalty, perturbation)
            at = output.clone().requires_grad_()
            (analytic,) = torch.autograd.grad(loss(at).sum(), at)
            numeric, one_sided = torch.empty_like(output), torch.empty_like(output)
            with torch.no_grad():
                middle = loss(output)
                for k in range(output.shape[1]):
                    step = torch.zeros_like(output)
                    step[:, k] = _STEP
                    up, down = loss(output + step), loss(output - step)
                    numeric[:, k] = (up - down) / (2 * _STEP)
                    one_sided[:, k] = ((up - middle) - (middle - down)) / _STEP  # a kink within the step
            smooth = one_sided.abs().amax(1) < 1e-3
            error = (analytic - numeric).abs().amax(1) / (1.0 + numeric.abs().amax(1))
            rows.append(
                {"problem": name, "beta": penalty, "lambda": perturbation, "n": len(error),
                 "smooth": int(smooth.sum()), "largest_error": float(error[smooth].max())}
            )  # fmt: skip
    return pd.DataFrame(rows)


def path(seed: int = 0) -> pd.DataFrame:
    """L* and L~ along a line of outputs on which the cheapest candidate becomes forbidden half-way."""
    del seed  # the line is fixed
    share = torch.linspace(0, 1, _POINTS, dtype=torch.float64)[:, None]
    middle = math.log(R_T)
    start, end = (torch.tensor([x], dtype=torch.float64) for x in
                  ([middle - 0.5, -3.0, 0.0], [middle + 0.5, -2.5, 0.0]))  # fmt: skip
    cost, loss = torch.tensor([[0.0, 0.4, 1.0]]).double(), torch.tensor([[-1.0, 0.5, 0.0]]).double()
    problem = Discrete(cost.expand(_POINTS, -1), loss.expand(_POINTS, -1), 0.02)
    output = start + share * (end - start)
    frame = pd.DataFrame(
        {"log_risk": (output[:, 0] - middle).numpy(), "exact": problem.exact(output).numpy()}
    )
    for penalty, perturbation in PICTURED:
        frame[f"beta={penalty:g} lambda={perturbation:g}"] = problem.approximate(penalty, perturbation)(
            output
        ).numpy()
    return frame


def largest_steps(frame: pd.DataFrame) -> dict[str, float]:
    """The largest change between neighbouring points of a path, per column."""
    return {str(name): float(np.abs(np.diff(frame[name])).max()) for name in frame.columns[1:]}
