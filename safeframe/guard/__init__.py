"""SafetyGuard: a model, a classifier and internal test data joined to act within thresholds."""
