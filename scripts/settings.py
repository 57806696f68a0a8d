"""Write docs/settings.md, the page of all settings, from the schemas.

python scripts/settings.py            write it
python scripts/settings.py --check    write nothing; exit code 1 if it is not up to date
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from experiments.support.files import atomic_write
from experiments.support.manual.page import PAGE, page


def main(arguments: list[str] | None = None) -> int:
    """Exit code: 0 written, or up to date; 1 not up to date."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--check", action="store_true", help="write nothing, say whether the page is up to date"
    )
    options, text = parser.parse_args(arguments), page()
    if not options.check:
        atomic_write(PAGE, text)
        return 0
    if PAGE.is_file() and PAGE.read_text(encoding="utf-8") == text:
        return 0
    print("error: docs/settings.md is not up to date; run: python scripts/settings.py", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
