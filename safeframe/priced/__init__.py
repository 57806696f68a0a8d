"""Risk priced instead of gated: the rule, and the risk curve of it over all prices."""

from __future__ import annotations

from typing import TYPE_CHECKING

from safeframe.lazy import lazy_names

if TYPE_CHECKING:
    from safeframe.priced.curve import PricedRiskCurve
    from safeframe.priced.sweep import Price

__all__ = ["Price", "PricedRiskCurve"]

HOMES = {
    "safeframe.priced.curve": ("PricedRiskCurve",),
    "safeframe.priced.sweep": ("Price",),
}
"""Where each public name is defined."""

__getattr__, __dir__ = lazy_names(__name__, HOMES)
