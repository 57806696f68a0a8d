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
# # A robot among hazards
#
# Safety Gym's PointGoal1: a robot earns reward for reaching goals, and must not enter the blue discs. This notebook takes a trained agent,
# learns from labelled states what is risky, calibrates a threshold on what the classifier says, and puts the same agent into the same layout
# twice: alone, and under the guard (arXiv 2504.20924, section 5.2). It takes about twenty seconds of one core. The experiment itself has
# more data, more rounds and baselines: `python run.py experiment=safetygym`.

# %%
import tempfile

import matplotlib.pyplot as plt
import numpy as np
import torch

from experiments.safetygym.agents.checkpoints import load_agent
from experiments.safetygym.guard.calibration import Calibration
from experiments.safetygym.guard.classifier import PathClassifier
from experiments.safetygym.guard.guarding import Guard, GuardedPolicy
from experiments.safetygym.guard.learning import warm_up
from experiments.safetygym.learning_settings import LearningSettings
from experiments.safetygym.sim.render import Frame, draw
from experiments.safetygym.sim.task import HAZARD_RADIUS, get_task
from experiments.safetygym.sim.vector import SafetyGymVector
from experiments.safetygym.states.backup import random_paths
from experiments.safetygym.states.collection import collect
from experiments.safetygym.states.internal_data import InternalData
from experiments.support.files import REPOSITORY
from safeframe.threshold_rule import Conservative

TASK, R_T = "Safexp-PointGoal1-v0", 0.001
task = get_task(TASK)
agent = load_agent(
    REPOSITORY / "experiments/safetygym/reference/point_ours.safetensors", task=TASK, observation_size=task.observation_size
)
agent.candidates.shape  # fifteen actions that the agent may choose among: thrust and turn

# %% [markdown]
# ## Labelled states
#
# The agent drives in many layouts. A state is taken now and then, and every candidate action is labelled in a copy of the simulator: *unsafe* if
# taking it and braking from then on enters a hazard. So whoever takes safe actions only can always still brake.


# %%
def labelled(name, cases, guard=None, paths=False):
    """States (n, d) that the agent meets, with the labels (n, 15) of its candidates."""
    with tempfile.TemporaryDirectory() as folder:
        data = InternalData(folder, {"name": name})
        collect(data, GuardedPolicy(agent, guard, 0, task), cases, "backup", seed=len(name), every=10, with_paths=paths)
        return data.load()


training = labelled("training", 75_000, paths=True)
print(f"{len(training.observation):,} states, {training.unsafe.mean():.1%} of the candidates unsafe")

# %% [markdown]
# ## The classifier
#
# A network predicts the braking path of every candidate from the robot's velocity. Hazards are read back from the lidar, and the least distance
# between path and hazards, with its sign changed, is the margin: the larger, the riskier.

# %%
torch.manual_seed(0)
settings = LearningSettings(steps=800, batch=500)
paths = random_paths(task, agent.candidates, 10_000, np.random.default_rng(1))
classifier = PathClassifier(task, len(agent.candidates), (64, 64))
warm_up(classifier, training, settings, 0, lambda step, loss: None, paths)
margin = classifier.margin(training.observation)
rng = np.random.default_rng(0)
unsafe, safe = (rng.choice(margin[training.unsafe == label], 20_000) for label in (1, 0))
print(f"of an unsafe and a safe candidate the unsafe one has the larger margin in {np.mean(unsafe > safe):.2%} of the pairs")

# %% [markdown]
# ## The threshold
#
# Fresh labelled states, of the agent alone and of the agent under a provisional guard (a guard changes where the agent goes), give the largest
# threshold at which the bound on P(unsafe | the action taken) is at most `r_t`. One unsafe case more than was seen is counted, and the threshold
# has to hold for both.

# %%
alone = labelled("internal test", 100_000)
provisional = Guard(classifier, Calibration(classifier, agent, [alone], Conservative(0.0), "selected").threshold(R_T).tau)
guarded = labelled("internal test under the guard", 100_000, provisional)
calibration = Calibration(classifier, agent, [alone, guarded], Conservative(0.0), "selected")
found = calibration.threshold(R_T)
guard = Guard(classifier, found.tau)
print(f"r_t = {R_T}: accept margins below {found.tau:.3f}, bound {found.bound:.4f}; some action is accepted in {found.acceptance:.1%} of the states")

# %% [markdown]
# ## Where the risk is
#
# One layout. The robot is set down at rest, and moving to the right, on a grid of places. Colour: the share of its fifteen candidates that the guard refuses.


# %%
def layout(seed):
    """A fresh environment."""
    env = SafetyGymVector(TASK, 1, seed=seed)
    env.reset()
    return env


