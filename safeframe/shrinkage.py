"""The shrinkage bound: where cases are few it borrows from a calibrated model of the risk.

With k unsafe among the n cases accepted at tau, and pbar the mean calibrated probability p̂ of these n,

    bound(tau) = (k + K + z sqrt(phi (k + K))) / (n + K / (rho pbar)),

K prior cases, dispersion phi, and rho an upper ratio of observed to expected unsafe among the cases with p̂
<= .05:

    rho = (O + 1 + z sqrt(phi (O + 1))) / E,    O unsafe among these cases, E the sum of their p̂.

Where n is large it is k / n, plus z standard deviations of a count phi times as variable as a Poisson count.
Where nothing unsafe was accepted and n is small it is about rho pbar (1 + z sqrt(phi / K)): what the model
says, corrected by what was seen at p̂ <= .05. So it can accept at r_t far below 1 / n, where a bound that
rests on counts alone accepts nothing.

What is assumed:

1. p̂ was fitted on other cases than those counted here.
2. Where cases are accepted, their mean risk is at most rho pbar: p̂ may be wrong by a factor, but far below
   .05 by no larger one than just below it. Where the ratio of risk to p̂ grows towards small p̂ the bound is
   too low, and nothing among the accepted shows it before about 1 / r_t of them are there. What lies between
   the middle and there can: :class:`safeframe.risk_scale.TailScale` is fitted to it, and belongs before this
   rule.
3. Counts of unsafe cases are at most phi times as variable as those of independent cases (4: weeks of hourly
   demand).
4. Cases in use are drawn like those counted, up to a prior whose upper end is right (it moves the odds of the
   bound, the classes' laws among the accepted are taken to stay).

What is not promised: no confidence is stated. z = 1 is one standard deviation of a count at one tau fixed in
advance, while tau is chosen as the largest that qualifies. How often the true risk is above r_t, where these
assumptions hold and where they do not, is counted by ``python run.py experiment=theory``
(results/tables/theory_shrinkage.csv).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from safeframe.margins import as_query, check_cases
from safeframe.piecewise_curve import PiecewiseCurve
from safeframe.selected_risk import ranked_within, sweep
from safeframe.types import FloatArray, Floats, IntArray, LabelArray, SafeframeError, number


@dataclass(frozen=True)
class Shrinkage:
    """The rule of this module: it needs calibrated probabilities and holds under its assumptions only.

    Attributes:
        prior_cases: K > 0, the unsafe cases that the model's word is worth.
        dispersion: phi >= 1, how many times as variable as independent ones the counts are.
        z: standard deviations of the count that are added, at least 0.
        low_risk: in (0, 1), up to which p̂ the ratio of observed to expected is taken.
        ratio: rho > 0, where it is known; None: measured on the cases that are counted.

    Raises:
        SafeframeError: on a value outside its range.
    """

    prior_cases: float = 3.0
    dispersion: float = 4.0
    z: float = 1.0
    low_risk: float = 0.05
    ratio: float | None = None

    def __post_init__(self) -> None:
        for name in (
            "prior_cases",
            "dispersion",
            "z",
            "low_risk",
            *(("ratio",) if self.ratio is not None else ()),
        ):
            number(getattr(self, name), f"Shrinkage: {name}")
        for name, fine, wanted in (
            ("prior_cases", 0.0 < self.prior_cases < np.inf, "positive"),
            ("dispersion", 1.0 <= self.dispersion < np.inf, "at least 1"),
            ("z", 0.0 <= self.z < np.inf, "at least 0"),
            ("low_risk", 0.0 < self.low_risk < 1.0, "in (0, 1)"),
            ("ratio", self.ratio is None or 0.0 < self.ratio < np.inf, "positive, or None"),
        ):
            if not fine:
                raise SafeframeError(f"Shrinkage: {name} is {getattr(self, name)}; it must be {wanted}")

    @property
    def radius(self) -> float:
        """The radius of conservative testing: 0, none is used."""
        return 0.0

    def upper_ratio(self, n_unsafe: int, expected: float) -> float:
        """rho: as given, or from what was seen among the cases with small p̂.

        Args:
            n_unsafe: unsafe ones among them.
            expected: the sum of their p̂.

        Returns:
            The upper ratio of observed to expected; inf where nothing was expected.
        """
        if self.ratio is not None:
            return self.ratio
        seen = n_unsafe + 1.0
        return (seen + self.z * np.sqrt(self.dispersion * seen)) / expected if expected > 0.0 else np.inf

    def bound(self, n: Floats, n_unsafe: Floats, expected: Floats, ratio: float) -> FloatArray:
        """The bound from counts; 1 where nothing is accepted.

        Args:
            n: cases accepted, of any shape.
            n_unsafe: unsafe ones among them, of the same shape.
            expected: sums of their p̂, of the same shape.
            ratio: rho.

        Returns:
            Bounds in (0, 1], of the same shape.
        """
        n, k, total = (np.asarray(part, np.float64) for part in (n, n_unsafe, expected))
        above = k + self.prior_cases
        above = above + self.z * np.sqrt(self.dispersion * above)
        some = (n > 0.0) & (total > 0.0)
        borrowed = np.divide(self.prior_cases / ratio * n, total, out=np.zeros(n.shape), where=some)
        bound = np.divide(above, n + borrowed, out=np.ones(n.shape), where=n > 0.0)
        return np.minimum(bound, 1.0)


def check_probabilities(probability: FloatArray, shape: tuple[int, ...]) -> FloatArray:
    """Calibrated probabilities p̂, checked.

    Args:
        probability: p̂ of cases.
        shape: of the cases.

    Returns:
        The same as float64.

    Raises:
        SafeframeError: on another shape, or a p̂ outside (0, 1].
    """
    found = np.asarray(probability, np.float64)
    if found.shape != shape:
        raise SafeframeError(f"probability has shape {found.shape}; expected one per case, {shape}")
    fine = (found > 0.0) & (found <= 1.0)
    if not fine.all():
        raise SafeframeError(
            f"a calibrated probability is {found[~fine].flat[0]:g}; each must lie in (0, 1]: 0 would claim "
            "that a case cannot be unsafe, so give it a floor"
        )
    return found


class ShrinkageCurve(PiecewiseCurve):
    """The exact curve tau -> shrinkage bound, and its inverse: one sort, cumulative sums.

    It is piecewise constant in tau and not monotone. A class may be absent from the cases.

    Args:
        margin: (n,) finite margins or scores, the larger the riskier; or (g, c) of the candidates of g
            measurements, of which the best-scored accepted one is selected.
        label: shaped like ``margin``, 0 safe and 1 unsafe.
        probability: shaped like ``margin``, p̂ in (0, 1], fitted on other cases.
        rule: the constants.
        odds: factor > 0 on the odds of the bound, for a prior that is not that of the cases.
        score: (g, c) with candidates, -inf where absent; else None.

    Raises:
        SafeframeError: on shapes that differ, margins or scores that are not finite, labels other than 0/1,
            no case at all, or another value outside its range.
    """

    radius = 0.0
    slack = 0.0

    def __init__(
        self,
        margin: FloatArray,
        label: LabelArray,
        probability: FloatArray,
        rule: Shrinkage,
        odds: float = 1.0,
        score: FloatArray | None = None,
    ) -> None:
        if not 0.0 < odds < np.inf:
            raise SafeframeError(f"odds is {odds}; the factor must lie in (0, inf)")
        self.rule, self.odds = rule, float(odds)
        values, state = np.asarray(margin), np.asarray(label)
        chance = np.asarray(probability)
        if score is None:  # every case is a measurement's only candidate
            if values.ndim != 1 or state.shape != values.shape or chance.shape != values.shape:
                raise SafeframeError(
                    f"margin {values.shape}, label {state.shape}, probability {chance.shape}: expected (n,) "
                    "each"
                )
            values, state, chance = (part[:, None] for part in (values, state, chance))
            scores = np.zeros(values.shape)
        else:
            scores = np.asarray(score, np.float64)
        if values.ndim != 2 or {state.shape, chance.shape, scores.shape} != {values.shape}:
            raise SafeframeError(
                f"margin {values.shape}, label {state.shape}, probability {chance.shape}, score "
                f"{scores.shape}: expected (g, c) each"
            )
        present = scores != -np.inf
        if not present.any():
            raise SafeframeError("there is no case: a bound needs at least one")
        values = np.where(present, values, np.inf)
        found, unsafe = check_cases(values[present], state[present])
        if not (np.isfinite(found).all() and np.isfinite(scores[present]).all()):
            raise SafeframeError("margins and scores must be finite: some are NaN or infinite")
        chance = check_probabilities(np.where(present, chance, 1.0), values.shape)
        bad = np.zeros(values.shape, bool)
        bad[present] = unsafe
        rank = ranked_within(scores, present)
        self.n_cases = len(values)
        self._swept = sweep(values, rank, bad, chance)
        below = sweep(np.where(present & (chance <= rule.low_risk), chance, np.inf), rank, bad, chance)
        self.ratio = float(rule.upper_ratio(int(below.sums[0][-1]), float(below.sums[1][-1])))
        """rho: given, or measured where only cases with small p̂ are accepted."""

    def bound(self, tau: Floats) -> FloatArray:
        """The bound on P(unsafe | accepted), with candidates P(unsafe | selected); 1 where there is none.

        Args:
            tau: thresholds on the margin, of any shape.

        Returns:
            Bounds in (0, 1], shaped like ``tau``.

        Raises:
            SafeframeError: if a tau is NaN.
        """
        n, k, total = self._swept.at(as_query(tau))
        found = self.rule.bound(n, k, total, self.ratio)
        if self.odds != 1.0:
            found = self.odds * found / (1.0 + (self.odds - 1.0) * found)
        return found.reshape(np.shape(tau))

    def counts(self, tau: Floats) -> tuple[IntArray, IntArray]:
        """How many cases are accepted, or with candidates measurements with a selected one.

        Args:
            tau: thresholds on the margin, of any shape.

        Returns:
            Two integer arrays shaped like ``tau``, those accepted and the unsafe ones among them.

        Raises:
            SafeframeError: if a tau is NaN.
        """
        n, k, _ = self._swept.at(as_query(tau))
        return n.reshape(np.shape(tau)), k.reshape(np.shape(tau))

    def expected(self, tau: Floats) -> FloatArray:
        """The mean p̂ of what is accepted (pbar); 1 where nothing is.

        Args:
            tau: thresholds on the margin, of any shape.

        Returns:
            Means, shaped like ``tau``.

        Raises:
            SafeframeError: if a tau is NaN.
        """
        n, _, total = self._swept.at(as_query(tau))
        return np.divide(total, n, out=np.ones(n.shape), where=n > 0).reshape(np.shape(tau))

    def acceptance(self, tau: Floats) -> FloatArray:
        """Share of the cases, or with candidates of the measurements, that is accepted.

        Args:
            tau: thresholds on the margin, of any shape.

        Returns:
            Shares in [0, 1], shaped like ``tau``.

        Raises:
            SafeframeError: if a tau is NaN.
        """
        return self.counts(tau)[0] / self.n_cases

    selection_rate = acceptance

    @property
    def _entries(self) -> FloatArray:
        return self._swept.entry
