"""Asks: one command after the other, to topics that nobody listens to."""

from ..crowd import Member
from ..server import Target
from ..stage import Stage
from .common import crowd


def asks(
    target: Target, *, connections: int = 10, seconds: float = 5.0, payload_bytes: int = 0
) -> Stage:
    """Return a scenario in which each connection has one command under way.

    Args:
        target: the server, whose dialect decides what is asked.
        connections: each with a topic of its own, and all below that.
        seconds: for how long.
        payload_bytes: how long the JSON text of each message's `data` is, at least 33 bytes.
    """
    topics = [f"room:{number}" for number in range(connections)]
    members = [
        Member(target.mint(f"asker-{topic}", "room:**"), topic, listens=False, talks=True)
        for topic in topics
    ]
    return Stage(
        scenario="asks",
        parameters={"connections": connections},
        crowds=[crowd(target, members, window=1, payload_bytes=payload_bytes)],
        seconds=seconds,
    )
