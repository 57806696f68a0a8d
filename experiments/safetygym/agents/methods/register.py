"""The methods by their names in `AgentSettings.method`."""

from __future__ import annotations

from experiments.safetygym.agents.methods.barrier import Barrier
from experiments.safetygym.agents.methods.lagrangian import Lagrangian
from experiments.safetygym.agents.methods.method import Method
from experiments.safetygym.agents.methods.saute import Saute
from experiments.safetygym.agents.settings import AgentSettings

KINDS = {"ppo": Method, "ppo_lag": Lagrangian, "ppo_barrier": Barrier, "saute": Saute}


def make_method(settings: AgentSettings, inputs: int) -> Method:
    """The method that `settings.method` names, for observations of `inputs` numbers (not augmented)."""
    return KINDS[settings.method](settings, inputs)
