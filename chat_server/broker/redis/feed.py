"""The feed of a Redis: a set of hints that workers share, and a scan of all topics."""

import re
from asyncio import Future
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any, Final

from ...events import Position
from ..common import unavailable
from .pipeline import Pipeline, Script, pack
from .storage import Keyspace

RELEASE: Final = Script("release")

_PROBE: Final = re.compile(r"probe:[0-9a-f]{16}")
"""The topics of workers' probes (`write_probe`)."""

SCAN_COUNT: Final = 500
"""Keys per step of a scan; Redis needs some 0.1 ms for a step."""


class RedisFeed:
    """Keeps `realtime.ports.FeedStore` over one Redis server.

    Args:
        touched: topics in which this worker has stored an event; other objects add to the set.
        names: names of keys.
        reader: returns a pipeline other than that of publications.
        flushed: resolves once every earlier publication is answered.
        available: returns whether Redis is believed to be reachable.
    """

    def __init__(
        self,
        touched: set[str],
        names: Keyspace,
        reader: Callable[[], Pipeline],
        flushed: "Callable[[], Future[bool]]",
        available: Callable[[], bool],
    ) -> None:
        self._touched = touched
        self._names = names
        self._make_reader = reader
        self._flushed = flushed
        self._available = available
        # No topic has this key: the keys of topics have a brace after the prefix.
        self.key: Final = f"{names.prefix}:touched"

    def _reader(self) -> Pipeline:
        if not self._available():
            raise unavailable()
        return self._make_reader()

    def take_touched(self) -> set[str]:
        """Remove and return the hints of this worker."""
        touched = self._touched.copy()
        self._touched.clear()
        return touched

    def give_back(self, touched: Iterable[str]) -> None:
        """Put hints back for the next time."""
        self._touched.update(touched)

    async def share(self) -> None:
        """Add the hints of this worker to the set, after the publications behind the hints."""
        touched = self.take_touched()
        if touched:
            try:
                await self._flushed()
                await self.add(touched)
            except BaseException:
                self.give_back(touched)
                raise

    def add(self, topics: Iterable[str]) -> "Future[None]":
        """Add hints to the set."""
        return self._reader().send(pack("SADD", self.key, *topics), _nothing)

    async def take(self, limit: int) -> list[str]:
        """Remove and return hints of the set."""
        return await self.pop(limit)

    def pop(self, limit: int) -> "Future[list[str]]":
        """Remove and return hints of the set."""
        return self._reader().send(pack("SPOP", self.key, limit), _decoded)

    async def positions(self) -> AsyncIterator[dict[str, Position]]:
        """Scan the keys, and read the position of each topic."""
        front, end = f"{self._names.prefix}:{{", "}:meta"
        cursor = b"0"
        while True:
            command = pack("SCAN", cursor, "MATCH", f"{front}*{end}", "COUNT", SCAN_COUNT)
            cursor, keys = await self._reader().send(command, scanned)
            reads = [self._reader().send(pack("HMGET", key, "epoch", "seq"), list) for key in keys]
            found = {}
            for key, read in zip(keys, reads, strict=True):
                epoch, seq = await read
                if epoch is not None and seq is not None:
                    topic = key[len(front) : -len(end)]
                    if _PROBE.fullmatch(topic):
                        continue
                    found[topic] = Position(epoch.decode(), int(seq))
            if found:
                yield found
            if cursor == b"0":
                return

    def release(self, topic: str, position: Position) -> "Future[None]":
        """Let the topic's log be trimmed up to a position, in one script.

        Raises:
            Unavailable: Redis is known to be unavailable.
        """
        keys = (self._names.keys(topic).meta,)
        return self._reader().call(RELEASE, keys, (position.epoch, position.seq), _nothing)


def _nothing(reply: Any) -> None:
    return None


def _decoded(reply: list[bytes]) -> list[str]:
    return [member.decode() for member in reply]


def scanned(reply: Any) -> tuple[bytes, list[str]]:
    """Return the cursor of a scan's next step, and the keys of this step."""
    cursor, keys = reply
    return cursor, _decoded(keys)
