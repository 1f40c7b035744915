"""Arrivals: clients that come with a token of their own, get what they missed, and leave."""

from ..crowd import Member
from ..filling import fill
from ..server import Target
from ..stage import Stage
from .common import spread


def arrivals(
    target: Target,
    *,
    connections: int = 1000,
    rooms: int = 20,
    missed: int = 0,
    payload_bytes: int = 100,
    processes: int = 1,
) -> Stage:
    """Return the scenario; what the clients miss is published here.

    Args:
        target: the server.
        connections: how many come, 50 at a time.
        rooms: over how many topics they are spread.
        missed: events that each gets; 0 subscribes without a place to go on from.
        payload_bytes: how long the JSON text of each message's `data` is.
        processes: over how many the connections are spread.
    """
    names = [f"room:{number}" for number in range(rooms)]
    since = [
        fill(target, name, missed, before=1, payload_bytes=payload_bytes) if missed else None
        for name in names
    ]
    members = [
        Member(
            target.mint(f"reader-{number}", names[number % rooms]),
            names[number % rooms],
            since=since[number % rooms],
            missed=missed,
            leaves=True,
        )
        for number in range(connections)
    ]
    return Stage(
        scenario="arrivals",
        parameters={"connections": connections, "rooms": rooms, "missed": missed},
        crowds=list(spread(target, members, processes)),
    )
