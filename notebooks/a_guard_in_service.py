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
# # A guard in service
#
# A guard promises that at most a share `r_t` of what it accepts is unsafe. The promise was made on cases from the past; in service the world drifts, and
# whether an action was safe is known later, or never where it was not taken. This notebook lives through 100 days of such a service: every decision goes into
# a log, labels come a day late, a monitor watches them, an alarm leads to new thresholds, and in the end all of it is replayed.
#
# This file is the notebook: open it with Jupyter and jupytext, or run it with Python. `python notebooks/a_guard_in_service.py docs/images` writes the
# pictures of the page "A guard in service".

# %%
import sys
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from safeframe import GuardLog, InternalTestData, RiskMonitor, SafetyGuard, recalibrate, replay, restore

rng = np.random.default_rng(0)
BLUE, RED, GREY, GREEN = "#0072B2", "#D55E00", "#777777", "#009E73"
PICTURES = Path(sys.argv[1]) if len(sys.argv) == 2 and Path(sys.argv[1]).is_dir() else None
place = tempfile.TemporaryDirectory()
FILE = Path(place.name) / "guard.sqlite"


def show(figure, name):
    """Show a picture, or write it where a folder was given."""
    figure.tight_layout()
    if PICTURES is not None:
        figure.savefig(PICTURES / f"{name}.png", dpi=110, metadata={"Software": None})
    plt.show()


# %% [markdown]
# ## The world, the model, the guard
#
# Acting is unsafe where the first coordinate plus noise exceeds a limit. From day 30 on the limit falls within five days, and between days 65 and 70 it goes back.

# %%
R_T, DAYS, A_DAY, DAY = 0.02, 100, 400, 86_400.0


def shift(day):
    """By how much the limit has fallen."""
    return 0.6 * np.clip((day - 30) / 5, 0, 1) * np.clip((70 - day) / 5, 0, 1)


def draw(n, day=0):
    """Measurements (n, 3) and whether acting is unsafe."""
    y = rng.normal(size=(n, 3))
    return y, (y[:, 0] + 0.3 * rng.normal(size=n) > 1 - shift(day)).astype(int)


def model(y):
    return y.sum(axis=1)


def classifier(y):
    return y[:, 0] - 1.0


def guard_of(classifier):
    made = SafetyGuard(model, classifier, data, threshold=R_T, default_action=0.0)
    made.calibrate()
    return made


data = InternalTestData(*draw(20_000))
guard = guard_of(classifier)
print(guard.calibrations[R_T]["all"].summary)

# %% [markdown]
# ## A hundred days
#
# `log.act` acts and records, in one file that several processes may share. Every seventh measurement is an *audit*: it is labelled whether it was accepted or not. Without
# audits only accepted cases have labels, and a threshold could fall but never rise again.
#
# `log.label` takes labels when they come; the monitor bets on those of cases that the calibration in force accepted. After an alarm the thresholds are found anew on the
# decisions of the last five days; without one, once in two weeks on those of the last fourteen.

# %%
days = [draw(A_DAY, day) for day in range(DAYS)]
audit = np.arange(A_DAY) % 7 == 0
monitor, log = RiskMonitor(r_t=R_T, alpha=0.05, arl=100_000), GuardLog(FILE, guard, keep_measurements=True, durable=False)
alarms, news, wealth, tau, risk, still = [], [], [], [], [], []
waiting = None


def detected(monitor):
    """The detector's sum, which rings at arl."""
    return np.exp(monitor.detector.log_value(monitor.n))


for day, (y, unsafe) in enumerate(days):
    done = log.act(y, ids=[f"{day}-{i}" for i in range(A_DAY)], time=day * DAY, audit=audit)
    tau.append(log.version().cuts[R_T]["all"].tau)
    risk.append(unsafe[done.accepted].mean() if done.accepted.any() else 0.0)
    still.append(unsafe[guard.act(y).accepted].mean())
    if waiting is not None:  # yesterday's labels come
        ids, labels = waiting
        monitor.update(log.label(ids, labels, time=day * DAY).of_accepted(log.version().number))
    known = np.flatnonzero(done.accepted | done.audit)
    waiting = [done.ids[i] for i in known], unsafe[known]
    wealth.append(detected(monitor))
    called = monitor.alarm or monitor.detector.rang
    if called or (day % 14 == 13 and day > 14):
        found = recalibrate(log, window=A_DAY * (5 if called else 14), until=(day - 1) * DAY)
        if called:
            alarms.append(day)
            print(f"day {day}: {monitor.report()}")
        if found.changed:
            news.append(day)
            print(f"day {day}: {found}")
        if called or found.changed:
            monitor.restart()

