"""Which checkpoint is taken: better ones are, and one that is no better at most as often as alpha says."""

import numpy as np
import pytest

from safeframe.certificates.cases import clopper_pearson_lower
from safeframe.threshold_rule import Conservative, PlugIn, ThresholdRule
from safeframe.training.never_harm import NeverHarm, SelectionFold, select
from safeframe.types import SafeframeError

R_T = 0.05
QUICK = NeverHarm(alpha=0.1, rule=Conservative(radius=0.0), swaps=99)


def law(rng, n, blocks=None):
    """Scores and labels; with blocks, whole blocks move together."""
    y = rng.normal(size=n)
    if blocks is not None:
        y = 0.5 * y + 0.9 * rng.normal(size=blocks.max() + 1)[blocks]
    return y, (y + 0.3 * rng.normal(size=n) > 1).astype(int)


def taken(seed, n, make, settings=QUICK, blocks=None):
    rng = np.random.default_rng(seed)
    y, label = law(rng, n, blocks)
    found = select(make(rng, y), SelectionFold(label, block=blocks), R_T, settings, seed)
    return found.index


def perturbed(rng, y):
    """The start is right, the checkpoints are it with noise: every one is worse."""
    return [y, *(y + 0.3 * rng.normal(size=len(y)) for _ in range(4))]


def alike(rng, y):
    """The start and all checkpoints have as much noise: none is better. The hardest case."""
    return [y + 0.5 * rng.normal(size=len(y)) for _ in range(5)]


def sharpened(rng, y):
    """The start is noisy, the last checkpoint is right."""
    start = y + 0.6 * rng.normal(size=len(y))
    return [start, start + 0.1 * rng.normal(size=len(y)), y]


@pytest.mark.parametrize("make", [perturbed, alike])
@pytest.mark.parametrize("n", [100, 300])
def test_one_that_is_no_better_is_taken_at_most_as_often_as_alpha(make, n):
    """Few unsafe cases (16 % of n), a choice among four checkpoints, draws counted."""
    repeats = 25
    count = sum(taken(seed, n, make) > 0 for seed in range(repeats))
    assert clopper_pearson_lower(count, repeats, 0.01) <= QUICK.alpha


@pytest.mark.long
@pytest.mark.parametrize("rule", [Conservative(), Conservative(radius=0.0), PlugIn()])
@pytest.mark.parametrize("make", [perturbed, alike])
@pytest.mark.parametrize("blocked", [False, True])
def test_the_same_over_many_draws(make, rule, blocked):
    repeats, settings = 1000, NeverHarm(0.1, rule, 199)
    for n in (100, 400, 1600):
        blocks = np.arange(n) // 5 if blocked else None
        count = sum(taken(seed, n, make, settings, blocks) > 0 for seed in range(repeats))
        assert clopper_pearson_lower(count, repeats, 0.01) <= settings.alpha, (n, count)


def test_a_clearly_better_one_is_taken():
    assert sum(taken(seed, 1500, sharpened) == 2 for seed in range(10)) >= 9


def test_counts_by_hand():
    """Cross-fitting: each half's threshold by the rule itself, counted on the other half; worth counts."""
    rng = np.random.default_rng(0)
    y, label = law(rng, 400)
    worth = rng.random(400)
    found = select([y, -y], SelectionFold(label, worth=worth), R_T, NeverHarm(rule=PlugIn()))
    total = 0.0
    for own, other in ((slice(0, None, 2), slice(1, None, 2)), (slice(1, None, 2), slice(0, None, 2))):
        tau = ThresholdRule(y[own], label[own], PlugIn()).calibrate(R_T).tau
        total += worth[other][(y[other] < tau) & (label[other] == 0)].sum()
    assert found.accepted[0] == pytest.approx(total / worth.sum(), abs=2.5 / 200)  # ranks move tau to a case
    assert found.index == found.best == 0
    assert found.p_value == 1.0
    assert found.gain == 0.0


def test_groups_have_their_own_thresholds_and_scale_means_nothing():
    rng = np.random.default_rng(1)
    y, label = law(rng, 2000)
    group = np.arange(2000) % 4 // 2
    moved = np.where(group == 1, 100 + 7 * y, y)
    fold = SelectionFold(label, group=group)
    same = select([y, moved, np.exp(y)], fold, R_T, QUICK)
    assert same.accepted[0] == same.accepted[1] == same.accepted[2]
    assert same.index == 0
    one = select([y, moved], SelectionFold(label), R_T, QUICK)
    assert one.accepted[1] < one.accepted[0]


def test_the_same_seed_gives_the_same_choice():
    rng = np.random.default_rng(2)
    y, label = law(rng, 500)
    margins = sharpened(rng, y)
    first, second = (select(margins, SelectionFold(label), R_T, QUICK, 3) for _ in range(2))
    assert first == second


def test_without_an_unsafe_case_the_start_is_kept():
    found = select([np.arange(50.0), -np.arange(50.0)], SelectionFold(np.zeros(50, int)), R_T)
    assert found.index == 0
    assert found.accepted == (0.0, 0.0)


@pytest.mark.parametrize(
    ("fold", "message"),
    [
        ({"label": np.array([0, 2])}, "0 .safe. or 1"),
        ({"label": np.zeros(4), "group": np.zeros(3)}, "group has shape"),
        ({"label": np.zeros(4), "block": np.zeros(4)}, "fewer than two blocks"),
        ({"label": np.zeros(4), "worth": -np.ones(4)}, "worth"),
    ],
)
def test_folds_that_there_are_not(fold, message):
    with pytest.raises(SafeframeError, match=message):
        SelectionFold(**fold)


def test_margins_that_do_not_fit():
    fold = SelectionFold(np.array([0, 1, 0, 1]))
    with pytest.raises(SafeframeError, match="the start and one at least"):
        select([np.zeros(4)], fold, R_T)
    for bad in (np.zeros(3), np.array([0.0, np.nan, 1.0, 2.0])):
        with pytest.raises(SafeframeError, match="checkpoint 1"):
            select([np.zeros(4), bad], fold, R_T)
    for change in ({"alpha": 0.0}, {"alpha": 1.0}, {"swaps": 0}):
        with pytest.raises(SafeframeError, match=next(iter(change))):
            NeverHarm(**change)
