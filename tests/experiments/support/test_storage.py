"""Full disks, read-only places and missing permissions: one line that says where, what and what to do."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from experiments.support import config as configuration
from experiments.support import entry, files
from experiments.support.errors import StorageError
from experiments.support.results import frames
from experiments.support.runs import running

NUMBERS = [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EDQUOT, errno.ENOTDIR]
SAID = {
    errno.ENOSPC: "no space is left on the disk; free some",
    errno.EROFS: "the file system is read-only; choose another place",
    errno.EACCES: "permission is missing; change permissions",
    errno.EDQUOT: "the disk quota is used up; free some",
    errno.ENOTDIR: "a part of the path is no folder; choose another place",
}


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("where", ["mkstemp", "replace", "write"])
def test_a_write_that_the_system_refuses_names_path_and_advice(tmp_path, monkeypatch, number, where):
    def refuse(*_, **__):
        raise OSError(number, os.strerror(number))

    path = tmp_path / "folder" / "results.csv"
    if where == "mkstemp":
        monkeypatch.setattr(files.tempfile, "mkstemp", refuse)
    elif where == "replace":
        monkeypatch.setattr(files.os, "replace", refuse)
    else:
        monkeypatch.setattr(Path, "write_bytes", refuse)
    with pytest.raises(StorageError) as caught:
        files.atomic_write(path, "text")
    assert str(caught.value).startswith(f"{path} cannot be written: {SAID[number]}")
    assert "\n" not in str(caught.value)
    monkeypatch.undo()
    assert list(path.parent.glob("*")) == []  # nothing half-written


def test_other_errors_stay_what_they_are(tmp_path):
    with pytest.raises(FileNotFoundError), files.atomic_path(tmp_path / "a"):
        raise FileNotFoundError(errno.ENOENT, "no such file", "elsewhere")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, which is always full")
def test_a_disk_that_is_full_in_earnest(tmp_path):
    path, full = tmp_path / "a", Path("/dev/full")
    with pytest.raises(StorageError, match="no space is left"), files.atomic_path(path):
        full.write_bytes(b"x")
    assert not path.exists()


def test_an_output_under_a_file_ends_a_run_in_one_line(command, tmp_path):
    (tmp_path / "taken").write_text("a file")
    done = command(f"output={tmp_path / 'taken' / 'runs'}")
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert "cannot be written: a part of the path is no folder; choose another place with output=..." in line
    assert "Traceback" not in done.stderr


def test_a_full_disk_in_the_middle_of_a_run_ends_it_and_the_next_run_is_whole(toy, monkeypatch, tmp_path):
    from experiments.support import registry

    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(files.os, "replace", full)
        with pytest.raises(StorageError, match="no space is left"):
            running.perform(registry.get("toy"), toy())
    assert not list(tmp_path.rglob("DONE"))
    directory = running.perform(registry.get("toy"), toy())
    assert len(frames.read(directory))


def test_the_message_is_for_the_user_and_not_a_stack_trace(capsys):
    error = StorageError("a cannot be written")
    entry.complain(error, error)
    assert capsys.readouterr().err == "error: a cannot be written\n"


def test_an_input_is_hashed_once_while_it_stays_as_it_is(tmp_path, monkeypatch):
    path, calls = tmp_path / "input.csv", []
    path.write_text("a")
    whole = files.checksum
    monkeypatch.setattr(files, "checksum", lambda place: calls.append(place) or whole(place))
    assert configuration.input_checksum(path) == files.input_checksum(path) == whole(path)
    assert len(calls) == 1
    path.write_text("ab")
    assert files.input_checksum(path) == whole(path)
    assert len(calls) == 2
