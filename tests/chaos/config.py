"""How long and how hard a run is."""

from msgspec import Struct

MISSES_ALLOWED = 0.05
"""Of the faults, the share that may find nothing to strike; but always one."""

LONGEST_FAULT_SECONDS = 5.0


class Config(Struct, frozen=True, kw_only=True):
    """The parameters of a run.

    Args:
        broker: "memory", "redis" or "cluster".
        workers: of the server; in memory there is always one.
        seconds: during which faults come.
        faults: how many.
        wipe: a Redis loses everything now and then, too.
        spool: there are topics whose publications are kept while Redis is away, too.
        archive: what is said in rooms is archived, too; not together with `wipe`.
        postgresql: the archive is in a PostgreSQL, not in SQLite.
        webhook: an endpoint is told of what happens in rooms, too; it needs a database.
        rooms: topics that keep all their history; there are two more that keep little.
        readers: subscribers; every fourth uses the client library.
        members: users who come and go, over several connections each, and watch who is there.
        rate: operations of each of the publishers in a second.
        changes: the share of them that change a message.
        patience: seconds until everybody has to have everything once the faults are over.
        module: what is run as the server.
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
        """Seconds that a fault lasts at most."""
        return min(LONGEST_FAULT_SECONDS, self.seconds / 4)

    @property
    def least_faults(self) -> int:
        """How many must have found something to strike."""
        return max(1, self.faults - max(1, int(self.faults * MISSES_ALLOWED)))

    @property
    def topics(self) -> list[str]:
        """What is talked in."""
        rooms = [f"room:{number}" for number in range(self.rooms)]
        return [*rooms, "short:0", "short:1", *(["spool:0", "spool:1"] if self.spool else [])]
