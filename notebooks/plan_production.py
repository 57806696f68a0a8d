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
# # A year of production
#
# Four products are planned a day ahead from the last 24 hours of demand. Making a product in an hour in which its demand turns out below 3 (on a scale of 0
# to 10) is a violation. The guard closes a product where the risk of that is too high, so that at most a share `r_t` of what is made is a violation, for
# every product. This notebook walks through one year: demand, risk, thresholds, what was made, what went wrong and why.
#
# As it stands demand is synthetic, with a law that is known. `SAFEFRAME_EIA_CSV=/path/to/demand.csv.gz` takes hourly electricity demand instead, four years
# or more of any region (`docs/experiments/production.md` has the format). This file is the notebook: open it with Jupyter and jupytext, or run it with Python.

# %%
import os

import matplotlib.pyplot as plt
import numpy as np
import torch

from experiments.production.config import TrainingConfig
from experiments.production.decomposition import likelihoods
from experiments.production.demand.described import described
from experiments.production.demand.sources import Quarter, load_eia, synthetic, truth_probability
from experiments.production.guard.service import SERVICES, Clock, InService, risk_scale
from experiments.production.models import supervised
from experiments.production.models.networks import Inputs
from experiments.production.planning import ProductionProblem, plan, produced, revenue, violations
from experiments.production.reporting.decomposition import COUNTS, FACTORS, factors
from safeframe.risk_curve import RiskCurve

torch.set_num_threads(1)
R_T, WEEK, COLOURS = 0.01, 168, ("#0072B2", "#D55E00", "#009E73", "#CC79A7")
RED, GREY = "#C00000", "#777777"
PATH = os.environ.get("SAFEFRAME_EIA_CSV")

# %% [markdown]
# ## Demand
#
# Networks learn from the first two years, thresholds come from the third, and the plan is for the fourth. The reader says how demand was scaled, what was
# clipped, and how the share of unsafe hours moved from year to year: the thresholds of one year are right for another only as far as it did not.

# %%
ORDER = (Quarter.TRAINING, Quarter.INTERNAL_TEST_TRAINING, Quarter.INTERNAL_TEST_VALIDATION, Quarter.VALIDATION)
data = load_eia(PATH, order=ORDER) if PATH else synthetic(0, order=ORDER)
known, calibration, year = data.where(*ORDER[:2]), data.where(ORDER[2]), data.where(ORDER[3])
print("\n".join(described(data)))

figure, axes = plt.subplots(1, 2, figsize=(11, 3.4), layout="constrained")
for i, name in enumerate(data.names):
    axes[0].plot(np.arange(2 * WEEK) / 24, data.demand[year[: 2 * WEEK], i], color=COLOURS[i], linewidth=1, label=name)
axes[0].axhline(3, color=RED, linestyle=":")
axes[0].set(xlabel="day of the year in use", ylabel="demand", title="two weeks; below the dotted line making it is a violation")
axes[0].legend(fontsize=7, ncols=2)
share = np.array([[data.unsafe[year[data.calendar[year, 0] == h], i].mean() for h in range(24)] for i in range(4)])
for i, name in enumerate(data.names):
    axes[1].plot(100 * share[i], color=COLOURS[i])
axes[1].set(xlabel="hour of the day (UTC)", ylabel="unsafe hours (%)", title="when demand is too low")
plt.show()

# %% [markdown]
# ## Risk
#
# Three networks see the same 24 hours: one predicts demand, one its mean and spread, one whether it falls below 3. The last two, joined by a logistic
# regression on the third year, give a risk for every product and hour of the fourth. (Six passes over the cases, where an experiment makes thirty.)

# %%
inputs, settings = Inputs(data, with_calendar=False), TrainingConfig(epochs=6)


def network(outputs, hidden, loss):
    return inputs.outputs(supervised.fit(inputs, torch.from_numpy(known), outputs, hidden, loss, settings, seed=0))


predicted = network(4, 16, supervised.demand_loss(inputs))
margin = network(4, 8, supervised.cross_entropy(inputs))
mean, spread = (part.numpy() for part in supervised.mean_and_spread(torch.from_numpy(network(8, 16, supervised.gaussian_loss(inputs)))))
risk = risk_scale([margin, (3 - mean) / spread], data.unsafe, calibration)

