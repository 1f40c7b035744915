"""Rooms: many small topics in which everybody talks and everybody listens."""

from ..crowd import CrowdPlan, Member
from ..server import Target
from ..stage import Stage
from .common import crowd


def rooms(
    target: Target,
    *,
    rooms: int = 100,
    members: int = 10,
    rate: float = 1.0,
    seconds: float = 10.0,
    payload_bytes: int = 100,
    processes: int = 1,
) -> Stage:
    """Return the scenario.

    Args:
        target: the server.
        rooms: how many there are.
        members: connections in each.
        rate: messages a second in each room, from all its members in turns.
        seconds: for how long.
        payload_bytes: how long the JSON text of each message's `data` is.
        processes: over how many the connections are spread, room by room.
    """
    processes = min(processes, rooms)

    def part(process: int) -> CrowdPlan:
        names = [f"room:{number}" for number in range(process, rooms, processes)]
        talkers = [
            Member(target.mint(f"{name}-{member}", name), name, talks=True)
            # Member by member, so that talking in turns goes through all rooms first.
            for member in range(members)
            for name in names
        ]
        return crowd(target, talkers, rate=rate * len(names), payload_bytes=payload_bytes)

    return Stage(
        scenario="rooms",
        parameters={
            "rooms": rooms,
            "members": members,
            "rate": rate,
            "payload_bytes": payload_bytes,
        },
        crowds=[part(process) for process in range(processes)],
        listeners=members,
        seconds=seconds,
    )
