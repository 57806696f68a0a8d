"""Draw the picture on the front page of README and docs:  python scripts/draw_pipeline.py [FILE]

Writes docs/images/pipeline.png, the same bytes each time (same versions of the packages).
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

PICTURE = Path(__file__).resolve().parents[1] / "docs" / "images" / "pipeline.png"
INK, GREY, YOURS, OURS, GOOD, BAD = "#1f2933", "#66707a", "#e8eef7", "#fdf1dc", "#dff0e4", "#fae1dd"
HEIGHT = 1.15


def box(axes: Axes, x: float, y: float, width: float, title: str, text: str, colour: str) -> None:
    """A rounded box around (x, y) with a title and a line of text below it."""
    shape = FancyBboxPatch(
        (x - width / 2, y - HEIGHT / 2), width, HEIGHT, "round,pad=0,rounding_size=0.14", facecolor=colour
    )
    shape.set(edgecolor=INK, linewidth=1.1)
    axes.add_patch(shape)
    axes.text(x, y + 0.24, title, ha="center", va="center", fontsize=11.5, weight="bold", color=INK)
    axes.text(x, y - 0.22, text, ha="center", va="center", fontsize=9.2, color=INK)


def arrow(
    axes: Axes, start: tuple[float, float], end: tuple[float, float], text: str = "", above: float = 0.2
) -> None:
    axes.add_patch(FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=14, linewidth=1.3, color=INK))
    if text:
        x, y = (start[0] + end[0]) / 2, (start[1] + end[1]) / 2 + above
        axes.text(x, y, text, ha="center", va="center", fontsize=9.2, color=GREY, style="italic")


def draw(path: Path) -> None:
    """The picture, in inches of a page 11.6 wide."""
    figure, axes = plt.subplots(figsize=(11.6, 4.3))
    axes.set(xlim=(0, 11.6), ylim=(0, 4.3), aspect="equal")
    axes.axis("off")
    figure.subplots_adjust(0, 0, 1, 1)
    top, middle, bottom = 3.55, 2.12, 0.7

    axes.text(0.55, middle, "input", ha="center", va="center", fontsize=11.5, weight="bold", color=INK)
    box(axes, 2.7, top, 2.3, "your model", "proposes actions", YOURS)
    box(axes, 2.7, middle, 2.3, "your classifier", "how risky does each look?", YOURS)
    box(axes, 2.7, bottom, 2.3, "your labelled cases", "internal test data", YOURS)
    box(axes, 6.0, bottom, 2.55, "conservative testing", "bound on P(unsafe | accepted)", OURS)
    box(axes, 6.0, middle, 2.55, "margin below τ ?", "accept or refuse", OURS)
    box(axes, 10.15, top, 2.5, "best accepted action", "P(unsafe) bounded by $r_t$", GOOD)
    box(axes, 10.15, bottom, 2.5, "default action", "yours: wait, brake, decline", BAD)

    arrow(axes, (0.85, middle + 0.12), (1.55, top - 0.2))
    arrow(axes, (0.88, middle), (1.55, middle))
    arrow(axes, (3.85, top), (8.9, top), "candidates")
    arrow(axes, (3.85, middle), (4.72, middle), "margins")
    arrow(axes, (3.85, bottom), (4.72, bottom), "labels")
    arrow(axes, (6.0, bottom + HEIGHT / 2), (6.0, middle - HEIGHT / 2))
    note = {"ha": "left", "va": "center", "fontsize": 9.2, "color": GREY, "style": "italic"}
    axes.text(6.12, 1.41, "τ for your $r_t$", **note)
    arrow(axes, (7.28, middle + 0.2), (8.9, top - 0.32))
    axes.text(8.3, 2.58, "some accepted", **note)
    arrow(axes, (7.28, middle - 0.2), (8.9, bottom + 0.32))
    axes.text(8.3, 1.66, "none", **note)

    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=170, facecolor="white", metadata={"Software": None})
    plt.close(figure)


if __name__ == "__main__":
    draw(Path(sys.argv[1]) if len(sys.argv) > 1 else PICTURE)
