"""The report in headless Chromium: hover, keyboard, narrow and wide, light and dark, axe-core."""

from __future__ import annotations

import re

import pytest
from browser import browser

from experiments.support.files import REPOSITORY
from experiments.support.results import claims

pytestmark = pytest.mark.long
FIRST_ROWS = """() => document.querySelectorAll('tbody').forEach(
    body => Array.from(body.rows).slice(4).forEach(row => row.remove()))"""
"""Long tables repeat one row: axe-core looks at the first four."""


@pytest.fixture(scope="module")
def chromium():
    with browser() as started:
        yield started


@pytest.fixture
def opened(chromium, report):
    """Opens the report in a window (width, "light" or "dark"); nothing may be asked for or go wrong."""
    troubles, contexts = [], []

    def open_(width: int = 1600, scheme: str = "light"):
        context = chromium.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("console", lambda said: troubles.append(said.text) if said.type == "error" else None)
        page.on("request", lambda asked: troubles.append(asked.url[:90]) if foreign(asked.url) else None)
        page.goto(report.as_uri())
        return page

    def foreign(url: str) -> bool:
        return not url.startswith(("data:", "blob:")) and url != report.as_uri()

    yield open_
    for context in contexts:
        context.close()
    assert troubles == []


def ready(page, name: str):
    """The chart, drawn."""
    chart = page.locator(f"#{name}")
    chart.scroll_into_view_if_needed()
    page.wait_for_selector(f"#{name}[data-ready=yes]", timeout=60_000)
    return chart


def test_hover_gives_threshold_interval_and_seeds(opened):
    page = opened()
    ready(page, "production_eia_threshold")
    at = page.evaluate("""() => {
        const chart = document.getElementById('production_eia_threshold'), full = chart._fullLayout;
        const trace = chart.data.findIndex(one => one.name === 'ours'), box = chart.getBoundingClientRect();
        return {x: box.left + full.xaxis._offset + full.xaxis.d2p(chart.data[trace].x[2]),
                y: box.top + full.yaxis._offset + full.yaxis.d2p(chart.data[trace].y[2])};}""")
    page.mouse.move(at["x"] - 3, at["y"])
    page.mouse.move(at["x"], at["y"])
    page.wait_for_selector("#production_eia_threshold .hoverlayer .hovertext")
    said = page.locator("#production_eia_threshold-readout").inner_text()
    assert re.search(r"^ours; r_t = [\d.e-]+; violations .*\[[\d.e-]+, [\d.e-]+\];.*seeds 5-9$", said), said


def test_numbers_on_the_screen_are_the_ledger_s(opened):
    page = opened()
    shown = page.evaluate("""() => Array.from(document.querySelectorAll('#short tr[data-claim]')).map(row => [
        row.dataset.claim, row.dataset.data, row.dataset.preset, row.querySelector('data').value,
        row.cells[3].innerText])""")
    ledger = claims.read(REPOSITORY / "results" / "claims.csv").set_index(["claim", "data", "preset"])
    assert len(shown) >= 15
    for claim, data, preset, value, text in shown:
        known = ledger.loc[(claim, data, preset), "value"]
        assert float(value) == known
        assert float(re.match(r"[-\d.e+]+", text)[0]) == pytest.approx(known, rel=0.1)


def test_arrow_keys_go_through_the_points_and_are_read_out(opened):
    page = opened()
    chart = ready(page, "safetygym_point_laptop_return")
    chart.focus()
    readout = page.locator("#safetygym_point_laptop_return-readout")
    said = []
    for key in ("ArrowRight", "ArrowRight", "ArrowDown", "ArrowLeft"):
        page.keyboard.press(key)
        said.append(readout.inner_text())
    assert [text.split(";")[0] for text in said] == ["ours", "ours", "PPO", "PPO"]
    assert said[0] != said[1]
    page.keyboard.press("Escape")
    assert readout.inner_text() == ""


@pytest.mark.parametrize("width", [360, 1600])
def test_it_fits_its_window(opened, width):
    page = opened(width)
    ready(page, "llm_synthetic_reward")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator("#llm_synthetic_reward .main-svg").first.bounding_box()["width"] <= width


def test_dark_and_light_can_be_chosen(opened):
    page = opened(scheme="dark")
    colour = "getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(colour)
    page.locator("#theme").click()
    assert page.evaluate(colour) == "rgb(255, 255, 255)" != dark


def test_the_ledger_can_be_searched(opened):
    page = opened()
    page.locator("#ledger summary").first.click()
    page.locator("#filter").fill("theorem_1_failures")
    rows = page.locator("#ledger tbody tr:visible")
    assert 1 <= rows.count() <= 3
    assert "theorem_1_failures" in rows.first.inner_text()


def test_moving_pictures_can_be_stopped(opened):
    page = opened()
    kinds = "Array.from(document.querySelectorAll('img.moving')).map(one => one.src.slice(0, 14))"
    moving = page.evaluate(kinds)
    assert set(moving) == {"data:image/gif"}
    page.locator(".still").scroll_into_view_if_needed()
    page.wait_for_function("Array.from(document.querySelectorAll('img.moving')).every(one => one.complete)")
    page.locator(".still").press("Enter")
    assert set(page.evaluate(kinds)) == {"data:image/png"}
    assert page.locator(".still").get_attribute("aria-pressed") == "true"
    page.locator(".still").press("Enter")
    assert page.evaluate(kinds) == moving


@pytest.mark.parametrize(("width", "scheme"), [(1600, "light"), (360, "dark")])
def test_axe_finds_nothing_serious(opened, width, scheme):
    axe = pytest.importorskip("axe_core_python.sync_playwright", reason="needs axe-core-python")
    page = opened(width, scheme)
    ready(page, "production_eia_revenue")
    page.evaluate(FIRST_ROWS)
    page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")
    found = axe.Axe().run(page)["violations"]
    serious = [
        (one["id"], one["nodes"][0]["html"][:200])
        for one in found
        if one["impact"] in ("serious", "critical")
    ]
    assert serious == []
