"""For all tests: few threads (before anything imports NumPy or torch), no display, no network accounts."""

from __future__ import annotations

import os

for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(variable, "1")
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ["WANDB_MODE"] = "disabled"
os.environ["WANDB_SILENT"] = "true"
for variable in ("SAFEFRAME_DEBUG", "HYDRA_FULL_ERROR", "WANDB_API_KEY"):
    os.environ.pop(variable, None)
