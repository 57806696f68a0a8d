"""Training: the loop, the approximate loss and the relaxed bound that it needs."""
