"""The guard around an agent: classifier, its training, thresholds, the policy that acts."""
