# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # The theory in two dimensions
#
# Everything in the plane, so that it can be drawn: internal test data, how informative they are (ζ), conservative testing (ξ = K ζ), what a
# coverage guard sees, and the approximate loss. The same statements in numbers, in 1, 2 and 8 dimensions: `docs/theory.md`.
#
# This file is the notebook: open it with Jupyter and jupytext, or run it with Python.

# %%
import math

import matplotlib.pyplot as plt
import numpy as np
import torch

from safeframe import InternalTestData, RiskCurve, SafetyGuard
from safeframe.training.approximate_loss import ApproximateLoss
from safeframe.coverage.coverage_guard import CoverageSettings
from safeframe.wasserstein import uniform_box_zeta

rng = np.random.default_rng(0)
BLUE, RED, GREY = "#0072B2", "#D55E00", "#777777"

# %% [markdown]
# ## A law that is known
#
# Safe measurements are uniform on the unit square, unsafe ones on the square moved by .6 along the diagonal. The classifier looks along the
# diagonal too: margin m(y) = 2 (u'y − c). Its logits (−m/2, m/2) change by at most K = √2 per unit of distance.

# %%
U = np.array([1.0, 1.0]) / math.sqrt(2.0)
MOVE, CENTRE, K, PRIOR, TAU = 0.6, 1.1, math.sqrt(2.0), 0.3, -0.2


def classifier(y):
    """Measurements (n, 2) -> logits (n, 2), safe and unsafe."""
    t = y @ U - CENTRE
    return np.stack([-t, t], axis=1)


def margin(y):
    f = classifier(y)
    return f[:, 1] - f[:, 0]


def draw(n, unsafe):
    return rng.random((n, 2)) + unsafe * MOVE * U


fine = (np.stack(np.meshgrid(np.arange(1000), np.arange(1000)), -1).reshape(-1, 2) + 0.5) / 1000
true_unsafe, true_safe = (float((margin(fine + shift) < TAU).mean()) for shift in (MOVE * U, 0.0))
truth = PRIOR * true_unsafe / (PRIOR * true_unsafe + (1 - PRIOR) * true_safe)
print(f"p(accept | unsafe) = {true_unsafe:.4f}, p(accept | safe) = {true_safe:.4f}, P(unsafe | accepted) = {truth:.4f}")

# %% [markdown]
# ## How informative are the internal test data?
#
# ζ is how far the law must be moved, at most, to become the data: a coupling. For 100 cases the square is cut into 100 equal cells and every cell
# goes to one case, so that the farthest corner is as near as possible (a bottleneck matching). Diverse cases make it small, repetitive ones of
# the same number make it large.

# %%
SIDE = 10
centres = (np.stack(np.meshgrid(np.arange(SIDE), np.arange(SIDE)), -1).reshape(-1, 2) + 0.5) / SIDE
data = {
    "one in every cell": centres + rng.uniform(-0.5, 0.5, centres.shape) / SIDE,
    "independent": rng.random(centres.shape),
    "five cases, repeated": np.clip(
        np.repeat(rng.random((5, 2)), 20, axis=0) + 0.01 * rng.normal(size=centres.shape), 0, 1
    ),
}
zeta = {name: uniform_box_zeta(points, np.zeros(2), np.ones(2), SIDE) for name, points in data.items()}
figure, axes = plt.subplots(1, 3, figsize=(10, 3.6), layout="constrained")
for panel, (name, points) in zip(axes, data.items()):
    panel.scatter(*points.T, s=10, color=BLUE)
    panel.add_patch(plt.Circle(points[0], zeta[name], fill=False, color=RED))
    panel.set(xlim=(-0.1, 1.1), ylim=(-0.1, 1.1), aspect="equal", title=f"{name}: ζ ≤ {zeta[name]:.2f}")
plt.show()

# %% [markdown]
# ## Conservative testing
#
# Every unsafe case counts as accepted if some point within ξ = K ζ of its logits is; every safe case only if all are. In the plane: cases within the
# band around the boundary m = τ count against us. The share of unsafe cases beyond the band's upper edge bounds p(accept | unsafe) from above,
# whatever the draw, and so the posterior.

# %%
figure, axes = plt.subplots(1, 3, figsize=(10, 3.8), layout="constrained")
holds = []
for panel, (name, points) in zip(axes, data.items()):
    safe, unsafe = points, points + MOVE * U
    xi = K * zeta[name]
    values = margin(np.concatenate([safe, unsafe]))
    label = np.repeat([0, 1], len(points))
    plug_in, bound = (float(RiskCurve(values, label, PRIOR, radius).bound(TAU)) for radius in (0.0, xi))
    holds.append(truth <= bound)
    panel.scatter(*safe.T, s=8, color=BLUE, label="safe")
    panel.scatter(*unsafe.T, s=8, color=RED, label="unsafe")
    x = np.linspace(-0.2, 1.6, 2)
    for shift, style in ((0.0, "-"), (math.sqrt(2.0) * xi, "--"), (-math.sqrt(2.0) * xi, "--")):
        panel.plot(x, ((TAU + shift) / 2 + CENTRE) * math.sqrt(2.0) - x, style, color=GREY, linewidth=1)
    panel.set(xlim=(-0.1, 1.6), ylim=(-0.1, 1.6), aspect="equal", title=f"plug-in {plug_in:.3f}, bound {bound:.3f}")
