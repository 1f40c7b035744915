"""What a publication costs: encoded once for all, one write each; and an idle connection: nothing.

Nobody would miss a message without these, so only counting shows that they hold.
"""

import asyncio
import gc
import zlib
from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from typing import Any

import pytest

from chat_server.broker.memory import MemoryBroker
from chat_server.events import Draft
from chat_server.protocol.codecs import JsonCodec, MsgpackCodec
from chat_server.realtime.hub import Hub
from chat_server.realtime.ports import Broker, Encoder
from chat_server.settings import BrokerSettings
from chat_server.transports import deflate
from chat_server.transports.direct import DirectTransport
from chat_server.transports.encoders import (
    DEFLATE_ENCODERS,
    DIRECT_ENCODERS,
    AsgiEncoder,
    DirectEncoder,
)
from tests.broker.helpers import draft
from tests.rig import raw_client
from tests.rig.chat_client import JSON, MSGPACK, chat
from tests.rig.fakes import FakeBroker
from tests.rig.rfc6455 import text
from tests.rig.server import mint
from tests.rig.waiting import SECONDS, until
from tests.server.inprocess import make_settings, serving

from ..rig.clock import ManualClock
from .doubles import FakeSocket, RecordingReceiver, turns

ENCODERS = [*DIRECT_ENCODERS.values(), *DEFLATE_ENCODERS.values()]
ROOMS = ("room:a", "room:b")
ALIKE = 3
"""Clients of each kind."""


# One write for each subscriber and topic ---------------------------------------------------------


class Subscriber:
    """A direct transport that ends in a socket which counts."""

    def __init__(self, encoder: Encoder) -> None:
        self.socket = FakeSocket()
        self.transport = DirectTransport(
            self.socket,
            encoder,
            max_message_bytes=1_000,
            slow_buffer_bytes=1_000_000,
            close_timeout_seconds=60.0,
        )
        self.transport.serve(RecordingReceiver(), lambda: None)

    async def enter(self, hub: Hub, *names: str) -> None:
        """Subscribe to topics."""
        for name in names:
            recovery = await hub.join(self.transport, name, None, None)
            assert hub.enter(self.transport, name, recovery) is False


async def subscribers(hub: Hub) -> dict[Subscriber, tuple[str, ...]]:
    """Return some of each encoder, each with the topics it is subscribed to."""
    topics: dict[Subscriber, tuple[str, ...]] = {}
    for kind in ENCODERS:
        for names in (ROOMS, ROOMS[:1], ROOMS[1:]):
            subscriber = Subscriber(kind)
            topics[subscriber] = names
            await subscriber.enter(hub, *names)
    return topics


def check_writes(topics: dict[Subscriber, tuple[str, ...]], events: int) -> None:
    """Fail unless each subscriber got `events` messages of each of its topics, in one write."""
    for subscriber, names in topics.items():
        assert subscriber.socket.writes == len(names), "not one write for each topic"
        written = bytes(subscriber.socket.written)
        for number in range(events):
            for name in ROOMS:
                assert written.count(f"{name} {number}".encode()) == (name in names)


def drafts(events: int) -> list[Draft]:
    """Return publications of two topics in turns, each of which can be found in what is written."""
    return [draft(f"{name} {n}", topic=name) for n in range(events) for name in ROOMS]


async def lose_all(topics: dict[Subscriber, tuple[str, ...]]) -> None:
    for subscriber in topics:
        subscriber.socket.lose()
    await turns()


async def test_a_batch_costs_each_subscriber_one_write_per_topic() -> None:
    broker = FakeBroker()
    broker.manual = True
    hub = Hub(broker, 300)
    await broker.start(hub)
    topics = await subscribers(hub)
    for event in drafts(5):
        await broker.publish(event)
    assert len(broker.outbox) == 10
    broker.deliver()
    check_writes(topics, 5)
    await lose_all(topics)
    await hub.stop()


async def test_the_publications_of_one_turn_are_one_batch() -> None:
    """The memory broker's; that of Redis is what one read of the socket brings."""
    broker: Broker = MemoryBroker(BrokerSettings(), ManualClock())
    hub = Hub(broker, 300)
    await broker.start(hub)
    topics = await subscribers(hub)
    stored = [broker.publish(event) for event in drafts(5)]
    await asyncio.gather(*stored)
    await turns()
    check_writes(topics, 5)
    await lose_all(topics)
    await hub.stop()
    await broker.stop()


# Encoded once for all ----------------------------------------------------------------------------


