"""Reinforcement-learning agents: PPO, PPO-Lagrangian, PPO-Barrier and Sauté PPO, vectorised for one core.

`training.train` trains, `checkpoints.load_agent` loads, `evaluation.evaluate` measures,
`python -m experiments.safetygym.agents.train` is the command.
"""