axes[0].legend(loc="lower left", fontsize=7)
plt.show()
print(f"truth {truth:.4f} below the bound of all three data sets: {all(holds)}")

# %% [markdown]
# The plug-in estimate is near the truth or far below it, and nothing tells which. The bound holds for all three, and says how good the data are: with
# five cases repeated twenty times it is useless.
#
# ## What a coverage guard sees
#
# A guard with `coverage` takes the default action where the measurement is farther from the internal test data than all but a share ε of new
# cases like them. Inside, everything goes on as before; a change of the law *within* the data is invisible to it.

# %%
unsafe_label = (rng.random(6000) < PRIOR).astype(int)
cases = rng.random((6000, 2)) + unsafe_label[:, None] * MOVE * U
guard = SafetyGuard(
    lambda y: y[:, 0], classifier, InternalTestData(cases, unsafe_label), threshold=0.1, default_action=0.0,
    coverage=CoverageSettings(epsilon=0.01),
)
guard.calibrate()
ticks = np.linspace(-0.6, 2.2, 200)
plane = np.stack(np.meshgrid(ticks, ticks), -1).reshape(-1, 2)
acted = guard.act(plane)
state = np.where(acted.accepted, 2, np.where(acted.covered, 1, 0)).reshape(200, 200)
figure, panel = plt.subplots(figsize=(5, 4.2), layout="constrained")
panel.contourf(ticks, ticks, state, levels=[-0.5, 0.5, 1.5, 2.5], colors=["#eeeeee", "#f3c9b5", "#bcd8ea"])
panel.scatter(*cases[:800].T, s=2, color=np.where(unsafe_label[:800, None] == 1, [[0.84, 0.37, 0.0]], [[0.0, 0.45, 0.7]]))
panel.set(aspect="equal", title="blue: accepted, red: refused by the bound,\ngrey: not covered")
plt.show()
far = guard.act(np.array([[-2.0, -2.0]]))
print(far.explain(0))
fresh = rng.random((50_000, 2)) + (rng.random((50_000, 1)) < PRIOR) * MOVE * U
fires = float((~guard.act(fresh).covered).mean())
print(f"refused in distribution: {fires:.4f} (at most {guard.settings.coverage.epsilon} with confidence 0.95)")

# %% [markdown]
# ## The approximate loss
#
# The action taken jumps where the best candidate becomes forbidden, and so does its loss L*. The approximate loss L̃ goes over continuously, with a
# gradient that training can follow; as β grows and λ falls it tends to L* (Theorem 2).

# %%
cost, loss = torch.tensor([0.0, 0.4, 1.0]), torch.tensor([-1.0, 0.5, 0.0])


def approximate(beta, weight):
    """Three candidates; the first is allowed while the output o, its log risk less log r_t, is below 0."""

    def slack(o):
        return torch.stack([-o, torch.full_like(o, 1.0), torch.full_like(o, 1.0)], dim=1)

    def table(w, o):
        return cost - beta * slack(o).clamp(max=0.0) + w * loss

    def pick(values, k):
        return values.expand(len(k), 3).gather(1, k[:, None]).squeeze(1)

    return ApproximateLoss(
        objective=lambda k, o: pick(cost, k),
        loss=lambda k, o: pick(loss, k),
        constraints=lambda k, o: slack(o).gather(1, k[:, None]),
        minimiser=lambda w, o: table(w, o).argmin(1),
        penalty=beta,
        perturbation=weight,
    )


o = torch.linspace(-0.5, 0.5, 401)
figure, panel = plt.subplots(figsize=(6, 3.4), layout="constrained")
gaps = []
for beta, weight in ((1.0, 1.0), (3.0, 0.5), (10.0, 0.1), (100.0, 0.01)):
    value = approximate(beta, weight)(o)
    gaps.append(float((value - torch.where(o <= 0, -1.0, 0.5)).abs().mean()))
    panel.plot(o, value, label=f"β = {beta:g}, λ = {weight:g}")
panel.plot(o, torch.where(o <= 0, -1.0, 0.5), "k--", linewidth=1, label="L*")
panel.set(xlabel="log risk of the best candidate less log r_t", ylabel="loss")
panel.legend(fontsize=7)
plt.show()
print(f"mean distance to L* falls: {' > '.join(f'{gap:.3f}' for gap in gaps)}: {gaps == sorted(gaps, reverse=True)}")
