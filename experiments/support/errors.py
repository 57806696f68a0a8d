"""Errors that are the user's to mend: shown as one message, without a stack trace (see `entry.py`)."""

from __future__ import annotations


class UserError(ValueError):
    """Something that the user can put right; the message says what was wrong, where, and what is right."""


class ConfigError(UserError):
    """A key, a value or a type in the configuration is wrong.

    Nothing has been written when this is raised.
    """


class CacheError(UserError):
    """A saved file of a run or of a stage does not hold what was written to it."""


class ResultsError(UserError):
    """Rows that do not fit the tidy schema of results or of the ledger of claims."""


class TrackingError(UserError):
    """Tracking was asked for and cannot be had."""
