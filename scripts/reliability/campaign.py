"""The robustness campaign: what happens to runs, guards and logs when things go wrong, counted.

python scripts/reliability/campaign.py damage [--count 80] [--only KIND]   # cut and bit-flipped files
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(variable, "1")
os.environ.setdefault("MPLBACKEND", "Agg")
REPOSITORY = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(REPOSITORY), str(Path(__file__).resolve().parent)]


def main(arguments):
    parser = argparse.ArgumentParser()
    parser.add_argument("what")
    parser.add_argument("--count", type=int, default=80)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="")
    parser.add_argument("--reference", type=Path)
    o = parser.parse_args(arguments)
    if o.what == "kills":
        import kills

        kills.run(o.seed, o.count, o.only)
        return
    if o.what == "kills-engine":
        import kills

        kills.run(o.seed, o.count, o.only, engine=True)
        return
    import damage

    damage.run(o.reference, o.seed, o.count, o.only)


if __name__ == "__main__":
    main(sys.argv[1:])
