"""PointGoal1 and CarGoal1 of Safety Gym (Ray, Achiam and Amodei 2019), rebuilt on current libraries."""

from experiments.safetygym.sim import compiled as compiled  # first: where compiled code is kept
