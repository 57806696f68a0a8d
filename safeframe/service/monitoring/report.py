"""What a monitor reports."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class MonitorReport:
    """What a monitor has found.

    Attributes:
        n: labels counted.
        unsafe: unsafe ones among them.
        r_t: the risk that was promised.
        alpha: probability of a false alarm, ever.
        e_value: the wealth now: evidence against H0.
        p_value: 1 / the largest wealth so far, at most 1; valid at any time.
        alarm_at: labels counted when the alarm came; None without one.
        change: labels before the change that the alarm points to; None without one.
        lower: the risk was above it, with confidence 1 - alpha.
        arl: mean labels until the detector rings falsely; None without a detector.
        rang_at: labels counted when it rang; None where it did not.
    """

    n: int
    unsafe: int
    r_t: float
    alpha: float
    e_value: float
    p_value: float
    alarm_at: int | None
    change: int | None
    lower: float
    arl: float | None
    rang_at: int | None

    def __str__(self) -> str:
        seen = f"{self.unsafe:,} unsafe of {self.n:,} accepted"
        if self.alarm_at is None:
            text = f"no alarm: {seen}, e-value {self.e_value:.3g} below {1 / self.alpha:.3g}"
        else:
            text = (
                f"alarm after {self.alarm_at:,} labels: the risk is above r_t = {self.r_t:g} (false with "
                f"probability at most {self.alpha:g}), it points to a change after label {self.change:,}; "
                f"{seen}"
            )
        text += f"; risk above {self.lower:.3g} with confidence {1 - self.alpha:g}"
        if self.rang_at is not None:
            text += f"; detector rang after {self.rang_at:,} labels (false ones {self.arl:,.0f} labels apart)"
        return text
