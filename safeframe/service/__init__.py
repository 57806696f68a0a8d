"""The guard in service: a log, a monitor, recalibration, a budget."""
