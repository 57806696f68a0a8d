"""Language models: loading, fine-tuning, PPO-Lag, generation, reward and cost models."""
