"""Which sweep a run belongs to, as Hydra knows it."""

from __future__ import annotations

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode

SINGLE = "single runs"


def name() -> str:
    """The sweep's name (`+sweep=figure-2`); of one typed by hand, the settings that it is over; `SINGLE`
    outside a sweep.
    """
    if not HydraConfig.initialized() or HydraConfig.get().mode != RunMode.MULTIRUN:
        return SINGLE
    hydra = HydraConfig.get()
    chosen = hydra.runtime.choices.get("sweep")
    if chosen:
        return str(chosen)
    over = [word.split("=")[0].lstrip("+~") for word in hydra.overrides.task if swept(word)]
    return f"over {', '.join(over)}" if over else SINGLE


def swept(word: str) -> bool:
    """Whether an override of one job comes from a setting with several values (known by the job's name)."""
    key = word.split("=")[0].lstrip("+~")
    return f"{key}=" in HydraConfig.get().job.override_dirname
