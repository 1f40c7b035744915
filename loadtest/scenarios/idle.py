"""Idle: what connections cost that do nothing, in memory and in heartbeats."""

from ..server import Target
from ..stage import Stage
from .common import readers


def idle(
    target: Target, *, connections: int = 5000, hold_seconds: float = 30.0, processes: int = 1
) -> Stage:
    """Return the scenario: subscribers of one topic to which nobody publishes.

    Args:
        target: the server.
        connections: how many.
        hold_seconds: for how long; the server's heartbeat shows from 25 s on.
        processes: over how many they are spread.
    """
    return Stage(
        scenario="idle",
        parameters={"connections": connections, "hold_seconds": hold_seconds},
        crowds=readers(target, connections, processes),
        hold_seconds=hold_seconds,
    )
