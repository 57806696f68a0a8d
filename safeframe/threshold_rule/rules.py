"""The rules as settings: the paper's plug-in rule, and the conservative one with its three parts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from safeframe.chance_constraint import validate_radius
from safeframe.conservative_testing import PosteriorForm, check_form
from safeframe.types import SafeframeError, number


def one_more(n_unsafe: int) -> float:
    """The share of one unsafe case more than was seen (conformal risk control, arXiv 2208.02814).

    Args:
        n_unsafe: unsafe cases that were seen.

    Returns:
        1 / (n_unsafe + 1), to be added to the share of them that is accepted.
    """
    return 1.0 / (n_unsafe + 1)


class LackingClassError(SafeframeError):
    """A radius is to be measured, but a half of the cases has no case of one class."""


@dataclass(frozen=True)
class PlugIn:
    """The paper's rule: the share that was seen, with a given radius, and nothing else.

    At radius 0 it promises nothing: with few cases the risk exceeds r_t in most draws.

    Attributes:
        radius: xi >= 0, in logit units.
        form: "tight" or "paper" posterior bound (event "accepted").

    Raises:
        SafeframeError: on a radius that is negative or not finite, or an unknown form.
    """

    radius: float = 0.0
    form: PosteriorForm = "tight"

    def __post_init__(self) -> None:
        validate_radius(self.radius)
        check_form(self.form)


@dataclass(frozen=True)
class Conservative:
    """The rule of this module: radius, mass and one unsafe case more than was seen.

    Attributes:
        radius: "measured" between two halves of the cases, or xi >= 0 in logit units.
        share: of r_t, the mass that a measured radius leaves out, in [0, 1); it is added to the bound.
        form: "tight" or "paper" posterior bound (event "accepted").

    Raises:
        SafeframeError: on a value outside its range.
    """

    radius: float | Literal["measured"] = "measured"
    share: float = 0.5
    form: PosteriorForm = "tight"

    def __post_init__(self) -> None:
        if isinstance(self.radius, str) and self.radius != "measured":
            raise SafeframeError(f'radius is {self.radius!r}; it must be a number or "measured"')
        if not isinstance(self.radius, str):
            validate_radius(self.radius)
        if not 0.0 <= number(self.share, "share") < 1.0:
            raise SafeframeError(f"share is {self.share}; the share of r_t left out must lie in [0, 1)")
        check_form(self.form)
