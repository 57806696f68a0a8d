"""Synthetic demand with a known law: seasonal, autocorrelated, with noise whose size varies.

Demand of product i in hour h, on the scale [0, 10] before clipping:

    s_i(h) = m_i(h) + x_i(h)
    m_i(h) = level_i + day_i(h) + week_i(h) + year_i(h)                     seasonal mean
    x_i(h) = phi_i x_i(h - 1) + sigma_i(h) e_i(h)                           autoregression of order 1
    e_i(h) = sqrt(rho) e_0(h) + sqrt(1 - rho) e'_i(h)                       one factor common to all products
    sigma_i(h) = sigma_i * profile_i(hour of day) * exp(v_i(h - lead))      size of the noise
    v_i = slow autoregression (time constant four days), half of its variance common to all products

So the same predicted demand carries a small or a large risk, by the hour, the product and the present regime.
The regime v is hidden, but shows in how rough the past 24 hours were: a classifier that reads the measurement
can learn it, a point forecast cannot. It acts `lead` hours late, therefore the noise of the next `lead` hours
is known in size given the past, and

    s_i(t + lead) | past of x and v up to hour t  ~  Normal(m_i(t + lead) + phi_i^lead x_i(t),
                                                            sum_{k<lead} phi_i^{2k} sigma_i(t + lead - k)^2)

holds exactly (before clipping, which changes nothing at 3). `truth_probability` gives P(s < 3 | past), the
risk that the best classifier with sight of the hidden regime would report. It conditions on more than the 24
measured hours.
"""

from __future__ import annotations

import numpy as np
from scipy.signal import lfilter
from scipy.stats import norm

from experiments.production.demand.described import tell
from experiments.production.demand.quarters import HOURS_PER_QUARTER, check_order, first_target
from experiments.production.demand.series import (
    N_PRODUCTS,
    SCALE_TOP,
    UNSAFE_BELOW,
    DemandData,
    build_cases,
)
from safeframe.types import SafeframeError

NAMES = ("product-1", "product-2", "product-3", "product-4")
LEVEL = np.array([5.2, 4.9, 5.0, 4.4])
DAY = np.array([2.4, 2.2, 2.6, 2.0])  # amplitude of the daily wave
DAY_PEAK = np.array([18.0, 14.0, 20.0, 11.0])  # hour of day
WEEK = np.array([0.5, 0.8, 0.3, 0.6])  # drop at the weekend
YEAR = np.array([0.6, 0.8, 0.5, 0.7])  # amplitude of the yearly wave
YEAR_PEAK = np.array([200.0, 20.0, 190.0, 30.0])  # day of year
PHI = np.array([0.94, 0.96, 0.93, 0.95])  # per hour
STATIONARY_SD = np.array([0.50, 0.45, 0.55, 0.40])  # of x at volatility 1
COMMON = 0.35  # rho, share of the common factor in the variance of the shocks
REGIME_SD = 0.40  # of v, in logarithms
REGIME_TIME = 4 * 24.0  # hours
PROFILE = np.array([0.55, 0.45, 0.60, 0.40])  # amplitude of the daily wave of the noise, in logarithms
PROFILE_PEAK = np.array([16.0, 8.0, 13.0, 20.0])  # hour of day
BURN_IN = 24 * 100
START_HOUR = 18628 * 24  # 2021-01-01 00:00, in hours since 1970-01-01


def synthetic(
    seed: int,
    lookback: int = 24,
    lead: int = 24,
    hours_per_quarter: int = HOURS_PER_QUARTER,
    order: tuple[int, ...] = (0, 1, 2, 3),
) -> DemandData:
    """Four synthetic products, long enough for exactly `hours_per_quarter` cases in each quarter.

    Same arguments, same numbers.

    Raises:
        SafeframeError: for a seed that is no integer >= 0 and for impossible windows.
    """
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or seed < 0:
        raise SafeframeError(f"seed = {seed!r}: a whole number >= 0 is needed")
    first_target(2**62, lookback, lead, hours_per_quarter)
    hours = len(check_order(order)) * hours_per_quarter + lookback + lead - 1
    mean, sigma, shock = _ingredients(np.random.default_rng(seed), hours)
    x = np.stack(
        [lfilter([1.0], [1.0, -PHI[i]], sigma[:, i] * shock[:, i]) for i in range(N_PRODUCTS)], axis=1
    )

    truth_mean = np.full_like(mean, np.nan)
    truth_mean[lead:] = mean[lead:] + PHI**lead * x[:-lead]
    truth_sd = np.stack(
        [
            np.sqrt(lfilter(PHI[i] ** (2 * np.arange(lead)), [1.0], sigma[:, i] ** 2))
            for i in range(N_PRODUCTS)
        ],
        axis=1,
    )
    kept = slice(BURN_IN, BURN_IN + hours)
    data = build_cases(
        (mean + x)[kept],
        START_HOUR + np.arange(hours),
        NAMES,
        np.zeros(N_PRODUCTS),
        np.full(N_PRODUCTS, SCALE_TOP),
        lookback=lookback,
        lead=lead,
        hours_per_quarter=hours_per_quarter,
        order=order,
        source=f"synthetic:{seed}",
        truth_mean=truth_mean[kept],
        truth_sd=truth_sd[kept],
    )
    tell(data)
    return data


def truth_probability(data: DemandData) -> np.ndarray:
    """(n, 4) P(s < 3 | past, hidden regime included), exact; SafeframeError for data without a known law."""
    if data.truth_mean is None or data.truth_sd is None:
        raise SafeframeError(f"the law of {data.source} is not known; only synthetic data have a known one")
    return norm.cdf((UNSAFE_BELOW - data.truth_mean) / data.truth_sd)


def _ingredients(rng: np.random.Generator, hours: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Seasonal mean, size of the noise and standard normal shocks, each (BURN_IN + hours, 4)."""
    total = BURN_IN + hours
    hour = (START_HOUR + np.arange(-BURN_IN, hours))[:, None]  # since the epoch
    of_day, of_week = hour % 24, (hour // 24 + 3) % 7
    of_year = (hour - START_HOUR) / 24 % 365.25

    mean = LEVEL + DAY * np.cos(2 * np.pi * (of_day - DAY_PEAK) / 24)
    mean = mean - WEEK * (of_week >= 5) + YEAR * np.cos(2 * np.pi * (of_year - YEAR_PEAK) / 365.25)

    decay = np.exp(-1.0 / REGIME_TIME)
    innovation = rng.standard_normal((total, N_PRODUCTS + 1)) * np.sqrt(1 - decay**2)
    innovation[0] /= np.sqrt(1 - decay**2)  # start in the stationary law; row k is v(hour k - lead)
    regime = lfilter([1.0], [1.0, -decay], innovation, axis=0)
    regime = REGIME_SD * (regime[:, :1] + regime[:, 1:]) / np.sqrt(2)
    profile = PROFILE * np.cos(2 * np.pi * (of_day - PROFILE_PEAK) / 24)
    sigma = STATIONARY_SD * np.sqrt(1 - PHI**2) * np.exp(profile + regime)

    shock = rng.standard_normal((total, N_PRODUCTS + 1))
    shock = np.sqrt(COMMON) * shock[:, :1] + np.sqrt(1 - COMMON) * shock[:, 1:]
    return mean, sigma, shock
