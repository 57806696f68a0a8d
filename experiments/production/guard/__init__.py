"""The guard around plans: thresholds per product, tailored loss, coverage."""
