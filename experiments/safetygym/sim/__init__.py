"""PointGoal1, CarGoal1 and PointGoal2 of Safety Gym (Ray, Achiam and Amodei 2019), rebuilt.

Importing this package registers `Safexp-PointGoal1-v0` and the others with gymnasium, for
`gymnasium.make` (one environment) and `gymnasium.make_vec` (many, in one pass).
"""

from experiments.safetygym.sim import compiled as compiled  # first: where compiled code is kept
from experiments.safetygym.sim.registration import register_tasks

register_tasks()
