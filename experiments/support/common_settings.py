"""Settings that several experiments have, each with its own default: calibration and the approximate loss.

xi_mass: float = common.xi_mass(0.5)
"""

from __future__ import annotations

from typing import Any

from experiments.support.settings import setting


def ten_thresholds(decades: int) -> tuple[float, ...]:
    """Ten risk thresholds, equally spaced in logarithms, in [10^-decades, 1]."""
    return tuple(round(10 ** (-decades + decades * k / 9), 10) for k in range(10))


def r_t(default: float) -> Any:
    """The run's own risk threshold."""
    text = "Risk threshold r_t: the largest probability that an action which is taken may be unsafe."
    return setting(default, text, threshold=True)


def thresholds(default: tuple[float, ...], **declared: Any) -> Any:
    """The risk thresholds that are validated."""
    text = "Risk thresholds r_t that are validated; the run's own is added."
    return setting(list(default), text, threshold=True, **declared)


def xi(default: str, words: tuple[str, ...], about: str = "") -> Any:
    """The radius of conservative testing: a word or a number; `about` explains words beside "measured"."""
    text = f"Radius xi of conservative testing, in logits; {about}measured takes it from the data."
    return setting(default, text, words=words)


def fixed_radius(value: str) -> float | None:
    """The radius that a setting `xi` names, None where it is to be measured."""
    return None if value == "measured" else float(value)


def xi_mass(default: float) -> Any:
    """What a measured radius may leave out."""
    text = (
        "Mass of margins left out where the radius is measured, as a share of r_t; it is added to the bound."
    )
    return setting(default, text, low=0, high=1)


def delta(default: float) -> Any:
    """One less the confidence of a certificate."""
    text = "Probability with which thresholds that are certified may break r_t."
    return setting(default, text, above=0, high=0.5)


def average(default: float) -> Any:
    """How long the running average of weights remembers."""
    text = "Decay, per update, of the running average of weights that training ends with."
    return setting(default, text, low=0, below=1)


def temperature(default: float) -> Any:
    """Of the relaxed indicators of internal test cases."""
    text = "Width of the relaxed indicators of the internal test cases, in units of the margin."
    return setting(default, text, above=0)


def temperature_output(default: float) -> Any:
    """Of the relaxed indicator of the case that is decided on."""
    text = "Width of the relaxed indicator of the case that is decided on, in units of the margin."
    return setting(default, text, above=0)


def penalty(default: float, unit: str) -> Any:
    """Beta of the approximate loss."""
    return setting(default, f"Penalty beta on a broken chance constraint, in units of {unit}.", above=0)


def perturbation(default: float) -> Any:
    """Lambda of the approximate loss."""
    return setting(default, "Weight lambda of the loss in the perturbed minimisation.", above=0)


def violation_cost(default: float, what: str, unit: str) -> Any:
    """What the loss of the action taken adds where the action is unsafe."""
    return setting(default, f"What the loss L charges for {what}, in units of {unit}.", low=0)
