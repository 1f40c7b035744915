"""Subscribers: each reconnects for ever, and records all messages."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import Struct, field

from chat_server.client import Backoff, Gap, Other, Position, connect
from chat_server.client.errors import ClientError

from .client import BareClient, Lost
from .folding import received, shown
from .history import (
    Ack,
    GapReceived,
    Loaded,
    Observations,
    Operation,
    Subscribed,
)

ANSWER_SECONDS = 8.0
RETRY_SECONDS = 0.2
PAGE = 50
LONGEST_WAIT_SECONDS = 5.0
"""Seconds: the longest obeyed `reconnect_in_ms` or `retry_in_ms`, and the library's longest
backoff. After the last fault every client must be back before patience ends.
"""


class Counts(Struct):
    """The counts of publishers and subscribers during a run.

    Args:
        operations: all operations of publishers.
        closes: ended connections, by code or reason.
        presence_changes: number of arrivals and departures pushed to watchers.
        longest_presence: seconds until all watchers knew the presence, after the end of changes.
        silence: the longest time in seconds without a delivery to one subscriber while others
            published.
    """

    acks: list[Ack] = field(default_factory=list)
    operations: list[Operation] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    closes: Counter[str] = field(default_factory=Counter)
    longest_ack: float = 0.0
    longest_silence: float = 0.0
    last_delivery: float = 0.0
    deliveries: int = 0
    presence_changes: int = 0
    longest_presence: float = 0.0

    def delivered(self) -> None:
        """Record a delivery to any subscriber."""
        now = asyncio.get_running_loop().time()
        if self.last_delivery:
            self.longest_silence = max(self.longest_silence, now - self.last_delivery)
        self.last_delivery = now
        self.deliveries += 1


class Subscriber:
    """Reads topics over a bare connection, and resumes each at its last position.

    Attributes:
        places: the position in each topic.
        loading: topics whose history is needed, with the id of the question once sent.
    """

    def __init__(
        self, name: str, url: str, token: str, topics: list[str], binary: bool, counts: Counts
    ) -> None:
        self.name = name
        self.observers = {topic: Observations(name, topic) for topic in topics}
        self.places: dict[str, Position] = {}
        self.loading: dict[str, int] = {}
        self._url = url
        self._token = token
        self._binary = binary
        self._counts = counts
        self._rng = random.Random(name)

    async def run(self) -> None:
        """Read until cancelled."""
        while True:
            try:
                async with BareClient(self._url, self._token, binary=self._binary) as client:
                    await self._read(client)
            except Lost as error:
                self._counts.closes[str(error)] += 1
            await asyncio.sleep(self._rng.uniform(0, 2 * RETRY_SECONDS))

    async def _read(self, client: BareClient) -> None:
        """Subscribe to all topics and read until the connection is lost, or a goodbye comes."""
        asked: dict[int, str] = {}
        try:
            async with asyncio.timeout(ANSWER_SECONDS) as deadline:
                for topic in self.observers:
                    await self._subscribe(client, topic, asked)
                while True:
                    message = await client.receive()
                    if message["type"] == "goodbye":
                        deadline.reschedule(None)
                        await asyncio.sleep(wait_of(message, "reconnect_in_ms"))
                        return
                    topic = asked.pop(message.get("id", 0), "")
                    if topic:
                        await self._on_answer(client, topic, message, asked)
                        if not asked:
                            deadline.reschedule(None)
                    elif "id" in message:
                        await self._on_history(client, message)
                    else:
                        await self._on_push(client, message)
        except TimeoutError:
            raise Lost("no answer to subscribe") from None

    async def _subscribe(self, client: BareClient, topic: str, asked: dict[int, str]) -> None:
        number = self._rng.randrange(1, 2**40)
        asked[number] = topic
        place = self.places.get(topic)
        since = {} if place is None else {"since": {"epoch": place.epoch, "seq": place.seq}}
        await client.send({"type": "subscribe", "id": number, "topic": topic, **since})

    async def _on_answer(
        self, client: BareClient, topic: str, answer: dict[str, Any], asked: dict[int, str]
    ) -> None:
        if answer["type"] == "error":
            self._counts.errors[answer["code"]] += 1
            await asyncio.sleep(RETRY_SECONDS)
            await self._subscribe(client, topic, asked)
            return
        entered = Subscribed(
            epoch=answer["epoch"],
            seq=answer["seq"],
            recovered=answer["recovered"],
            replayed=answer["replayed"],
            since=self.places.get(topic),
            reason=answer.get("reason"),
        )
        self.observers[topic].entries.append(entered)
        self.places[topic] = Position(entered.epoch, entered.seq - entered.replayed)
        if topic in self.loading or (entered.since is not None and not entered.recovered):
            await self._load(client, topic)

    async def _load(self, client: BareClient, topic: str) -> None:
        """Ask for history after a gap; answers to earlier questions are outdated."""
        number = self.loading[topic] = self._rng.randrange(1, 2**40)
        await client.send({"type": "history", "id": number, "topic": topic, "limit": PAGE})

    async def _on_history(self, client: BareClient, answer: dict[str, Any]) -> None:
        asked = [topic for topic, number in self.loading.items() if number == answer["id"]]
        for topic in asked:
            if answer["type"] == "error":
                self._counts.errors[answer["code"]] += 1
                await asyncio.sleep(RETRY_SECONDS)
                await self._load(client, topic)
            elif answer["epoch"] == self.places[topic].epoch:
                loaded = Loaded([shown(message) for message in answer["messages"]])
                self.observers[topic].entries.append(loaded)
                del self.loading[topic]
            # Else a gap is on its way.

    async def _on_push(self, client: BareClient, message: dict[str, Any]) -> None:
        topic = message.get("topic", "")
        observed, place = self.observers.get(topic), self.places.get(topic)
        if observed is None or place is None:
            return
        event = received(message)
        if event is not None:
            self._counts.delivered()
            observed.entries.append(event)
            self.places[topic] = Position(place.epoch, max(place.seq, event.seq))
        elif message["type"] == "gap":
            told = GapReceived(*(message[name] for name in ("epoch", "after", "before", "reason")))
            observed.entries.append(told)
            self.places[topic] = Position(told.epoch, told.before - 1)
            await self._load(client, topic)


class LibrarySubscriber:
    """Reads one topic with `chat_server.client`, which reconnects and resumes automatically."""

    def __init__(self, name: str, url: str, token: str, topic: str, counts: Counts) -> None:
        self.name = name
        self.observers = {topic: Observations(name, topic)}
        self.places: dict[str, Position] = {}
        self.loading: dict[str, int] = {}
        self._topic = topic
        self._connect: Callable[[], Any] = lambda: connect(
            url, token=token, backoff=Backoff(longest=LONGEST_WAIT_SECONDS)
        )
        self._counts = counts

    async def run(self) -> None:
        """Read until cancelled."""
        entries = self.observers[self._topic].entries
        try:
            async with self._connect() as client, client.subscribe(self._topic) as subscription:
                start = subscription.position
                entries.append(Subscribed(start.epoch, start.seq, recovered=False, replayed=0))
                self.places[self._topic] = start
                async for event in subscription:
                    if isinstance(event, Gap):
                        entries.append(
                            GapReceived(event.epoch, event.after, event.before, event.reason)
                        )
                    elif (stored := received(_fields(event))) is not None:
                        self._counts.delivered()
                        entries.append(stored)
                    self.places[self._topic] = subscription.position
        except ClientError as error:
            # It is then left behind, which the verdict says.
            self._counts.errors[f"client library: {error}"] += 1


def _fields(event: Any) -> dict[str, Any]:
    """Return an event of the library as the original message."""
    fields = event.fields if isinstance(event, Other) else msgspec.to_builtins(event)
    assert isinstance(fields, dict)
    return {"type": getattr(event, "type", ""), **fields}


def wait_of(message: dict[str, Any], name: str) -> float:
    """Return the seconds that the server asks to wait."""
    milliseconds = message.get(name) or 1000 * RETRY_SECONDS
    return float(min(milliseconds / 1000, LONGEST_WAIT_SECONDS))
