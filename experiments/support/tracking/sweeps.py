"""Which sweep a run belongs to: the group of runs that a tracker shows together."""

from __future__ import annotations

from hydra.core.hydra_config import HydraConfig

from experiments.support import sweep

SINGLE = "single runs"


def name() -> str:
    """The sweep's name (`+sweep=figure-2`); of one typed by hand, the settings that it is over; `SINGLE`
    outside a sweep.
    """
    record = sweep.active()
    if record is None:
        return SINGLE
    named = HydraConfig.get().runtime.choices.get("sweep")
    return str(named) if named else f"over {', '.join(sweep.read(record).swept)}"
