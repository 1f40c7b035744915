"""What scenarios have in common: users, and how they are spread over processes."""

import math
from collections.abc import Iterable, Iterator

from ..crowd import CrowdPlan, Member
from ..server import Target

PUBLISHES_PER_CONNECTION = 25.0
"""Messages a second on one publishing connection, half of what a server's default limit allows."""

TOPIC = "room:loadtest"


def readers(target: Target, count: int, processes: int, *, topic: str = TOPIC) -> list[CrowdPlan]:
    """Return listeners of one topic, spread over processes."""
    members = [Member(target.mint(f"reader-{n}", topic), topic) for n in range(count)]
    return list(spread(target, members, processes))


def spread(
    target: Target, members: list[Member], processes: int, *, per_second: float | None = None
) -> Iterator[CrowdPlan]:
    """Yield a plan for each process; `per_second` connections of all are due in a second."""
    processes = max(1, min(processes, len(members)))
    share = None if per_second is None else per_second / processes
    for process in range(processes):
        yield crowd(target, members[process::processes], connects_per_second=share)


def crowd(
    target: Target,
    members: Iterable[Member],
    *,
    rate: float = 0.0,
    window: int = 1,
    payload_bytes: int = 0,
    connects_per_second: float | None = None,
) -> CrowdPlan:
    """Return the plan of one process."""
    return CrowdPlan(
        host=target.host,
        port=target.port,
        dialect=target.dialect,
        members=list(members),
        connects_per_second=connects_per_second,
        rate=rate,
        window=window,
        payload_bytes=payload_bytes,
    )


def publisher(target: Target, rate: float, payload_bytes: int, *, topic: str = TOPIC) -> CrowdPlan:
    """Return a process that publishes to one topic over as many connections as that needs."""
    count = math.ceil(rate / PUBLISHES_PER_CONNECTION)
    members = [
        Member(target.mint(f"publisher-{n}", topic), topic, listens=False, talks=True)
        for n in range(count)
    ]
    return crowd(target, members, rate=rate, payload_bytes=payload_bytes)
