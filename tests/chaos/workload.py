"""Publishers and subscribers: each retries for ever and writes down what it is told."""

import asyncio
import random
import zlib
from collections import Counter
from collections.abc import Callable
from typing import Any

from msgspec import Struct, field

from chat_server.client import Backoff, Gap, Message, Position, connect
from chat_server.client.errors import ClientError

from .client import BareClient, Lost
from .history import Ack, GapReceived, Observations, Received, Subscribed

ANSWER_SECONDS = 8.0
RETRY_SECONDS = 0.2
LONGEST_WAIT_SECONDS = 5.0
"""How long a `reconnect_in_ms` or `retry_in_ms` is obeyed, and the library backs off, at most:
when all faults are over everybody has to be back before patience ends."""

PAD_BYTES = 8_000
"""Of each payload at most: enough for a reader that stalls to fill what the server keeps for it."""


def payload_of(name: str) -> dict[str, str]:
    """Return what a publication of this name carries."""
    size = zlib.crc32(name.encode()) % PAD_BYTES
    return {"name": name, "pad": (f"{name} ü " * (size // len(name) + 1))[:size]}


def name_of(data: Any) -> str:
    """Return the name of a publication that came; a payload that changed has another."""
    name = data.get("name") if isinstance(data, dict) else None
    if isinstance(name, str) and data == payload_of(name):
        return name
    return f"changed payload: {str(data)[:60]}"


class Counts(Struct):
    """What publishers and subscribers count during a run.

    Args:
        closes: connections that ended, by code or reason.
        silence: the longest that one subscriber got nothing while others published, in seconds.
    """

    acks: list[Ack] = field(default_factory=list)
    published: int = 0
    attempts: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    closes: Counter[str] = field(default_factory=Counter)
    longest_ack: float = 0.0
    longest_silence: float = 0.0
    last_delivery: float = 0.0
    deliveries: int = 0

    def delivered(self) -> None:
        """Note that somebody was told something."""
        now = asyncio.get_running_loop().time()
        if self.last_delivery:
            self.longest_silence = max(self.longest_silence, now - self.last_delivery)
        self.last_delivery = now
        self.deliveries += 1


class Publisher:
    """Publishes one message after the other to its topics, each until it is acknowledged.

    Args:
        name: of the user, and so the scope of its idempotency keys.
        rate: messages a second, if the server lets it.
    """

    def __init__(
        self, name: str, url: str, token: str, topics: list[str], rate: float, counts: Counts
    ) -> None:
        self.name = name
        self._url = url
        self._token = token
        self._topics = topics
        self._rate = rate
        self._counts = counts
        self._rng = random.Random(name)
        self._number = 0
        self._pending: tuple[str, str] | None = None
        self._began = 0.0

    @property
    def waits(self) -> bool:
        """Whether it has published something that is not acknowledged yet."""
        return self._pending is not None

    async def run(self, talk: asyncio.Event) -> None:
        """Publish until cancelled, nothing new while `talk` is not set."""
        while True:
            try:
                async with BareClient(
                    self._url, self._token, binary=self._rng.random() < 0.5
                ) as client:
                    while True:
                        await self._publish(client, talk)
            except Lost as error:
                self._counts.closes[str(error)] += 1
                await asyncio.sleep(self._rng.uniform(0, 2 * RETRY_SECONDS))

    async def _publish(self, client: BareClient, talk: asyncio.Event) -> None:
        loop = asyncio.get_running_loop()
        if self._pending is None:
            await asyncio.sleep(self._rng.expovariate(self._rate))
            await talk.wait()
            self._number += 1
            self._pending = self._rng.choice(self._topics), f"{self.name}-{self._number}"
            self._began = loop.time()
            self._counts.published += 1
        topic, name = self._pending
        self._counts.attempts += 1
        command = {"type": "publish", "id": self._number, "topic": topic, "key": name}
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await client.send({**command, "data": payload_of(name)})
                answer = await client.receive()
                while answer.get("id") != self._number:
                    answer = await client.receive()
        except TimeoutError:
            raise Lost("no answer to publish") from None
        if answer["type"] == "error":
            self._counts.errors[answer["code"]] += 1
            await asyncio.sleep(_wait(answer, "retry_in_ms"))
            return
        epoch, seq = answer["epoch"], answer["seq"]
        self._counts.acks.append(Ack(self.name, topic, epoch, seq, name, answer["duplicate"]))
        self._counts.longest_ack = max(self._counts.longest_ack, loop.time() - self._began)
        self._pending = None


class Subscriber:
    """Reads topics over a bare connection, and resumes each where it stood."""

    def __init__(
        self, name: str, url: str, token: str, topics: list[str], binary: bool, counts: Counts
    ) -> None:
        self.name = name
        self.observers = {topic: Observations(name, topic) for topic in topics}
        self.places: dict[str, Position] = {}
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
        """Subscribe to everything and read until the connection is lost, or a goodbye comes."""
        asked: dict[int, str] = {}
        try:
            async with asyncio.timeout(ANSWER_SECONDS) as deadline:
                for topic in self.observers:
                    await self._subscribe(client, topic, asked)
                while True:
                    message = await client.receive()
                    if message["type"] == "goodbye":
                        deadline.reschedule(None)
                        await asyncio.sleep(_wait(message, "reconnect_in_ms"))
                        return
                    topic = asked.pop(message.get("id", 0), "")
                    if topic:
                        await self._on_answer(client, topic, message, asked)
                        if not asked:
                            deadline.reschedule(None)
                    else:
                        self._on_push(message)
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

    def _on_push(self, message: dict[str, Any]) -> None:
        topic = message.get("topic", "")
        observed, place = self.observers.get(topic), self.places.get(topic)
        if observed is None or place is None:
            return
        if message["type"] == "message":
            self._counts.delivered()
            observed.entries.append(Received(message["seq"], name_of(message["data"])))
            self.places[topic] = Position(place.epoch, max(place.seq, message["seq"]))
        elif message["type"] == "gap":
            told = GapReceived(*(message[name] for name in ("epoch", "after", "before", "reason")))
            observed.entries.append(told)
            self.places[topic] = Position(told.epoch, told.before - 1)


class LibrarySubscriber:
    """Reads one topic with `chat_server.client`, which reconnects and resumes by itself."""

    def __init__(self, name: str, url: str, token: str, topic: str, counts: Counts) -> None:
        self.name = name
        self.observers = {topic: Observations(name, topic)}
        self.places: dict[str, Position] = {}
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
                    elif isinstance(event, Message):
                        self._counts.delivered()
                        entries.append(Received(event.seq, name_of(event.data)))
                    self.places[self._topic] = subscription.position
        except ClientError as error:
            # It is then left behind, which the verdict says.
            self._counts.errors[f"client library: {error}"] += 1


def _wait(message: dict[str, Any], name: str) -> float:
    milliseconds = message.get(name) or 1000 * RETRY_SECONDS
    return float(min(milliseconds / 1000, LONGEST_WAIT_SECONDS))
