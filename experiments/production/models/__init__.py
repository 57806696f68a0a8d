"""Networks that predict demand and its risk, and their supervised training."""
