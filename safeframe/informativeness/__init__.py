"""How informative internal test data are: zeta, Lipschitz estimates, and the measured radius xi.

Data are zeta-informative for a state when the law of the measurement given that state and the empirical law
of the cases labelled so are within infinity-Wasserstein distance zeta; a K-Lipschitz classifier then
justifies the radius xi = K zeta (arXiv 2504.20924, Theorem 1). K is rarely known and zeta never, so the
radius can be measured instead, in logit space, where the margin is one-dimensional and W_infinity is the
largest gap of two quantile functions.

What a measured radius means. Acceptance sets are half-lines {m < tau}, so all the theorem needs of a class
is, for every tau in use, F(tau) <= F_ref(tau + s) + delta and F(tau) >= F_ref(tau - s) - delta, with F_ref
the empirical distribution of the internal test margins and F the law in use; the smallest s is the margin
shift, and xi = s / sqrt(2). With delta = 0 and no window, s is W_infinity of the two samples. Limits: it sees
only the shift between the two samples it is given (last year's shift says nothing of next year's), it grows
with the noise of the extreme quantiles in small samples, and its DKW band needs independent cases. The mass
delta is not free: pass it on as ``RiskCurve(..., slack=mass)``.
"""

from safeframe.informativeness.blocks import BlockRadius, block_measured_radius
from safeframe.informativeness.halves import HalvesRadius, alternating_runs, radius_between
from safeframe.informativeness.lipschitz import lipschitz_lower, lipschitz_upper
from safeframe.informativeness.measured import MeasuredRadius, dkw_band, measured_radius

__all__ = [
    "BlockRadius",
    "HalvesRadius",
    "MeasuredRadius",
    "alternating_runs",
    "block_measured_radius",
    "dkw_band",
    "lipschitz_lower",
    "lipschitz_upper",
    "measured_radius",
    "radius_between",
]
