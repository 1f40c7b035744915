"""Streams: rooms in which one talks, and all others listen."""

from ..crowd import CrowdPlan, Member
from ..server import Target
from ..stage import Stage
from .common import crowd


def streams(
    target: Target,
    *,
    rooms: int = 50,
    readers: int = 20,
    rate: float = 40.0,
    seconds: float = 5.0,
    payload_bytes: int = 0,
    processes: int = 1,
) -> Stage:
    """Return the scenario.

    Args:
        target: the server.
        rooms: how many there are.
        readers: connections that listen in each.
        rate: messages a second in each room.
        seconds: for how long.
        payload_bytes: how long the JSON text of each message's `data` is, at least 33 bytes.
        processes: over how many the connections are spread, room by room.
    """
    processes = min(processes, rooms)

    def part(process: int) -> CrowdPlan:
        names = [f"room:{number}" for number in range(process, rooms, processes)]
        members = [
            Member(target.mint(f"{name}-{reader}", name), name)
            for name in names
            for reader in range(readers)
        ]
        members += [
            Member(target.mint(name, name), name, listens=False, talks=True) for name in names
        ]
        return crowd(target, members, rate=rate * len(names), payload_bytes=payload_bytes)

    return Stage(
        scenario="streams",
        parameters={"rooms": rooms, "readers": readers, "rate": rate},
        crowds=[part(process) for process in range(processes)],
        listeners=readers,
        seconds=seconds,
    )
