"""A headless browser for tests that open a page; where none can be had, they skip and say why."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")


@contextmanager
def browser() -> Iterator:
    """Chromium under Playwright: the one that SAFEFRAME_CHROMIUM names, or one on the PATH."""
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="needs playwright (requirements-browser.txt)"
    )
    found = os.environ.get("SAFEFRAME_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip("no Chromium is installed (apt install chromium), or name it in SAFEFRAME_CHROMIUM")
    with playwright.sync_playwright() as running:
        started = running.chromium.launch(executable_path=found, args=["--no-sandbox", "--disable-gpu"])
        try:
            yield started
        finally:
            started.close()