figure, axes = plt.subplots(1, 2, figsize=(11, 3.6), layout="constrained")
for i, name in enumerate(data.names):
    edges = np.quantile(risk[year, i], np.linspace(0, 1, 13))
    cell = np.clip(np.searchsorted(edges, risk[year, i], side="right") - 1, 0, 11)
    points = [(risk[year, i][cell == c].mean(), data.unsafe[year, i][cell == c].mean()) for c in range(12)]
    axes[0].plot(*np.maximum(np.array(points).T, 1e-4), ".-", color=COLOURS[i], label=name)
axes[0].plot([1e-4, 1], [1e-4, 1], ":", color=GREY)
axes[0].set(xscale="log", yscale="log", xlabel="risk as predicted", ylabel="share of unsafe hours in the year in use", title="is the risk right?")
axes[0].legend(fontsize=7)
hours = year[: 2 * WEEK]
axes[1].semilogy(np.arange(2 * WEEK) / 24, risk[hours, 0], color=COLOURS[0], label="predicted")
if data.truth_mean is not None:
    axes[1].semilogy(np.arange(2 * WEEK) / 24, truth_probability(data)[hours, 0], color=GREY, linewidth=0.8, label="true")
low = data.unsafe[hours, 0]
axes[1].plot(np.flatnonzero(low) / 24, np.full(low.sum(), 1.5), "|", color=RED, label="demand was below 3")
axes[1].set(xlabel="day of the year in use", ylabel=f"risk of {data.names[0]}", ylim=(1e-6, 2.5))
axes[1].legend(fontsize=7, loc="lower right")
plt.show()

# %% [markdown]
# ## Thresholds
#
# On the third year every threshold on the risk has a share of unsafe hours among those below it: the risk curve. The plug-in rule of the paper takes the
# largest threshold whose share is at most `r_t`. It does not see that few unsafe hours say little; the other rule counts what it saw as a draw, borrows
# from the calibrated risk where hours are few, and takes the one threshold at which the bound of the worst product is at most `r_t`.

# %%
clock = Clock(lead=data.lead, delay=24, renew=WEEK, window=8760)
years = data.by_period(*ORDER[:3])
service = InService(risk, data.unsafe, data.target_hour, calibration, year, years, clock)
plug_in, careful = (service.thresholds(SERVICES[name], calibration, [R_T])[0] for name in ("static_plug_in", "worst_product_strict"))
figure, axis = plt.subplots(figsize=(7, 3.6), layout="constrained")
grid = np.linspace(-12, 2, 400)
for i, name in enumerate(data.names):
    curve = RiskCurve(service.scale[calibration, i], data.unsafe[calibration, i].astype(int))
    axis.plot(grid, np.maximum(curve.bound(grid), 2e-5), color=COLOURS[i], label=name)
    axis.plot(plug_in[i], R_T, "v", color=COLOURS[i])
axis.axvline(careful[0], color=GREY, linestyle="--", label="one threshold for all")
axis.axhline(R_T, color=RED, linestyle=":")
axis.set(yscale="log", xlabel="threshold on the log odds of the risk", ylabel="unsafe among those below it", title="the third year; triangles: the plug-in rule")
axis.legend(fontsize=7)
plt.show()
for i, name in enumerate(data.names):
    accepted = service.scale[calibration, i] < plug_in[i]
    print(f"{name}: plug-in threshold {plug_in[i]:.2f}, {data.unsafe[calibration, i][accepted].sum()} unsafe of {accepted.sum():,} accepted in the year calibrated on")

# %% [markdown]
# ## The plan
#
# A product may be made in an hour in which its risk lies below its threshold; how much of each is then a small quadratic program with limited capacity, solved
# exactly for the whole year at once. Two guards: the plug-in thresholds, kept for the year, and the careful rule, renewed every week from the newest known
# hours (demand is known a day after the hour).

# %%
problem, demand = ProductionProblem(), data.demand[year].astype(float)
gates = {
    "no guard": np.ones(demand.shape, bool),
    "plug-in, kept": service.gates(SERVICES["static_plug_in"], [R_T])[0],
    "worst product, weekly": service.gates(SERVICES["worst_product_strict"], [R_T])[0],
}
plans = {name: plan(problem, predicted[year], gate).action for name, gate in gates.items()}
best = revenue(problem, plan(problem, demand, demand >= 3).action, demand).sum()
earned = {name: revenue(problem, action, demand).sum() / best for name, action in plans.items()}
over = {name: violations(action, demand).sum(0) / np.maximum(produced(action).sum(0), 1) / R_T for name, action in plans.items()}
for name in plans:
    print(f"{name}: revenue {earned[name]:.2f} of the best, violations / r_t {', '.join(f'{value:.2f}' for value in over[name])}")

