"""The duration and intensity of a run."""

from msgspec import Struct

MISSES_ALLOWED = 0.05
"""Share of the faults that may find no target; at least one fault."""

LONGEST_FAULT_SECONDS = 5.0


class Config(Struct, frozen=True, kw_only=True):
    """The parameters of a run.

    Args:
        broker: "memory", "redis" or "cluster".
        workers: workers of the server; always one with the memory broker.
        seconds: duration of the faults.
        faults: number of faults.
        wipe: True also lets a Redis lose all data occasionally.
        spool: True adds topics whose publications are spooled while Redis is down.
        archive: True archives the rooms; not together with `wipe`.
        postgresql: True archives in PostgreSQL instead of SQLite.
        webhook: True also delivers events of rooms to an endpoint; requires a database.
        rooms: topics with their complete history; two further topics keep little.
        readers: subscribers; every fourth uses the client library.
        members: users that come and go with several connections each, and watch presence.
        rate: operations of each publisher per second.
        changes: share of operations that change a message.
        patience: seconds after the faults in which every subscriber must have every event.
        module: the module to run as the server.
    """

    broker: str
    seed: int
    workers: int = 2
    seconds: float = 600.0
    faults: int = 240
    wipe: bool = False
    spool: bool = False
    archive: bool = False
    postgresql: bool = False
    webhook: bool = False
    rooms: int = 4
    publishers: int = 6
    readers: int = 12
    members: int = 6
    rate: float = 8.0
    changes: float = 0.6
    patience: float = 30.0
    module: str = "chat_server"

    @property
    def longest(self) -> float:
        """Seconds of the longest fault."""
        return min(LONGEST_FAULT_SECONDS, self.seconds / 4)

    @property
    def least_faults(self) -> int:
        """The number of faults that must have found a target."""
        return max(1, self.faults - max(1, int(self.faults * MISSES_ALLOWED)))

    @property
    def topics(self) -> list[str]:
        """The topics of the run."""
        rooms = [f"room:{number}" for number in range(self.rooms)]
        return [*rooms, "short:0", "short:1", *(["spool:0", "spool:1"] if self.spool else [])]
