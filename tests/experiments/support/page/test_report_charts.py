"""From a table to a chart: zeros on their line, bars, and what is refused."""

from __future__ import annotations

import pandas as pd
import pytest

from experiments.support.errors import ResultsError
from experiments.support.page import charts, markup, sections
from experiments.support.page.parts import Axis, Frontier, Part

ONE = Frontier(
    name="one",
    title="one",
    about="",
    table="tables/one.csv",
    x=Axis("r_t", "threshold", True),
    y=Axis("share", "share", True, "low", "high"),
    methods={"ours": "ours", "theirs": "the other"},
    n="cases",
    units="cases",
)


@pytest.fixture
def results(tmp_path):
    table = pd.DataFrame({
        "method": ["theirs", "ours", "ours", "unknown", "ours"],
        "r_t": [0.1, 0.01, 0.1, 0.1, 0.5],
        "share": [0.2, 0.0, 0.05, 0.3, None],
        "low": [0.1, 0.0, 0.01, 0.2, None],
        "high": [0.3, 0.02, 0.09, 0.4, None],
        "cases": [10, 20, 30, 40, 50],
    })  # fmt: skip
    (tmp_path / "tables").mkdir()
    table.to_csv(tmp_path / "tables" / "one.csv", index=False)
    return tmp_path


def test_rows_are_in_the_order_of_the_legend_and_have_values(results):
    rows = charts.rows_of(ONE, results)
    assert rows["method"].tolist() == ["ours", "ours", "theirs"]


def test_a_zero_lies_below_all_others_and_its_bar_reaches_its_limit(results):
    pytest.importorskip("plotly", reason="needs plotly, of the extra report")
    rows = charts.rows_of(ONE, results)
    chart = charts.figure(ONE, rows, "1-3")
    ours, theirs = chart["data"]
    rail = 0.05 / charts.BELOW
    assert ours["y"] == [pytest.approx(rail), 0.05]
    assert ours["error_y"]["array"][0] == pytest.approx(0.02 - rail, abs=1e-12)
    assert ours["error_y"]["arrayminus"][0] == 0
    assert theirs["error_y"]["arrayminus"] == [pytest.approx(0.1)]
    assert "share: 0 [0, 0.02]" in ours["text"][0]
    ticks = dict(zip(chart["layout"]["yaxis"]["ticktext"], chart["layout"]["yaxis"]["tickvals"], strict=True))
    assert ticks["0"] == pytest.approx(rail)
    assert "n = 20 cases<br>seeds 1-3" in ours["text"][0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"table": "tables/none.csv"}, "is missing"),
        ({"n": "nothing"}, "has no column nothing"),
        ({"methods": {"nobody": "nobody"}}, "no row that the chart one could show"),
    ],
)
def test_what_cannot_be_shown_is_an_error(results, change, message):
    from dataclasses import replace

    with pytest.raises(ResultsError, match=message):
        charts.rows_of(replace(ONE, **change), results)


def test_seeds_come_from_one_row_of_the_ledger(results):
    from dataclasses import replace

    ledger = pd.DataFrame({"claim": ["a.b"], "data": ["x"], "preset": ["laptop"], "seeds": ["5-9"]})
    assert sections.seeds_of(replace(ONE, seeds=("a.b", "x", "laptop")), ledger) == "5-9"
    with pytest.raises(ResultsError, match="0 rows of the ledger"):
        sections.seeds_of(replace(ONE, seeds=("a.c", "x", "laptop")), ledger)


def test_no_figure_is_left_out_and_none_shown_twice(tmp_path):
    for name in ("a_1", "a_2", "b_1", "c"):
        (tmp_path / f"{name}.txt").write_text("caption")
    parts = [Part("one", "", "", ("a_2", "a_*")), Part("two", "", "", ("b_*", "a_*"))]
    assert sections.figures_of(parts, tmp_path) == {"one": ["a_2", "a_1"], "two": ["b_1"], "": ["c"]}


def test_a_figure_without_its_caption_is_an_error(tmp_path):
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(ResultsError, match=r"a\.txt is missing"):
        sections.figure("a", tmp_path)


def test_text_cannot_become_markup():
    assert markup.inline("a < b & `c<d` [page](x.md)") == "a &lt; b &amp; <code>c&lt;d</code> page"
    assert 'aria-label="&quot;x&quot;"' in markup.scrolling("", '"x"')
    assert markup.number("<", 0.1) == '<data value="0.1">&lt;</data>'
