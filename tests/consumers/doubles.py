"""A consumer in memory that fails as it is told, and a lease that is given by hand."""

from collections.abc import Collection, Mapping, Sequence

import msgspec

from chat_server.consumers.ports import Batch, Cursor, Outdated
from chat_server.protocol.errors import Unavailable


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
