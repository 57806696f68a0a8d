"""Mirroring runs to a tracker, and dashboards of them. Never needed: a run's own files are the record."""

from experiments.support.tracking.base import NoTracker, Record, Tracker
from experiments.support.tracking.choice import mirrored, start
from experiments.support.tracking.weights_and_biases import resolve_mode

__all__ = ["NoTracker", "Record", "Tracker", "mirrored", "resolve_mode", "start"]
