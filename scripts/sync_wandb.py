"""Upload runs that were tracked offline:  python scripts/sync_wandb.py [results/runs]

Needs a key (wandb login). What has been uploaded is marked by W&B and not sent again.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1] / "results" / "runs"


def waiting(root: Path) -> list[Path]:
    """Directories of offline W&B runs under `root` that have not been synchronised."""
    return [path for path in sorted(root.glob("**/wandb/offline-run-*")) if not list(path.glob("*.synced"))]


def main(arguments: list[str]) -> int:
    root = Path(arguments[0]) if arguments else ROOT
    found = waiting(root)
    if not found:
        print(f"nothing to upload under {root}")
        return 0
    print(f"uploading {len(found)} runs")
    return subprocess.run([sys.executable, "-m", "wandb", "sync", *map(str, found)], check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
