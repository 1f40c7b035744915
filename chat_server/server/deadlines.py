"""How long a stop may take, for the worker that stops and for the supervisor that waits for it."""

STOP_SLACK_SECONDS = 5.0
"""Seconds that a stop may take beyond `drain_seconds`."""

ABORT_SECONDS = 1.0
"""The part of `STOP_SLACK_SECONDS` for requests that are aborted."""
