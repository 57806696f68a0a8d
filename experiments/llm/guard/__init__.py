"""The guard around answers: classifiers, tailored loss, thresholds, the rule that chooses, baselines."""
