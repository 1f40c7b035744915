"""Connect: a storm of clients that come with a token and subscribe to one topic."""

from ..crowd import Member
from ..server import Target
from ..stage import Stage
from .common import TOPIC, spread


def connect(
    target: Target, *, connections: int = 2000, rate: float = 0.0, processes: int = 1
) -> Stage:
    """Return the scenario.

    Args:
        target: the server.
        connections: how many come.
        rate: how many are due in a second; 0 opens the next when one is ready, 50 at a time.
        processes: over how many they are spread.
    """
    members = [Member(target.mint(f"reader-{n}", TOPIC), TOPIC) for n in range(connections)]
    return Stage(
        scenario="connect",
        parameters={"connections": connections, "rate": rate},
        crowds=list(spread(target, members, processes, per_second=rate or None)),
    )
