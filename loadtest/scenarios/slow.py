"""Slow readers: a part of a topic's subscribers stops reading; nobody else may notice."""

from ..crowd import Member
from ..server import Target
from ..stage import Stage
from ..wire import InputError
from .common import TOPIC, crowd, publisher, readers


def slow(
    target: Target,
    *,
    subscribers: int = 1000,
    stalled_share: float = 0.1,
    rate: float = 50.0,
    seconds: float = 10.0,
    payload_bytes: int = 2000,
    processes: int = 1,
) -> Stage:
    """Return the scenario.

    Args:
        target: the server.
        subscribers: connections to the topic.
        stalled_share: the part of them (0 to 1) that reads nothing.
        rate: messages a second.
        seconds: for how long.
        payload_bytes: how long the JSON text of each message's `data` is.
        processes: over how many those that read are spread.

    Raises:
        InputError: nobody would be left who reads.
    """
    stalled = round(subscribers * stalled_share)
    if stalled == subscribers:
        raise InputError(f"of {subscribers} subscribers nobody would be left who reads")
    return Stage(
        scenario="slow",
        parameters={
            "subscribers": subscribers,
            "stalled": stalled,
            "rate": rate,
            "payload_bytes": payload_bytes,
        },
        crowds=[
            *readers(target, subscribers - stalled, processes),
            crowd(
                target,
                (
                    Member(target.mint(f"stalled-{n}", TOPIC), TOPIC, stalls=True)
                    for n in range(stalled)
                ),
            ),
            publisher(target, rate, payload_bytes),
        ],
        listeners=subscribers - stalled,
        seconds=seconds,
    )
