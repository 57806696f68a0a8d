"""Results that are several tables: one file, the same bytes for the same tables."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pandas as pd

from experiments.support.engine.tasks import Form


def save(tables: tuple[pd.DataFrame, ...], path: Path) -> None:
    """Tables as parquet files, stored in one zip file in their order, without times."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for number, table in enumerate(tables):
            buffer = io.BytesIO()
            table.to_parquet(buffer, index=False)
            archive.writestr(zipfile.ZipInfo(f"{number:04d}.parquet"), buffer.getvalue())


def load(path: Path) -> tuple[pd.DataFrame, ...]:
    """The tables that `save` wrote, in their order."""
    with zipfile.ZipFile(path) as archive:
        return tuple(pd.read_parquet(io.BytesIO(archive.read(name))) for name in sorted(archive.namelist()))


TABLES = Form(save, load, ".tables.zip")
