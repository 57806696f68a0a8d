"""Figures saved twice are the same bytes; colours stay apart."""

from __future__ import annotations

import pytest

from experiments.support.results import figures

pytestmark = pytest.mark.usefixtures("rendered_pdf")


def draw(directory):
    with figures.style():
        import matplotlib.pyplot as plt

        figure, axes = plt.subplots()
        for name, colour in figures.colours(["ours", "two_stage"]).items():
            axes.plot([1e-3, 1e-1], [1, 2], color=colour, label=name)
        axes.set_xscale("log")
        axes.legend()
        return figures.save(figure, "sample", "What it shows.\n", directory)


def test_saving_is_deterministic_and_undated(tmp_path):
    first = [path.read_bytes() for path in draw(tmp_path / "a")]
    second = [path.read_bytes() for path in draw(tmp_path / "b")]
    assert [path.name for path in draw(tmp_path / "a")] == ["sample.png", "sample.pdf", "sample.txt"]
    assert first == second
    assert first[0].startswith(b"\x89PNG")
    assert first[1].startswith(b"%PDF")
    assert b"CreationDate" not in first[1]
    assert first[2] == b"What it shows.\n"


def test_figures_are_closed(tmp_path):
    import matplotlib.pyplot as plt

    before = plt.get_fignums()
    draw(tmp_path)
    assert plt.get_fignums() == before


def test_colours_are_distinct_and_stable():
    assert len(set(figures.PALETTE)) == len(figures.PALETTE) == len(figures.MARKERS)
    assert figures.colours(["a", "b"])["a"] == figures.colours(["a"])["a"]


def test_labels_of_a_logarithmic_axis_stay_apart_sideways():
    import matplotlib.pyplot as plt

    with figures.style():
        for which in "xy":
            figure, axes = plt.subplots()
            figures.log_axis_with_zero(axes, 10**-3.5, 30.0, which)
            axis = axes.xaxis if which == "x" else axes.yaxis
            shown = [axis.get_major_formatter()(place) for place in sorted(axis.get_major_locator()())]
            assert shown == ["0", *(["0.01", "0.1"] if which == "x" else ["0.001", "0.01", "0.1"]), "1", "10"]
            plt.close(figure)
