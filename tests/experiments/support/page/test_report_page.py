"""The report as a file: it loads nothing, its numbers are the ledger's, its pictures have words."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import pandas as pd
import pytest

from experiments.support.files import REPOSITORY
from experiments.support.page import charts
from experiments.support.results import claims
from experiments.support.results.publish import RESULTS

VOID = {"meta", "img", "input", "br", "link", "hr"}


class Page(HTMLParser):
    """Tags with attributes, text by element id, and whether every tag is closed in its order."""

    def __init__(self, text: str):
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.wrong: list[str] = []
        self.captions: dict[str, str] = {}
        self.rows: list[dict] = []
        self.json: dict[str, str] = {}
        self._figure = self._script = None
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.tags.append((tag, given))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "figure":
            self._figure = given.get("id")
        if tag == "tr":
            self.rows.append({**given, "values": [], "text": ""})
        if tag == "data" and self.rows:
            self.rows[-1]["values"].append(given["value"])
        self._script = given.get("id") if tag == "script" else None

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.wrong.append(f"</{tag}> at {self.getpos()}")

    def handle_data(self, data):
        if self._script and self.open and self.open[-1] == "script":
            self.json[self._script] = self.json.get(self._script, "") + data
        elif "figcaption" in self.open and self._figure:
            self.captions[self._figure] = self.captions.get(self._figure, "") + data
        elif self.rows and "tr" in self.open:
            self.rows[-1]["text"] += data + "\n"


@pytest.fixture(scope="module")
def page(report) -> Page:
    return Page(report.read_text(encoding="utf-8"))


def test_every_tag_is_closed_and_ids_are_unique(page):
    assert page.wrong == []
    assert page.open == []
    ids = [given["id"] for _, given in page.tags if "id" in given]
    assert len(ids) == len(set(ids))
    for tag, given in page.tags:  # links within the page lead somewhere
        if tag == "a":
            assert given["href"].removeprefix("#") in ids


def test_nothing_is_loaded_from_elsewhere(page, report):
    for tag, given in page.tags:
        for name in ("src", "srcset", "data", "poster"):
            assert name not in given or given[name].startswith("data:image/"), (tag, name)
        assert tag not in {"link", "iframe", "object", "embed", "base"}
    policies = [given["content"] for tag, given in page.tags if given.get("http-equiv")]
    assert policies == [
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
    ]
    style = re.search(r"<style>(.*?)</style>", report.read_text(encoding="utf-8"), re.S)[1]
    assert "url(" not in style
    assert "@import" not in style


def test_every_picture_has_words_and_a_size(page):
    pictures = [given for tag, given in page.tags if tag == "img"]
    assert len(pictures) >= len(list((RESULTS / "figures").glob("*.png")))
    for given in pictures:
        assert len(given["alt"]) > 20
        assert int(given["width"]) > 0
        assert int(given["height"]) > 0


def test_every_figure_is_shown_with_its_whole_caption(page):
    for folder, mark in (("figures", ""), ("preset_paper/figures", "-paper")):
        for path in (RESULTS / folder).glob("*.txt"):
            assert path.read_text().strip() in page.captions[f"figure-{path.stem}{mark}"]


def test_every_number_of_the_ledger_is_there_and_no_other(page):
    ledger = claims.read(REPOSITORY / "results" / "claims.csv")
    expected = {(row["claim"], row["data"], row["preset"]): row for row in ledger.to_dict("records")}
    seen = set()
    for row in page.rows:
        if "data-claim" not in row:
            continue
        key = (row["data-claim"], row["data-data"], row["data-preset"])
        known = expected[key]
        assert [float(value) for value in row["values"]] == [known["value"]], key
        for end in ("low", "high"):
            if pd.isna(known[end]):
                assert f"data-{end}" not in row
            else:
                assert float(row[f"data-{end}"]) == known[end]
        text = row["text"]
        assert f"\n{known['n']:,}\n" in text
        assert known["commit"] in text
        shown = float(re.search(r"[-+]?\d[\d.]*(?:e[-+]?\d+)?", text.split(key[2] + "\n", 1)[1])[0])
        assert shown == pytest.approx(known["value"], rel=0.1, abs=1e-300)  # ratios are rounded down
        seen.add(key)
    assert seen == set(expected)


def test_headlines_are_the_readme_s(page):
    shown = "\n".join(row["text"] for row in page.rows[:12])
    table = re.search(
        r"<!-- table:begin headlines -->\n(.*?)<!-- table:end -->",
        (REPOSITORY / "README.md").read_text(),
        re.S,
    )[1]
    for line in table.splitlines()[2:]:
        _, _, here, _ = (cell.strip() for cell in line.strip("|").split("|"))
        assert here in shown


def test_charts_show_the_committed_tables(page):
    from scripts.report import PARTS

    ledger = claims.read(REPOSITORY / "results" / "claims.csv")
    frontiers = [one for part in PARTS for one in part.frontiers]
    assert len(frontiers) >= 15
    for one in frontiers:
        rows = charts.rows_of(one, RESULTS)
        content = json.loads(page.json[f"{one.name}-data"])
        traces = [trace for trace in content["data"] if "text" in trace]
        assert sum(len(trace["text"]) for trace in traces) == len(rows)
        at = 0
        for trace in traces:
            for place, text in enumerate(trace["text"]):
                row = rows.iloc[at]
                at += 1
                assert text.startswith(f"<b>{one.methods[row[one.by]]}</b>")
                y = row[one.y.column]
                zero = one.y.log and y <= 0
                assert (trace["y"][place] > 0) if zero else trace["y"][place] == pytest.approx(y)
                assert f"{one.y.title}: {charts.shown(y)}" in text
                if "r_t" in row and not pd.isna(row["r_t"]):
                    assert f"r_t = {charts.shown(row['r_t'])}<br>" in text
                assert f"n = {int(row[one.n]):,} {one.units}" in text
                found = ledger[(ledger["claim"] == one.seeds[0]) & (ledger["data"] == one.seeds[1])]
                seeds = found[found["preset"] == one.seeds[2]]["seeds"].item()
                assert text.endswith(f"seeds {seeds}")


def test_episodes_are_shown_with_what_was_counted(page):
    committed = json.loads((RESULTS / "episodes" / "episodes.json").read_text())
    moving = [given for tag, given in page.tags if tag == "img" and given.get("class") == "moving"]
    assert len(moving) == 2 * len(committed) >= 4
    for about, pair in zip(committed, zip(moving[::2], moving[1::2], strict=True), strict=True):
        for kind, given in zip(("unguarded", "guarded"), pair, strict=True):
            assert given["src"].startswith("data:image/gif;base64,")
            counted = f"{about[kind]['steps_in_a_hazard']} of {about['steps']} steps inside a hazard"
            assert f"{about['task']} from above" in given["alt"]
            assert counted in given["alt"]


def test_every_committed_run_has_its_manifest(page, report):
    text = report.read_text(encoding="utf-8")
    runs = [
        run["run"]
        for index in (RESULTS / "raw").glob("*/*/runs.json")
        for run in json.loads(index.read_text())["runs"]
    ]
    assert len(runs) > 50
    for run in runs:
        assert f"<code>{run}</code>" in text


def test_without_plotly_the_error_says_what_to_install(monkeypatch, capsys, tmp_path):
    import sys

    from scripts import report

    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    monkeypatch.setitem(sys.modules, "plotly.graph_objects", None)
    assert report.main(["--to", str(tmp_path / "x.html")]) == 1
    assert "pip install" in capsys.readouterr().err
    assert not (tmp_path / "x.html").exists()
