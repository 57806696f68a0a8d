"""Where compiled code is kept between runs: a folder named by the sources that it came from.

Numba looks only at the file of a compiled function, not at those whose functions it calls, and would go on
with code from before a change there. So every state of the sources has a folder of its own. It lies in
NUMBA_CACHE_DIR if that is set, else in the user's cache folder, else in a temporary one.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import time
from pathlib import Path

import numba

PACKAGE = Path(__file__).resolve().parents[1]
"""experiments/safetygym: whatever of it is compiled."""


def fingerprint() -> str:
    """Of Numba's version and of all files of the package that mention it."""
    digest = hashlib.sha256(numba.__version__.encode())
    for path in sorted(PACKAGE.rglob("*.py")):
        source = path.read_bytes()
        if b"numba" in source:
            digest.update(path.relative_to(PACKAGE).as_posix().encode() + b"\0" + source + b"\0")
    return digest.hexdigest()[:16]


def forget_old(parent: Path, days: float = 30.0) -> None:
    """Delete this module's folders in `parent` that nothing has been written to for that long."""
    for folder in parent.glob("[0-9a-f]" * 16):
        if folder.is_dir() and time.time() - folder.stat().st_mtime > days * 86400:
            shutil.rmtree(folder, ignore_errors=True)


def choose_folder() -> Path:
    """The first folder that can be written to."""
    given = os.environ.get("NUMBA_CACHE_DIR")
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "safeframe" / "numba"
    temporary = Path(tempfile.gettempdir()) / f"safeframe-numba-{os.getuid()}"
    name = fingerprint()
    for parent in ([Path(given)] if given else []) + [home, temporary]:
        try:
            if not (parent / name).is_dir():
                forget_old(parent)
            (parent / name).mkdir(parents=True, exist_ok=True)
        except OSError:
            continue
        if os.access(parent / name, os.W_OK):
            return parent / name
    raise OSError(f"no folder for compiled code can be written to; set NUMBA_CACHE_DIR ({home} was tried)")


numba.config.CACHE_DIR = str(choose_folder())  # type: ignore[attr-defined]
