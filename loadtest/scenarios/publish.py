"""Publish: what comes in, to topics that nobody listens to."""

from ..crowd import Member
from ..server import Target
from ..stage import Stage
from .common import crowd


def publish(
    target: Target,
    *,
    publishers: int = 50,
    rate: float = 0.0,
    window: int = 10,
    seconds: float = 5.0,
    payload_bytes: int = 100,
    processes: int = 1,
) -> Stage:
    """Return the scenario.

    Args:
        target: the server.
        publishers: connections, each with a topic of its own.
        rate: messages a second of all together; 0: as fast as the server answers.
        window: messages that each publisher then has unanswered.
        seconds: for how long.
        payload_bytes: how long the JSON text of each message's `data` is.
        processes: over how many the connections are spread.
    """
    topics = [f"room:{number}" for number in range(publishers)]
    members = [
        Member(target.mint(f"publisher-{topic}", topic), topic, listens=False, talks=True)
        for topic in topics
    ]
    processes = min(processes, publishers)
    return Stage(
        scenario="publish",
        parameters={
            "publishers": publishers,
            "rate": rate,
            "window": window,
            "payload_bytes": payload_bytes,
        },
        crowds=[
            crowd(
                target,
                members[process::processes],
                rate=rate / processes,
                window=window,
                payload_bytes=payload_bytes,
            )
            for process in range(processes)
        ],
        seconds=seconds,
    )
