"""Two problems with exact minimisers for the approximate loss (Theorem 2), one convex and one finite.

Convex: u in R^2, J = |u - a|^2 / 2, L = |u - d|^2 / 2, c = h - g'u, with output o = (a, h). The penalised
minimum is the unconstrained one, moved along g until the constraint holds or the penalty is used up.
Discrete: K candidates, J_k = cost_k + coupling * o_k^2, L_k given, c_k = log r_t - o_k, with output o (b, K)
the log violation probabilities.
"""

import math

import torch

from safeframe.training.approximate_loss import ApproximateLoss

NORMAL = torch.tensor([1.0, 2.0], dtype=torch.float64)
R_T = 0.1


class Convex:
    """(b, 3) outputs; demand (b, 2) is the d of the loss."""

    def __init__(self, demand):
        self.demand = demand

    def free(self, weight, output):
        """Minimisers (b, 2) without the constraint and their excess over it, in units of g."""
        action = (output[:, :2] + weight * self.demand) / (1 + weight)
        return action, (action @ NORMAL - output[:, 2]) / NORMAL.square().sum()

    def minimiser(self, penalty):
        def solve(weight, output):
            action, excess = self.free(weight, output)
            return action - excess.clamp(0.0, penalty / (1 + weight))[:, None] * NORMAL

        return solve

    def multipliers(self, penalty):
        def of(weight, action, output):
            return ((1 + weight) * self.free(weight, output)[1]).clamp(0.0, penalty)[:, None]

        return of

    def loss_of(self, action):
        return (action - self.demand).square().sum(1) / 2

    def approximate(self, penalty, perturbation, minimiser=None, multipliers=None):
        return ApproximateLoss(
            objective=lambda u, o: (u - o[:, :2]).square().sum(1) / 2,
            loss=lambda u, o: self.loss_of(u),
            constraints=lambda u, o: (o[:, 2] - u @ NORMAL)[:, None],
            minimiser=minimiser or self.minimiser(penalty),
            penalty=penalty,
            perturbation=perturbation,
            multipliers=multipliers or self.multipliers(penalty),
        )

    def exact(self, output):
        """(b,) L at the action of the hard-constrained problem."""
        return self.loss_of(self.minimiser(math.inf)(0.0, output))


class Discrete:
    """(b, K) outputs; cost (b, K) and loss (b, K) of the candidates; the last candidate is always allowed."""

    def __init__(self, cost, loss, coupling=0.0):
        self.cost, self.loss, self.coupling = cost, loss, coupling

    def objective(self, output):
        return self.cost + self.coupling * output.square()

    def slack(self, output):
        slack = math.log(R_T) - output
        return torch.cat([slack[:, :-1], torch.zeros_like(slack[:, -1:])], dim=1)

    def table(self, penalty, weight, output):
        """(b, K) of the penalised problem."""
        return self.objective(output) - penalty * self.slack(output).clamp(max=0.0) + weight * self.loss

    def approximate(self, penalty, perturbation):
        def pick(values, action):
            return values.gather(1, action[:, None]).squeeze(1)

        return ApproximateLoss(
            objective=lambda k, o: pick(self.objective(o), k),
            loss=lambda k, o: pick(self.loss, k),
            constraints=lambda k, o: pick(self.slack(o), k)[:, None],
            minimiser=lambda weight, o: self.table(penalty, weight, o).argmin(1),
            penalty=penalty,
            perturbation=perturbation,
        )

    def exact(self, output):
        """(b,) L of the cheapest allowed candidate."""
        allowed = self.objective(output).masked_fill(self.slack(output) < 0, math.inf)
        return self.loss.gather(1, allowed.argmin(1, keepdim=True)).squeeze(1)


def convex_problem(n, seed):
    """(Convex, output (n, 3)), the constraint binding in most cases."""
    generator = torch.Generator().manual_seed(seed)
    output = torch.randn(n, 3, generator=generator, dtype=torch.float64)
    return Convex(torch.randn(n, 2, generator=generator, dtype=torch.float64)), output


def discrete_problem(n, seed, candidates=6, coupling=0.0):
    """(Discrete, output (n, candidates)), about half of the candidates allowed."""
    generator = torch.Generator().manual_seed(seed)
    cost, loss, output = torch.randn(3, n, candidates, generator=generator, dtype=torch.float64)
    cost[:, -1] += 1.0
    return Discrete(cost, loss, coupling), math.log(R_T) + output
