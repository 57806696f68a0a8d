"""A choice that does not hold on data of its own guard gives way to the next stricter one."""

import numpy as np
import pytest
from safetygym_margins import K, Linear, behaviour, decided

from experiments.safetygym.config import SafetyGymConfig
from experiments.safetygym.experiment import Experiment, same_tau
from experiments.safetygym.guard.calibration import Calibration
from experiments.safetygym.guard.choices import Calibrated, agreed
from experiments.safetygym.states.internal_data import Shard
from safeframe.threshold_rule import Conservative

LEVELS = (1e-3, 1e-2, 0.1, 1.0)


def choices(taus=(-2.0, -1.0, 0.5, np.inf)):
    return {
        r_t: Calibrated(r_t, tau, r_t, 0.5, bool(tau > -np.inf))
        for r_t, tau in zip(LEVELS, taus, strict=True)
    }


@pytest.mark.parametrize(
    ("broken", "expected"),
    [
        ((), (-2.0, -1.0, 0.5, np.inf)),
        ((0.1,), (-2.0, -1.0, -1.0, np.inf)),
        ((1e-2, 0.1), (-2.0, -2.0, -2.0, np.inf)),
        ((1e-3,), (-np.inf, -1.0, 0.5, np.inf)),
        ((1e-3, 1e-2), (-np.inf, -np.inf, 0.5, np.inf)),
    ],
)
def test_the_next_stricter_one_stands_in(broken, expected):
    kept = agreed(choices(), lambda one: one.r_t not in broken)
    assert [one.tau for one in kept.values()] == list(expected)
    assert [one.r_t for one in kept.values()] == list(LEVELS)
    assert all(one.feasible == (one.tau > -np.inf) for one in kept.values())


class Stage(Experiment):
    """An experiment whose data are given, by the threshold that they were asked for."""

    def __init__(self, by_tau, rounds=1):
        self.config, self.agent, self.n_t = SafetyGymConfig(), decided(), 20_000
        self.config.internal_test.rounds, self.by_tau, self.asked = rounds, by_tau, []

    @property
    def rule(self):
        return Conservative(0.0)

    def data_ahead(self, wanted, cases, stages, any_age=False):
        self.cases = cases

    def data(self, name, guard, cases, stages, paths, any_age=False):
        assert any_age  # as episodes are
        self.asked.append((name, guard.tau))
        return self.by_tau[guard.tau], None


def test_loose_thresholds_are_judged_on_data_of_their_own_guards():
    risky, safe = behaviour(1500, 0, 3.0, -1.0), behaviour(1500, 1, 3.0, 6.0)
    stage = Stage({-2.0: safe, -1.0: safe, 0.5: risky})
    found = stage.verify(Linear(), choices(), [])  # type: ignore[arg-type]
    own = Calibration(Linear(), stage.agent, [risky], Conservative(0.0))  # type: ignore[arg-type]
    assert own.bound(0.5)[0] > 0.1
    assert [one.tau for one in found.values()] == [-2.0, -1.0, -1.0, np.inf]
    assert [tau for _, tau in stage.asked] == [-2.0, -1.0, 0.5]
    assert stage.cases == -(-20_000 // (2 * 2 * 3))


def test_a_few_cases_say_nothing_of_a_small_r_t_and_no_unsafe_one_says_nothing_against_it():
    risky = behaviour(500, 0, 3.0, -1.0)
    harmless = Shard(risky.observation, np.zeros((500, K), np.int8))
    found = Stage({-2.0: risky, -1.0: risky, 0.5: harmless}).verify(Linear(), choices(), [])  # type: ignore[arg-type]
    assert [one.tau for one in found.values()] == [-2.0, -2.0, 0.5, np.inf]


def test_thresholds_that_hardly_differ_are_different_keys():
    one, other = np.array([0.5, 0.5]), np.array([0.5, 0.5 + 1e-12])
    assert str(one) == str(other)  # as they are printed they are the same
    assert same_tau(one) != same_tau(other)
    assert same_tau(one) == same_tau(one.copy())
    assert same_tau(0.5) == same_tau(np.float64(0.5))


def test_without_rounds_nothing_is_verified():
    stage = Stage({}, rounds=0)
    assert stage.verify(Linear(), choices(), []) == choices()  # type: ignore[arg-type]
    assert stage.asked == []