def refused(env, velocity, side=91, extent=1.8):
    """(side, side) share of candidates that are refused where the robot is set down heading right at a velocity in m/s."""
    x, y = np.meshgrid(np.linspace(-extent, extent, side), np.linspace(-extent, extent, side))
    many = SafetyGymVector(TASK, side * side, seed=0)
    many.reset()
    state = env.get_state().select(np.zeros(side * side, int))
    state.robot[:, 0], state.robot[:, 1], state.robot[:, 2] = x.ravel(), y.ravel(), 0.0
    state.robot[:, 3], state.robot[:, 4:] = velocity, 0.0
    observation = many.set_state(state)[:, : task.observation_size]
    return 1.0 - guard(observation).mean(axis=1).reshape(side, side)


def episode(policy, seed, steps=400):
    """The robot's path (steps, 2), the return, which steps were inside a hazard, and the environment at the end."""
    env = agent.wrap(SafetyGymVector(TASK, 1, seed=seed))
    observation, _ = env.reset()
    path, total, inside = [], 0.0, []
    for _ in range(steps):
        path.append(env.get_state().robot[0, :2].copy())
        observation, reward, _, _, info = env.step(policy(observation))
        total, inside = total + float(reward[0]), [*inside, info["cost"][0] > 0]
    return np.array(path), total, np.array(inside), env


SEEDS = range(100, 120)
free = lambda: GuardedPolicy(agent, None, [0, 5], task)  # noqa: E731
SEED = next(seed for seed in SEEDS if episode(free(), seed)[2].any())  # a layout in which the agent alone enters a hazard
env = layout(SEED)
figure, panels = plt.subplots(1, 2, figsize=(9, 4.2), sharey=True)
for axes, velocity in zip(panels, (0.0, 1.5), strict=True):
    shown = axes.imshow(refused(env, velocity), origin="lower", extent=(-1.8, 1.8, -1.8, 1.8), cmap="magma_r", vmin=0, vmax=1)
    for hazard in env.get_state().hazards[0]:
        axes.add_patch(plt.Circle(hazard, HAZARD_RADIUS, fill=False, color="#4A5ADC", lw=1.5))
    axes.set_title("at rest" if velocity == 0 else f"moving right at {velocity:g} m/s")
    axes.set_xlabel("x (m)")
panels[0].set_ylabel("y (m)")
figure.colorbar(shown, ax=panels, label="share of candidates refused")
plt.show()

# %% [markdown]
# At rest the robot may do nearly everything that does not touch a disc. Moving, it needs room to brake: what is refused reaches out to the left
# of every disc, as far as the braking path is long.

# %% [markdown]
# ## Side by side
#
# The same layout, the same agent, the same random numbers: without and with the guard.

# %%
figure, panels = plt.subplots(1, 2, figsize=(9, 4.6), sharex=True, sharey=True)
counts = {}
for axes, name, policy in zip(panels, ("alone", "guarded"), (free(), GuardedPolicy(agent, guard, [0, 5], task)), strict=True):
    path, total, inside, end = episode(policy, SEED)
    counts[name] = int(inside.sum())
    for hazard in env.get_state().hazards[0]:
        axes.add_patch(plt.Circle(hazard, HAZARD_RADIUS, color="#4A5ADC", alpha=0.35, lw=0))
    axes.plot(*path.T, color="#555555", lw=1)
    axes.plot(*path[inside].T, ".", color="#C82828", ms=5)
    axes.plot(*path[0], "o", color="#C82828", mfc="white")
    axes.set(title=f"{name}\nreturn {total:.1f}, steps in a hazard: {counts[name]}", aspect="equal", xlabel="x (m)")
    print(f"{name}: return {total:.1f}, steps in a hazard: {counts[name]}")
panels[0].set_ylabel("y (m)")
plt.show()

# %%
picture = Frame.of(end, 0, path, 0.0, "the guarded episode at its end", None)
plt.figure(figsize=(4.5, 4.5))
plt.imshow(draw(picture))
plt.axis("off")
plt.show()

# %% [markdown]
# ## Counted over many episodes
#
# One episode shows what happens; a promise is counted. 64 layouts of 1,000 steps each, with and without the guard.


# %%
def count(guard, n=64, steps=1000):
    """Mean return of an episode, and steps inside a hazard in all of them."""
    env = agent.wrap(SafetyGymVector(TASK, n, seed=7))
    policy, total, inside = GuardedPolicy(agent, guard, [1, 5], task), 0.0, 0
    observation, _ = env.reset()
    for _ in range(steps):
        observation, reward, _, _, info = env.step(policy(observation))
        total, inside = total + reward.sum(), inside + int((info["cost"] > 0).sum())
    return total / n, inside


for name, one in (("alone", None), ("guarded", guard)):
    total, inside = count(one)
    counts[name] = inside
    print(f"{name}: return {total:.1f}, steps in a hazard: {inside:,} of 64,000")
print("the guard keeps the robot out of hazards:", counts["guarded"] * 20 < counts["alone"])