# %% [markdown]
# ## What happened
#
# The risk of the guard as it was calibrated, and of the one in service, week by week:

# %%
weeks = np.arange(0, DAYS - 6, 7)
figure, (above, below) = plt.subplots(2, 1, figsize=(9, 5.6), sharex=True)
mean = lambda values: [float(np.mean(values[week : week + 7])) for week in weeks]
above.plot(weeks + 3.5, mean(still), "o-", color=RED, label="as calibrated once")
above.plot(weeks + 3.5, mean(risk), "o-", color=BLUE, label="in service")
above.axhline(R_T, color=GREY, linestyle="--", label="$r_t$")
above.set(ylabel="P(unsafe | accepted)", ylim=(0, None), title="Share of unsafe actions among those accepted, by week")
below.step(range(DAYS), tau, where="post", color=BLUE)
below.set(xlabel="day", ylabel="threshold τ in force")
for axes in (above, below):
    axes.axvspan(30, 70, color=RED, alpha=0.07)
    for day in alarms:
        axes.axvline(day, color=RED, linewidth=1)
above.axvline(-100, color=RED, linewidth=1, label="alarm")
above.set_xlim(0, DAYS)
above.legend(loc="upper left", fontsize=8)
show(figure, "service_risk")

# %%
drifted = slice(alarms[-1] + 7, 65)
print(f"alarms on days {alarms}, new thresholds on days {news}")
print(f"unsafe among accepted while the limit was low: as calibrated {np.mean(still[drifted]):.4f}, in service {np.mean(risk[drifted]):.4f}, r_t {R_T}")

# %% [markdown]
# The monitor bets against "the risk is at most r_t". Its detector, drawn here, begins a bet at every label, so that a change is seen soon also after a long good time; where
# nothing changes, false alarms are 100,000 labels apart on average (most of a year here). Beside it there is a test over the whole time, false with probability at most .05, ever.

# %%
figure, axes = plt.subplots(figsize=(9, 2.9))
axes.semilogy(range(DAYS), np.maximum(wealth, 1.0), color=GREEN)
axes.axhline(100_000, color=GREY, linestyle="--", label="alarm")
axes.axvspan(30, 70, color=RED, alpha=0.07)
axes.set(xlabel="day", ylabel="detector", xlim=(0, DAYS), title="The monitor's detector, set back after an alarm or a new threshold")
axes.legend(loc="upper right", fontsize=8)
show(figure, "service_monitor")

# %% [markdown]
# ## The log
#
# All decisions with their labels, as a parquet file:

# %%
log.export(Path(place.name) / "decisions.parquet")
frame = pd.read_parquet(Path(place.name) / "decisions.parquet")
print(frame.groupby("version").agg(first=("seq", "min"), n=("id", "size"), accepted=("accepted", "mean"), labelled=("unsafe", "count")))

# %% [markdown]
# What is labelled is censored: margins of labelled and of unlabelled cases in the first twenty days. Among the rejected only audits are known.

# %%
early = frame[frame["seq"] <= 20 * A_DAY]
figure, axes = plt.subplots(figsize=(9, 2.9))
bins = np.linspace(-5, 3, 81)
known = early["unsafe"].notna()
axes.hist([early["margin"][known], early["margin"][~known]], bins, stacked=True, color=[BLUE, "#cccccc"], label=["labelled", "not labelled"])
axes.axvline(early["tau"].iloc[0], color=RED, label="threshold τ")
axes.set(xlabel="margin", ylabel="cases", title="Labels are censored above the threshold")
axes.legend(loc="upper left", fontsize=8)
show(figure, "service_censored")

# %% [markdown]
# A label was wrong? A correction keeps the former one.

# %%
log.correct("3-0", int(not log.history("3-0")[0]["unsafe"]), "read off the wrong line", time=DAYS * DAY)
for entry in log.history("3-0"):
    print(entry)

# %% [markdown]
# ## After a restart
#
# Another process opens the same file: the newest calibration is in force. An earlier one can be restored.

# %%
log.close()
again = GuardLog(FILE, guard_of(classifier), durable=False)
print("in force after the restart:", again.version().number, "of", [one["version"] for one in again.calibrations.switches()])
restore(again, 1, "for this notebook")
print("restored:", again.version().number)

# %% [markdown]
# ## Replay
#
# The log and the guard give the same decisions again. With a classifier that was changed meanwhile, the first decision that differs is named.

# %%
print(replay(again))
changed = guard_of(classifier)
object.__setattr__(changed.callables, "classifier", lambda y: np.where(y[:, 1] > 2.5, 2.0, y[:, 0] - 1.0))
print(replay(again, changed))
again.close()
place.cleanup()
