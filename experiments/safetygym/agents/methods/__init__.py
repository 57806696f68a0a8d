"""PPO, PPO-Lagrangian, PPO-Barrier and Sauté: what each adds to the training of an agent."""
