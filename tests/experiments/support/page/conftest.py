"""The report, built once from the committed results."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def report(tmp_path_factory) -> Path:
    pytest.importorskip("plotly", reason="needs plotly, of the extra report")
    from scripts import report

    path = tmp_path_factory.mktemp("report") / "report.html"
    assert report.main(["--to", str(path)]) == 0
    return path
