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
import pandas as pd
import torch
from sklearn.linear_model import LogisticRegression
from transformers import BertConfig, BertForSequenceClassification

from safeframe import Certified, Conservative, InternalTestData, PlugIn, RiskCurve, SafetyGuard

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
# They stay below. The bound is not the share that was seen: it counts how much the halves of the data differ from one another, and one unsafe
# case more than was seen. What each part adds:

# %%
for name, bound in guard.calibrations[1e-2]["all"].parts.items():
    print(f"{name:10s} P(unsafe | accepted) <= {bound:.2e}")

# %% [markdown]
# ## Other rules
#
# - `PlugIn()` is the paper's estimate alone: it lies around the threshold, above it in about half of all draws;
# - `Certified(0.05)` sets half of the data aside, and chooses the threshold by a test that fails with probability at most .05.

# %%
rules = {"conservative": Conservative(), "plug-in": PlugIn(), "certified": Certified(0.05)}
for name, rule in rules.items():
    other = SafetyGuard(model, classifier, data, threshold=1e-2, default_action=0.0, rule=rule)
    other.calibrate()
    accepted = other.act(fresh).accepted
    print(f"{name:12s} accepts {accepted.mean():.1%}, unsafe among them {unsafe[accepted].mean():.2e}")

# %% [markdown]
# With few cases the plug-in rule promises what it cannot know, and the default refuses:

# %%
few = InternalTestData(*draw(200))
for name in ("conservative", "plug-in"):
    other = SafetyGuard(model, classifier, few, threshold=1e-4, default_action=0.0, rule=rules[name])
    found = other.calibrate()[1e-4]["all"]
    accepted = other.act(fresh).accepted
    truth = unsafe[accepted].mean() if accepted.any() else 0.0
    print(f"200 cases, {name}: bound {found.accepted_risk:.2g}, accepts {accepted.mean():.0%}, truly unsafe {truth:.1e}")

# %% [markdown]
# ## Your own model: a frame and scikit-learn
#
# Measurements may be a data frame, labels words, the classifier an estimator.

# %%
def as_frame(n):
    y, label = draw(n)
    return pd.DataFrame(y, columns=["load", "wind", "age"]), np.where(label == 1, "unsafe", "safe")


estimator = LogisticRegression().fit(*as_frame(5_000))
frames = SafetyGuard(
    lambda frame: frame["load"] + frame["wind"], estimator, InternalTestData(*as_frame(20_000), unsafe="unsafe"),
    threshold=1e-2, default_action=0.0, unsafe_label="unsafe",
)
frames.calibrate()
later, word = as_frame(200_000)
accepted = frames.act(later).accepted
print(f"scikit-learn on a frame: accepts {accepted.mean():.1%}, unsafe among them {(word[accepted] == 'unsafe').mean():.2e}")

# %% [markdown]
# ## A torch network, and rows that cannot be judged
#
# A module is called in evaluation mode, on its own device and type. In service the guard is fail-safe: a row that cannot be judged takes the default
# action and is counted.

# %%
network = torch.nn.Sequential(torch.nn.Linear(3, 32), torch.nn.Dropout(0.1), torch.nn.ReLU(), torch.nn.Linear(32, 2))
y, label = (torch.as_tensor(part) for part in draw(5_000))
optimiser = torch.optim.Adam(network.parameters(), 1e-2)
for _ in range(200):
    optimiser.zero_grad()
    torch.nn.functional.cross_entropy(network(y.float()), label).backward()
    optimiser.step()
cases, labels = draw(20_000)
networks = SafetyGuard(
    lambda y: y.sum(dim=1), network, InternalTestData(torch.as_tensor(cases), labels), threshold=1e-2,
    default_action=0.0, batch_size=4096,
)
networks.calibrate()
batch = torch.as_tensor(draw(1_000)[0])
batch[7] = torch.nan
guarded = networks.act(batch)
print("torch:", guarded.counts, "|", guarded.explain(7))

# %% [markdown]
# ## A transformers classifier
#
# Measurements may be what a tokenizer returns, a mapping of tensors. The weights here are random, so the classifier knows little, and at a strict
# threshold the guard refuses, which is right.

# %%
torch.manual_seed(0)
small = BertConfig(vocab_size=100, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, num_labels=2)
bert = BertForSequenceClassification(small)


def tokens(n):
    """Made-up sentences; unsafe where the word 7 occurs."""
    ids = torch.as_tensor(rng.integers(0, 100, (n, 12)))
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}, (ids == 7).any(dim=1).long()


words = SafetyGuard(
    lambda batch: batch["input_ids"][:, 0], bert, InternalTestData(*tokens(4_000)), threshold=[0.01, 0.3],
    default_action=-1, batch_size=512,
)
words.calibrate()
sentences, bad = tokens(4_000)
for r_t in (0.01, 0.3):
    accepted = words.act(sentences, r_t=r_t).accepted.numpy()
    print(f"transformers, r_t = {r_t:g}: accepts {accepted.mean():.0%}", f"unsafe {bad.numpy()[accepted].mean():.2f}" if accepted.any() else "")

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
