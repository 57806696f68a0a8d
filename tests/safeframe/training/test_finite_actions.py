"""Finite inner problems, gated and priced: values by enumeration, gradients by differences, bad input."""

import math

import pytest
import torch

from safeframe.training.finite_actions import FiniteActions
from safeframe.types import SafeframeError

R_T = 0.1


def tensor(values):
    return torch.tensor(values, dtype=torch.float64)


def patterns(g):
    return tensor([[(k >> i) & 1 for i in range(g)] for k in range(2**g)])


def problem(b=40, g=3, seed=0, apart=False):
    generator = torch.Generator().manual_seed(seed)
    uses = patterns(g)
    draw = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)  # noqa: E731
    shape = b, len(uses)
    other = (draw(*shape), draw(*shape)) if apart else (None, None)
    unit = torch.rand(g, generator=generator, dtype=torch.float64) + 0.5
    actions = FiniteActions(draw(*shape), draw(*shape), uses, *other, unit=unit)
    return actions, torch.log(torch.rand(b, g, generator=generator, dtype=torch.float64))


def by_hand(actions, row, weight, cost):
    """min over actions of weight L + J + cost of the constraints used, straight from the formula."""
    j, task = actions.objective[row], actions.loss[row]
    if weight and actions.objective_with_loss is not None:
        j, task = actions.objective_with_loss[row], actions.loss_with_loss[row]
    values = []
    for a, used in enumerate(actions.uses):
        values.append(float(j[a] + weight * task[a]) + sum(cost(i) for i in range(len(used)) if used[i]))
    return min(values)


@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("form", ["gated", "priced"])
def test_values_by_enumeration(apart, form):
    actions, log_p = problem(apart=apart)
    strength, weight = 0.7, 0.8
    if form == "gated":
        got = actions.gated(R_T, strength, weight)(log_p)
    else:
        got = actions.priced(R_T, strength, weight)(log_p.exp())
    for row in range(len(log_p)):

        def cost(i, row=row):
            unit = float(actions.unit[i])
            if form == "gated":
                return strength * unit * max(float(log_p[row, i]) - math.log(R_T), 0.0)
            return strength * unit * (math.exp(float(log_p[row, i])) - R_T)

        wanted = (by_hand(actions, row, weight, cost) - by_hand(actions, row, 0.0, cost)) / weight
        assert float(got[row]) == pytest.approx(wanted, abs=1e-12)


@pytest.mark.parametrize("form", ["gated", "priced"])
def test_gradients_by_differences(form):
    actions, log_p = problem(200)
    loss = actions.gated(R_T, 0.7, 0.8) if form == "gated" else actions.priced(R_T, 2.0, 0.8)
    at = (log_p if form == "gated" else log_p.exp()).clone()
    leaf = at.clone().requires_grad_()
    (slope,) = torch.autograd.grad(loss(leaf).sum(), leaf)
    h, wanted, kink = 1e-6, torch.zeros_like(at), torch.zeros_like(at)
    for i in range(at.shape[1]):
        step = torch.zeros_like(at)
        step[:, i] = h
        up, down = loss(at + step), loss(at - step)
        wanted[:, i], kink[:, i] = (up - down) / (2 * h), (up + down - 2 * loss(at)).abs() / h
    smooth = kink.amax(1) < 1e-3
    assert smooth.float().mean() > 0.95
    assert (wanted[smooth].abs() > 0.1).any(1).float().mean() > 0.2
    torch.testing.assert_close(slope[smooth], wanted[smooth], atol=1e-6, rtol=1e-6)


def test_the_priced_form_is_the_gated_one_where_both_act_up_to_the_same_risk():
    """One action worth 1: priced, it is taken iff p < r_t + 1 / mu."""
    p = torch.linspace(0.01, 0.99, 99, dtype=torch.float64)[:, None]
    actions = FiniteActions(
        tensor([[0.0, -1.0]]).expand(99, 2), tensor([[0.0, -1.0]]).expand(99, 2), tensor([[0.0], [1.0]])
    )
    loss = actions.priced(R_T, 4.0, 0.5)
    taken = loss.minimiser(0.0, p)[0] == 1
    assert torch.equal(taken, p[:, 0] < R_T + 0.25)
    assert torch.equal(loss.minimiser(0.5, p)[0] == 1, p[:, 0] < R_T + 1.5 / 4.0)


def test_rows_and_an_infinite_price():
    actions, log_p = problem(10, apart=True)
    index = torch.tensor([3, 3, 7])
    whole, part = actions.gated(R_T, 0.5, 0.5)(log_p), actions.rows(index).gated(R_T, 0.5, 0.5)(log_p[index])
    torch.testing.assert_close(part, whole[index], atol=0, rtol=0)
    never = actions.priced(R_T, 1e9, 0.5).minimiser(0.0, torch.full_like(log_p, 0.9))[0]
    assert (never == 0).all()  # nothing that uses a constraint above r_t


def test_shapes_that_do_not_fit():
    with pytest.raises(SafeframeError, match="inputs, actions"):
        FiniteActions(torch.zeros(3, 2), torch.zeros(3, 4), torch.zeros(2, 1))
    with pytest.raises(SafeframeError, match=r"expected \(2, constraints\)"):
        FiniteActions(torch.zeros(3, 2), torch.zeros(3, 2), torch.zeros(3, 1))
    actions = FiniteActions(torch.zeros(3, 2), torch.zeros(3, 2), torch.zeros(2, 1))
    with pytest.raises(SafeframeError, match="price"):
        actions.priced(R_T, -1.0, 1.0)
    with pytest.raises(SafeframeError, match="beta"):
        actions.gated(R_T, -1.0, 1.0)
    for r_t in (0.0, 1.5):
        with pytest.raises(SafeframeError):
            actions.gated(r_t, 1.0, 1.0)
