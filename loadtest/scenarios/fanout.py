"""Fan-out: one topic, many subscribers, messages at a fixed rate."""

from ..server import Target
from ..stage import DRAIN_SECONDS, Stage
from .common import publisher, readers


def fanout(
    target: Target,
    *,
    subscribers: int = 1000,
    rate: float = 20.0,
    seconds: float = 10.0,
    payload_bytes: int = 100,
    processes: int = 1,
    hold_seconds: float = 0.0,
    drain_seconds: float = DRAIN_SECONDS,
) -> Stage:
    """Return the scenario.

    Args:
        target: the server.
        subscribers: connections that receive each message.
        rate: messages a second.
        seconds: for how long.
        payload_bytes: how long the JSON text of each message's `data` is.
        processes: over how many the subscribers are spread.
        hold_seconds: how long nothing is sent at first.
        drain_seconds: how long nothing may come before the rest counts as lost.
    """
    return Stage(
        scenario="fanout",
        parameters={"subscribers": subscribers, "rate": rate, "payload_bytes": payload_bytes},
        crowds=[
            *readers(target, subscribers, processes),
            publisher(target, rate, payload_bytes),
        ],
        listeners=subscribers,
        hold_seconds=hold_seconds,
        seconds=seconds,
        drain_seconds=drain_seconds,
    )
