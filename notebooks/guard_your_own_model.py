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
# # Guard your own model
#
# A model proposes actions; some of them would be unsafe. You have labelled cases from the past (*internal test data*) and a classifier that
# tells safe from unsafe, more or less. `SafetyGuard` accepts an action only where the bound on the probability that it is unsafe is at most
# your threshold `r_t`, and takes a default action elsewhere (arXiv 2504.20924).
#
# This file is the notebook: open it with Jupyter and jupytext, or run it with Python.

# %%
import tempfile

import numpy as np

from safeframe import InternalTestData, RiskCurve, SafetyGuard

rng = np.random.default_rng(0)


def draw(n):
    """Measurements (n, 3) and whether acting was unsafe: it is where the first coordinate plus noise exceeds 1."""
    y = rng.normal(size=(n, 3))
    return y, (y[:, 0] + 0.3 * rng.normal(size=n) > 1).astype(int)


def model(y):
    """Yours: measurements -> actions."""
    return y.sum(axis=1)


def classifier(y):
    """Yours: measurements -> logits (safe, unsafe). Any torch module does as well."""
    return np.stack([1 - y[:, 0], y[:, 0] - 1], axis=1)


# %% [markdown]
# ## Calibrate and act
#
# Internal test data must not be those that the classifier was trained on.

# %%
data = InternalTestData(*draw(20_000))
guard = SafetyGuard(model, classifier, data, threshold=[1e-3, 1e-2, 1e-1], default_action=0.0)
for r_t, calibration in guard.calibrate().items():
    print(calibration["all"].summary)

# %%
guarded = guard.act(draw(6)[0], r_t=1e-3)
for i in range(6):
    print(f"{guarded.action[i]:7.3f}  {guarded.explain(i)}")

# %% [markdown]
# ## Does it hold?
#
# On many fresh cases, the share of unsafe ones among the accepted:

# %%
fresh, unsafe = draw(500_000)
shares = {r_t: unsafe[guard.act(fresh, r_t=r_t).accepted].mean() for r_t in (1e-3, 1e-2, 1e-1)}
for r_t, share in shares.items():
    print(f"r_t = {r_t:g}: {share:.2e} of the accepted were unsafe")

# %% [markdown]
# They lie around the thresholds, some perhaps above: a bound estimated from finitely many cases and a threshold chosen to sit just below
# `r_t` is right on average, not always. Two remedies:
#
# - **conservative testing** (`radius`): every case counts as the worst within a ball of its logits, `radius="measured"` takes the ball's size from
#   how much blocks of the data differ from one another;
# - **a certificate** (`rule="certificate"`): half of the data is set aside, and the threshold is chosen by a test that fails with probability
#   at most `certificate_delta`.

# %%
settings = {
    "plain": {},
    "radius 0.1": {"radius": 0.1},
    "certificate": {"certificate_delta": 0.05, "rule": "certificate"},
}
measured = {}
for name, setting in settings.items():
    other = SafetyGuard(model, classifier, data, threshold=1e-2, default_action=0.0, **setting)
    other.calibrate()
    accepted = other.act(fresh).accepted
    measured[name] = (accepted.mean(), unsafe[accepted].mean())
    print(f"{name:12s} accepts {accepted.mean():.1%}, unsafe among them {unsafe[accepted].mean():.2e}")

# %% [markdown]
# ## The whole curve
#
# `RiskCurve` gives the bound at every margin at once, exactly, and the largest margin for every threshold.

# %%
logits = classifier(data.measurement)
curve = RiskCurve(logits[:, 1] - logits[:, 0], data.label, radius=0.05)
for r_t in (1e-3, 1e-2, 1e-1):
    found = curve.largest_threshold(r_t)
    print(f"r_t = {r_t:g}: accept margins below {found.tau:.3f}, {found.acceptance:.1%} of all cases")

# %% [markdown]
# ## Keep it
#
# What is saved are settings and evidence with checksums, not your model. Loading checks that the classifier is the one that was calibrated.

# %%
with tempfile.TemporaryDirectory() as directory:
    guard.save(directory)
    again = SafetyGuard.load(directory, model=model, classifier=classifier)
print((again.act(fresh, r_t=1e-3).accepted == guard.act(fresh, r_t=1e-3).accepted).all())