class Work:
    """Counts what is done to the messages that hold a marker."""

    MARKER = "again and " * 100

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.done: Counter[str] = Counter()
        for encoder in (DirectEncoder, AsgiEncoder):
            self._count(monkeypatch, encoder, "encode", lambda push: bytes(push.payload))
        for encoders in (DIRECT_ENCODERS, DEFLATE_ENCODERS):
            for each in encoders.values():
                self._count(monkeypatch, each, "frame", bytes)
        for codec in (JsonCodec, MsgpackCodec):
            self._count(monkeypatch, codec, "transcode", bytes)
        monkeypatch.setattr(deflate, "zlib", self)

    # As much of zlib as the module uses.
    DEFLATED, Z_SYNC_FLUSH = zlib.DEFLATED, zlib.Z_SYNC_FLUSH

    def compressobj(self, *args: Any, _make: Any = zlib.compressobj) -> Any:
        self.done["compress"] += 1
        return _make(*args)

    def _count(
        self,
        monkeypatch: pytest.MonkeyPatch,
        owner: object,
        name: str,
        payload_of: Callable[[Any], bytes],
    ) -> None:
        method = getattr(owner, name)

        def counted(*arguments: Any) -> Any:
            self.done[name] += self.MARKER.encode() in payload_of(arguments[-1])
            return method(*arguments)

        monkeypatch.setattr(owner, name, counted)


@pytest.mark.parametrize("encoding", [JSON, MSGPACK])
@pytest.mark.parametrize(
    ("transport", "compression"), [("direct", False), ("direct", True), ("asgi", False)]
)
async def test_a_publication_is_encoded_once_for_all_clients_alike(
    monkeypatch: pytest.MonkeyPatch, transport: str, compression: bool, encoding: str
) -> None:
    settings = make_settings(gateway__transport=transport, gateway__compression=compression)
    async with serving(settings) as server, AsyncExitStack() as stack:
        clients = []
        for _ in range(ALIKE):
            client = await chat(server.ws_url, mint("ada"), encoding=encoding)
            await stack.enter_async_context(client)
            assert bool(client.websocket.protocol.extensions) is compression
            await client.ok(type="subscribe", topic="room:a")
            clients.append(client)
        work = Work(monkeypatch)
        await clients[0].ok(type="publish", topic="room:a", data=Work.MARKER)
        for client in clients:
            assert (await client.next())["data"] == Work.MARKER
        steps = ["encode", "transcode"]
        steps += ["frame"] if transport == "direct" else []
        steps += ["compress"] if compression else []
        assert +work.done == Counter(steps)


# Nothing for an idle connection ------------------------------------------------------------------


IDLE = 50
HELD = (asyncio.Queue, asyncio.StreamReader, asyncio.StreamWriter)


def held() -> Counter[str]:
    """Count the tasks of the loop, and the queues and streams that are not garbage."""
    gc.collect()
    kinds = (type(thing) for thing in gc.get_objects())
    found = Counter(kind.__name__ for kind in kinds if issubclass(kind, HELD))
    found["tasks"] = len(asyncio.all_tasks())
    return found


async def until_held(expected: Counter[str]) -> None:
    """Wait until so much is held: the handshakes' own take some turns to be gone."""
    with suppress(TimeoutError):
        await until(lambda: held() == expected, SECONDS)
    assert held() == expected


async def test_no_task_queue_or_stream_belongs_to_an_idle_connection() -> None:
    settings = make_settings(gateway__transport="direct", limits__max_connections_per_user=2 * IDLE)
    async with serving(settings) as server, AsyncExitStack() as stack:

        async def connect() -> raw_client.RawClient:
            client = await raw_client.RawClient.open(server.port, token=mint("ada"))
            await stack.enter_async_context(client)
            await client.read_message()
            await client.send(text({"type": "subscribe", "id": 1, "topic": "room:idle"}))
            assert (await client.read_message())["type"] == "ok"
            return client

        before = held()
        first = await connect()
        await until_held(before)
        async with await raw_client.RawClient.connect(server.port) as asking:
            await asking.send(b"GET /health/live HTTP/1.1\r\nHost: a\r\n\r\n")
            assert (await asking.read_answer()).status == 200
            assert (held() - before)["tasks"] >= 1, "they are not seen"
        await until_held(before)
        clients = [await connect() for _ in range(IDLE)]
        await until_held(before)
        assert len(server.node.registry) == 1 + IDLE
        await first.send(text({"type": "publish", "topic": "room:idle", "data": "awake"}))
        for client in clients:
            assert (await client.read_message())["data"] == "awake"
        await until_held(before)
