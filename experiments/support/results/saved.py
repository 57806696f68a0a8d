"""The records of a finished run, for everything that reads them: tables, figures and claims.

They come from the run's own directory (results/runs/<experiment>/<id>), or from raw files: the records of
many runs in one folder, results/raw/<preset>/<experiment>, which is committed, so that a fresh clone draws
every figure without running anything. A raw folder holds runs.json (format, configurations, manifests, and a
checksum for each file) and a parquet file for each kind of table, whose column `run` says which run a row
belongs to.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from omegaconf import OmegaConf

from experiments.support import manifest
from experiments.support.errors import CacheError, ResultsError
from experiments.support.files import atomic_path, checksum, hash_of, write_json
from experiments.support.results import frames

FORMAT = 1
INDEX = "runs.json"
RESULTS = "results"
"""The table of tidy results."""


class Saved:
    """One finished run: `run` (its id), `config` and `manifest` as nested dictionaries, and its tables."""

    def __init__(
        self,
        run: str,
        config: Mapping[str, Any],
        manifest: Mapping[str, Any],
        read: Callable[[str], pd.DataFrame | None],
    ):
        self.run, self.config, self.manifest = run, config, manifest
        self._read, self._tables = read, dict[str, pd.DataFrame | None]()

    def setting(self, key: str, default: Any = None) -> Any:
        """The value behind a dotted configuration key; `default` where there is none."""
        place: Any = self.config
        for name in key.split("."):
            if not isinstance(place, Mapping) or name not in place:
                return default
            place = place[name]
        return place

    @property
    def seed(self) -> int:
        """The root seed."""
        return int(self.setting("seed", 0))

    @property
    def finished(self) -> str:
        """When it was finished, ISO 8601; empty if the manifest does not say."""
        return str(self.manifest.get("finished", ""))

    def has(self, name: str) -> bool:
        """Whether there is a table of that name."""
        if name not in self._tables:
            self._tables[name] = self._read(name)
        return self._tables[name] is not None

    def table(self, name: str) -> pd.DataFrame:
        """A table: "results", or one of the experiment's own.

        Raises:
            ResultsError: where the run has none of that name.
            CacheError: where a finished run's results were changed since.
        """
        if not self.has(name):
            raise ResultsError(
                f"run {self.run} has no table {name!r}: was it made by an older version? force=true runs "
                "it again"
            )
        found = self._tables[name]
        assert found is not None
        return found


def of_directory(directory: Path, finished: bool = True) -> Saved:
    """A run from its own directory. `finished`: its files are checked against DONE; without it they are taken
    as they are, for the figures that a run draws at its end.

    Raises:
        CacheError: where a finished run's file is missing or was changed since.
    """
    directory = Path(directory)
    if finished:
        frames.verify(directory)

    def read(name: str) -> pd.DataFrame | None:
        if name == RESULTS and finished:
            return frames.read(directory)
        for suffix, reader in ((".parquet", pd.read_parquet), (".csv", pd.read_csv)):
            if (directory / f"{name}{suffix}").is_file():
                try:
                    return reader(directory / f"{name}{suffix}")
                except pd.errors.EmptyDataError:
                    return None
        return None

    config, about = directory / "config.yaml", directory / "manifest.json"
    content: Any = OmegaConf.to_container(OmegaConf.load(config)) if config.is_file() else {}
    return Saved(directory.name, content, json.loads(about.read_text()) if about.is_file() else {}, read)


def write_raw(
    runs: Iterable[Saved],
    tables: Iterable[str],
    place: Path,
    dirty: bool = False,
    trim: Callable[[Saved, str, pd.DataFrame], pd.DataFrame] | None = None,
) -> list[Path]:
    """Write the records of runs as the raw files of one experiment and preset; their paths.

    Args:
        runs: finished runs, each once.
        tables: names of the tables to keep beside the tidy results; a run may lack one.
        place: the folder; raw files that are there already are replaced.
        dirty: take runs whose code had changes that were not committed, or was under no version control.
        trim: (run, name, table) -> what figures need of the table; None: all of it.

    Raises:
        ResultsError: for no run, and for a run from a dirty tree unless `dirty`.
    """
    runs, tables = sorted(runs, key=lambda one: one.run), list(tables)
    if not runs:
        raise ResultsError(f"no runs to keep in {place}")
    if not dirty:
        for one in runs:
            require_clean(one)
    place.mkdir(parents=True, exist_ok=True)
    sums, paths = {}, []
    for name in (RESULTS, *tables):
        found = {one.run: one.table(name) for one in runs if one.has(name)}
        if trim is not None:
            found = {one.run: trim(one, name, found[one.run]) for one in runs if one.run in found}
        # a table without rows has no types either
        parts = [table.assign(run=run) for run, table in found.items() if len(table) or len(found) == 1]
        if parts:
            path = place / f"{name}.parquet"
            with atomic_path(path) as temporary:
                table = pd.concat(parts, ignore_index=True).astype({"run": "category"})
                _write(table, temporary, _split(table))
            sums[path.name] = checksum(path)
            paths.append(path)
    kept = [
        {
            "run": one.run,
            "config": portable(one.config),
            "manifest": one.manifest,
            "tables": [name for name in (RESULTS, *tables) if one.has(name)],
        }
        for one in runs
    ]
    kept = json.loads(json.dumps(kept, default=str))  # as it is read
    content = {
        "format": FORMAT,
        "made_by": manifest.command(),
        "files": sums,
        "seal": hash_of(kept),
        "runs": kept,
    }
    write_json(place / INDEX, content)
    for old in place.glob("*.parquet"):
        if old.name not in sums:
            old.unlink()
    return [place / INDEX, *paths]


def _write(table: pd.DataFrame, where: Any, split: Iterable[str]) -> None:
    """Parquet; of columns in `split` the first bytes of all numbers come first, then the second ones, ..."""
    split = set(split)
    table.to_parquet(
        where, index=False, compression="zstd", compression_level=19,
        use_dictionary=[name for name in table if name not in split],
        column_encoding=dict.fromkeys(split, "BYTE_STREAM_SPLIT"),
    )  # fmt: skip


def _split(table: pd.DataFrame) -> list[str]:
    """Columns of numbers that take less room so: those that hardly repeat."""

    def room(name: str, split: Iterable[str]) -> int:
        file = io.BytesIO()
        _write(table[[name]], file, split)
        return file.tell()

    return [name for name in table.select_dtypes("floating") if room(name, [name]) < room(name, [])]


def portable(value: Any) -> Any:
    """A configuration whose absolute paths, which only one machine has, are cut to their last part."""
    if isinstance(value, Mapping):
        return {key: portable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [portable(item) for item in value]
    return Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value


def require_clean(run: Saved) -> None:
    """Raise `ResultsError` for a run that was made from a tree with changes that were not committed."""
    if not run.manifest.get("commit") or run.manifest.get("dirty"):
        raise ResultsError(
            f"run {run.run} was made from a tree with uncommitted changes, so no commit says how; commit and "
            "run it again with force=true, or take it as it is with --dirty"
        )


def read_raw(place: Path) -> list[Saved]:
    """The runs of a raw folder. Tables are read, and their checksums compared, when they are first asked for.

    Raises:
        ResultsError: for files of another format, or a folder that cannot be read.
        CacheError: for a runs.json that was changed, and (when a table is asked for) for a file that is
            missing or was changed.
    """
    index = Path(place) / INDEX
    again = "gather the runs again (python scripts/gather.py), or check the file out again"
    try:
        content = json.loads(index.read_text(encoding="utf-8"))
        found, sums, runs = content["format"], content["files"], content["runs"]
    except FileNotFoundError as error:
        raise NoRuns(f"{index} does not exist: {again}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise ResultsError(f"{index} cannot be read ({error!r}): {again}") from error
    if found != FORMAT:
        raise ResultsError(f"{index} has format {found}, this version reads {FORMAT}: {again}")
    if content.get("seal", sealed := hash_of(runs)) != sealed:  # older files have none
        raise CacheError(f"{index} was changed since it was written: {again}")
    whole: dict[str, pd.DataFrame] = {}

    def reader(one: Mapping[str, Any]) -> Callable[[str], pd.DataFrame | None]:
        def read(name: str) -> pd.DataFrame | None:
            if name not in one["tables"]:
                return None
            if name not in whole:
                path = index.with_name(f"{name}.parquet")
                if not path.is_file() or checksum(path) != sums.get(path.name):
                    raise CacheError(f"{path} is missing or was changed since it was written: {again}")
                whole[name] = pd.read_parquet(path)
            of_run = whole[name][whole[name]["run"] == one["run"]]
            table = of_run.drop(columns="run").reset_index(drop=True)
            return frames.tidy(table) if name == RESULTS else table

        return read

    return [Saved(one["run"], one["config"], one["manifest"], reader(one)) for one in runs]


class NoRuns(ResultsError):
    """There is no finished run of what was asked for: no figure, and no fault."""
