"""A consumer in memory that fails as it is told, a lease that is given by hand, and a slow feed."""

import asyncio
from asyncio import Future
from collections.abc import AsyncIterator, Collection, Mapping, Sequence

import msgspec

from chat_server.consumers.ports import Batch, Cursor, Outdated
from chat_server.events import Position
from chat_server.protocol.errors import Unavailable
from chat_server.realtime.ports import FeedStore


class Shelf:
    """Where consumers keep what they took: it survives them, as a database would."""

    def __init__(self) -> None:
        self.cursors: dict[str, Cursor] = {}
        self.taken: dict[str, list[int]] = {}
        self.texts: dict[str, list[object]] = {}
        self.gaps: dict[str, list[tuple[int, int]]] = {}
        self.back: list[str] = []


class Collector:
    """Takes the events of topics that do not begin with `other`.

    Attributes:
        failures: how many of the next calls of `take` fail, after or before they have stored.
    """

    def __init__(self, shelf: Shelf, name: str = "collector") -> None:
        self.name = name
        self.shelf = shelf
        self.calls = 0
        self.refuses = 0
        self.forgets = 0
        self.poison = ""

    def wants(self, topic: str) -> bool:
        return not topic.startswith("other")

    async def cursors(self, topics: Collection[str]) -> Mapping[str, Cursor]:
        known = self.shelf.cursors
        return {topic: known[topic] for topic in topics if topic in known}

    async def take(self, batches: Sequence[Batch]) -> None:
        self.calls += 1
        if self.refuses:
            self.refuses -= 1
            raise Unavailable("not now", retry_in_ms=1)
        for batch in batches:
            if self.shelf.cursors.get(batch.topic) != batch.before:
                raise Outdated
            if batch.topic == self.poison:
                raise ValueError("no, not this one")
        for batch in batches:
            shelf, topic = self.shelf, batch.topic
            shelf.cursors[topic] = batch.after
            shelf.taken.setdefault(topic, []).extend(event.seq for event in batch.events)
            data = (msgspec.json.decode(event.payload)["data"] for event in batch.events)
            shelf.texts.setdefault(topic, []).extend(data)
            if batch.gaps:
                shelf.gaps.setdefault(topic, []).extend(batch.gaps)
            if batch.goes_back:
                shelf.back.append(topic)
        if self.forgets:
            # Stored, but the answer is lost.
            self.forgets -= 1
            raise Unavailable("not now", retry_in_ms=1)


class Grant:
    """A lease that a test gives and takes."""

    def __init__(self, *, held: bool = True) -> None:
        self.held = held
        self.released = False

    async def renew(self) -> bool:
        return self.held

    async def release(self) -> None:
        self.released = True


class HeldFeed:
    """A feed of one worker whose hints stay in the hands of one call until the gate is open.

    Args:
        feed: has the hints; the topics themselves are not named, so that no sweep finds them.
        held: the call, `share` or `take`.
    """

    def __init__(self, feed: FeedStore, held: str) -> None:
        self._feed = feed
        self._held = held
        self._shared: list[str] = []
        self.gate = asyncio.Event()
        self.is_holding = False

    async def share(self) -> None:
        self._shared += await self._hold("share", await self._feed.take(1_000))

    async def take(self, limit: int) -> list[str]:
        hints, self._shared = self._shared[:limit], self._shared[limit:]
        return await self._hold("take", hints)

    async def positions(self) -> AsyncIterator[Mapping[str, Position]]:
        nothing: list[Mapping[str, Position]] = []
        for positions in nothing:
            yield positions

    def release(self, topic: str, position: Position) -> "Future[None]":
        return self._feed.release(topic, position)

    async def _hold(self, call: str, hints: list[str]) -> list[str]:
        if hints and call == self._held:
            self.is_holding = True
            await self.gate.wait()
        return hints