name = "worst product, weekly"
figure, axes = plt.subplots(4, 1, figsize=(11, 6), sharex=True, layout="constrained")
start = 12 * WEEK
for i, axis in enumerate(axes):
    span = slice(start, start + 2 * WEEK)
    x, made, bad = np.arange(2 * WEEK) / 24, plans[name][span, i], violations(plans[name], demand)[span, i]
    axis.plot(x, demand[span, i], color=COLOURS[i], linewidth=1)
    axis.bar(x, made, width=1 / 24, color=COLOURS[i], alpha=0.35)
    axis.bar(x[bad], made[bad], width=1 / 24, color=RED)
    axis.fill_between(x, 0, 10, where=~gates[name][span, i], color="#DDDDDD", linewidth=0, step="mid")
    axis.axhline(3, color=RED, linestyle=":", linewidth=0.8)
    axis.set(ylim=(0, 10), ylabel=data.names[i])
axes[0].set_title("line: demand; bars: made (red: a violation); grey: closed by the guard")
axes[-1].set_xlabel("day, from the thirteenth week on")
plt.show()

# %% [markdown]
# ## What went wrong
#
# Violations through the year, beside what the promise allows so far.

# %%
figure, axes = plt.subplots(1, 4, figsize=(12, 3.2), layout="constrained")
for i, axis in enumerate(axes):
    for name, colour in (("plug-in, kept", GREY), ("worst product, weekly", COLOURS[i])):
        made, bad = produced(plans[name])[:, i], violations(plans[name], demand)[:, i]
        axis.plot(np.arange(len(made)) / 24, np.cumsum(bad), color=colour, label=name)
        axis.plot(np.arange(len(made)) / 24, R_T * np.cumsum(made), ":", color=colour)
    axis.set(title=data.names[i], xlabel="day")
axes[0].set_ylabel("violations so far (dotted: allowed)")
axes[0].legend(fontsize=7)
plt.show()

# %% [markdown]
# Why? P(unsafe | accepted) has the odds (U / L) · odds of an unsafe hour, with U the share of unsafe hours that is accepted and L that of safe ones. So what the plug-in
# thresholds have over `r_t` in the new year is a product of four factors: how little the old year's few unsafe cases said, and what moved in U, in L and in the prior.

# %%
levels = [1e-3, 1e-2, 1e-1]
counts = likelihoods(service.scale, service.thresholds(SERVICES["static_plug_in"], calibration, levels), levels, data)
sums = counts.groupby(["role", "product", "r_t"], sort=False)[list(COUNTS)].sum()
found = {r_t: [] for r_t in levels}
for name in data.names:
    for r_t in levels:
        old, new = (sums.loc[(int(role), name, r_t)].to_numpy(float) for role in ORDER[2:])
        moved = factors(old, new, r_t)
        found[r_t].append([float(moved[key]) for key in FACTORS])
        parts = ", ".join(f"{key} {float(moved[key]):.2f}" for key in FACTORS)
        print(f"{name}, r_t = {r_t}: odds over those of r_t {float(moved['excess']):.2f} = {parts}")

figure, axes = plt.subplots(1, 3, figsize=(12, 3.2), sharey=True, layout="constrained")
ticks = np.arange(-4, 6)
for axis, r_t in zip(axes, levels):
    for k, (key, label) in enumerate(zip(FACTORS, ("few cases", "unsafe accepted (U)", "safe accepted (L)", "prior"))):
        axis.bar(np.arange(4) + 0.2 * k - 0.3, np.log2(np.maximum(np.array(found[r_t])[:, k], 1 / 16)), width=0.2, color=COLOURS[k], label=label)
    axis.axhline(0, color=GREY, linewidth=0.8)
    axis.set(title=f"r_t = {r_t}", xticks=range(4), yticks=ticks, yticklabels=[f"{2.0**y:g}" for y in ticks], ylim=(-2.2, 4.2))
    axis.set_xticklabels(data.names, fontsize=7)
axes[0].set_ylabel("factor on the odds")
axes[0].legend(fontsize=7)
plt.show()
product = np.prod(found[R_T], axis=1)
accepted = sums.xs((int(ORDER[3]), R_T), level=("role", "r_t")).loc[list(data.names)]
print("the factors multiply to the odds over those of r_t:", bool(np.allclose(product, accepted["accepted_unsafe"] / accepted["accepted_safe"] / (R_T / (1 - R_T)))))
