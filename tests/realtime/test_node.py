"""The worker as a whole: what it hands to the broker, its history, and its end."""

import asyncio
from collections import Counter
from itertools import pairwise
from typing import Any

import msgspec
import pytest

from chat_server.events import Draft, Kind, PublishResult, Retention
from chat_server.protocol.close_codes import CloseCode
from chat_server.protocol.codecs import CODECS, JSON, Codec
from chat_server.protocol.errors import BadRequest
from chat_server.protocol.messages import Limits, User
from chat_server.realtime.node import BATCH, Node
from chat_server.settings import LimitSettings, ServerSettings

from ..support.clock import ManualClock
from ..support.fakes import NO_JSON, FakeBroker, as_client, turns
from ..support.wire import until
from .world import World, claims, settings


def node_with(
    broker: FakeBroker, drain_seconds: float = 0.05, slow_buffer_bytes: int = 262_144
) -> Node:
    changed = msgspec.structs.replace(
        settings(),
        server=ServerSettings(drain_seconds=drain_seconds),
        limits=LimitSettings(slow_buffer_bytes=slow_buffer_bytes),
    )
    return Node(changed, broker, ManualClock(), "here")


class FakeClient:
    """A connection that goes when it is asked to, or only when it is made to."""

    def __init__(self, node: Node, *, stubborn: bool = False) -> None:
        self.node = node
        self.stubborn = stubborn
        self.calls: list[tuple[Any, ...]] = []
        node.add(self)

    def close(self, code: CloseCode, reason: str, reconnect_in_ms: int) -> None:
        self.calls.append(("close", code, reconnect_in_ms))
        self.back_at = asyncio.get_running_loop().time() + reconnect_in_ms / 1000
        if not self.stubborn:
            asyncio.get_running_loop().call_soon(self.node.remove, self)

    def abort(self) -> None:
        self.calls.append(("abort",))
        asyncio.get_running_loop().call_soon(self.node.remove, self)


# Publishing ------------------------------------------------------------------------------------


async def test_a_draft_becomes_a_message() -> None:
    broker = FakeBroker()
    node = node_with(broker)
    sender = User("alice", name='A "quoted" name\n', info={"é": 1})
    node.publish("room:a", b'{"text":"hi"}', sender, "k")
    ((_, draft),) = broker.calls
    assert isinstance(draft, Draft)
    assert (draft.topic, draft.kind) == ("room:a", Kind.MESSAGE)
    frame = msgspec.json.decode(draft.head + b'7,"at":8' + draft.tail)
    assert frame == {
        "type": "message",
        "topic": "room:a",
        "seq": 7,
        "at": 8,
        "from": {"user": "alice", "name": 'A "quoted" name\n', "info": {"é": 1}},
        "data": {"text": "hi"},
    }


async def test_keys_are_scoped_to_their_publisher() -> None:
    broker = FakeBroker()
    node = node_with(broker)
    senders = [User("a"), User("b"), User("a:b"), User("a\0b"), None]
    keys = ["k", "b", "b:k", "b\0k"]
    for sender in senders:
        for key in (*keys, None):
            node.publish("room:a", b"1", sender, key)
    scoped = [call[1].key for call in broker.calls]
    assert scoped.count(None) == len(senders)
    assert len({*scoped} - {None}) == len(senders) * len(keys)


async def test_a_namespace_decides_what_is_kept() -> None:
    node = node_with(FakeBroker())
    assert node.retention("room:a") == Retention(1_000, 86_400.0, 16_777_216)
    assert node.retention("brief:a") == node.retention("brief")
    assert node.retention("brief").size == 0


async def test_history_from_one_end_only() -> None:
    node = node_with(FakeBroker())
    with pytest.raises(BadRequest):
        await node.history("room:a", JSON, before=0, after=0, limit=1)


async def test_history_holds_messages_only() -> None:
    broker = FakeBroker()
    node = node_with(broker)
    broker.store("room:a")
    other = msgspec.structs.replace(broker.store("room:a"), kind=Kind.EDITED)
    broker.topic("room:a").events[-1] = other
    page, messages = await node.history("room:a", JSON, before=None, after=None, limit=10)
    assert page.seq == 2
    assert [msgspec.json.decode(message)["seq"] for message in messages] == [1]


@pytest.mark.parametrize(
    ("before", "after", "size", "seqs"),
    [
        (None, None, 1_000, [3, 4, 5, 6]),
        (None, 0, 1_000, [1, 2, 3, 4]),
        (5, None, 1_000, [1, 2, 3, 4]),
        (6, None, 1_000, [2, 3, 4, 5]),
        (None, None, 10_000, [6]),
        (None, 2, 10_000, [3]),
    ],
)
async def test_history_is_bounded_in_bytes(
    before: int | None, after: int | None, size: int, seqs: list[int]
) -> None:
    broker = FakeBroker()
    node = node_with(broker, slow_buffer_bytes=5_000)
    for _ in range(6):
        broker.store("room:a", "x" * size)
    page, messages = await node.history("room:a", JSON, before=before, after=after, limit=10)
    assert [msgspec.json.decode(message)["seq"] for message in messages] == seqs
    assert page.more is (seqs[0] != 1 if after is None else seqs[-1] != 6)


@pytest.mark.parametrize("codec", CODECS.values())
@pytest.mark.parametrize("frame", NO_JSON)
async def test_history_leaves_out_what_cannot_be_read(
    frame: bytes, codec: Codec, caplog: pytest.LogCaptureFixture
) -> None:
    broker = FakeBroker()
    node = node_with(broker)
    for data in ("one", "foreign", "Grüße"):
        broker.store("room:a", data)
    stored = broker.topic("room:a").events
    stored[1] = msgspec.structs.replace(stored[1], payload=frame)
    page, messages = await node.history("room:a", codec, before=None, after=None, limit=10)
    assert [as_client(codec, bytes(message))["seq"] for message in messages] == [1, 3]
    assert (page.seq, caplog.text.count("no JSON")) == (3, 1)


async def test_limits_come_from_the_settings() -> None:
    limits = settings().limits
    assert node_with(FakeBroker()).limits == Limits(
        max_message_bytes=limits.max_message_bytes,
        max_topics=limits.max_topics,
        max_pending_commands=limits.max_pending_commands,
        messages_per_second=limits.messages_per_second,
        message_burst=limits.message_burst,
        idempotency_seconds=300.0,
    )


# The end -----------------------------------------------------------------------------------------


async def test_draining_sends_every_client_elsewhere() -> None:
    node = node_with(FakeBroker(), drain_seconds=20.0)
    clients = [FakeClient(node) for _ in range(20)]
    assert node.connection_count == 20
    await node.drain()
    assert node.draining
    assert node.connection_count == 0
    waits = set()
    for client in clients:
        ((call, code, wait),) = client.calls
        assert (call, code) == ("close", CloseCode.RESTART)
        assert 0 < wait <= 1_000, "so few may come back within a second"
        waits.add(wait)
    assert len(waits) == 20


async def test_many_clients_come_back_spread_over_the_drain_time() -> None:
    node = node_with(FakeBroker(), drain_seconds=4.0)
    clients = [FakeClient(node) for _ in range(2_000)]
    began = asyncio.get_running_loop().time()
    await node.drain()
    seconds = Counter(int(client.back_at - began) for client in clients)
    assert set(seconds) <= {0, 1, 2, 3, 4}
    for second in range(4):
        assert seconds[second] == pytest.approx(500, rel=0.2)
    assert 0 < node.reconnect_in_ms() <= 4_000


async def test_many_clients_are_sent_away_in_batches() -> None:
    node = node_with(FakeBroker(), drain_seconds=60.0)
    clients = [FakeClient(node) for _ in range(3 * BATCH)]
    drain = asyncio.get_running_loop().create_task(node.drain())
    left = []
    while not drain.done():
        left.append(node.connection_count)
        await asyncio.sleep(0)
    assert {3 * BATCH, 2 * BATCH, BATCH} <= set(left)
    assert all(before - after <= BATCH for before, after in pairwise(left))
    assert all(len(client.calls) == 1 for client in clients)


async def test_batches_leave_half_of_the_drain_time() -> None:
    node = node_with(FakeBroker(), drain_seconds=0.4)
    clients = [FakeClient(node, stubborn=True) for _ in range(20 * BATCH)]
    loop = asyncio.get_running_loop()
    began = loop.time()
    drain = loop.create_task(node.drain())
    await until(lambda: all(client.calls for client in clients))
    assert [call[0] for call in clients[0].calls] == ["close"], "all were asked before any abort"
    await drain
    assert loop.time() - began >= 0.4
    assert node.connection_count == 0


async def test_who_goes_by_itself_is_not_sent_away() -> None:
    node = node_with(FakeBroker(), drain_seconds=60.0)
    clients = [FakeClient(node) for _ in range(2 * BATCH)]
    drain = asyncio.get_running_loop().create_task(node.drain())
    await turns()
    [*waiting] = [client for client in clients if not client.calls]
    for client in waiting:
        node.remove(client)
    await drain
    assert not any(client.calls for client in waiting)


async def test_draining_aborts_who_does_not_go() -> None:
    node = node_with(FakeBroker())
    stubborn, willing = FakeClient(node, stubborn=True), FakeClient(node)
    await node.drain()
    assert [call[0] for call in stubborn.calls] == ["close", "abort"]
    assert [call[0] for call in willing.calls] == ["close"]
    assert node.connection_count == 0


async def test_draining_without_clients_takes_no_time() -> None:
    node = node_with(FakeBroker(), drain_seconds=1_000.0)
    async with asyncio.timeout(10):
        await node.drain()
        await node.drain()


async def test_stopping_drains_first_and_lets_go_of_the_broker_last() -> None:
    broker = FakeBroker()
    node = node_with(broker)
    await node.start()
    client = FakeClient(node, stubborn=True)
    await node.stop()
    assert [call[0] for call in client.calls] == ["close", "abort"]
    assert [call[0] for call in broker.calls] == ["start", "stop"]


async def test_real_connections_are_drained(world: World) -> None:
    transports = [await world.subscribed("room:a", "room:b") for _ in range(3)]
    late = world.connect(claims())
    drain = asyncio.get_running_loop().create_task(world.node.drain())
    await turns()
    refused = world.connect(claims("bob"))
    await turns()
    for transport in (*transports, late, refused):
        assert transport.closed is not None
        assert transport.closed[0] == CloseCode.RESTART
        assert transport.messages[-1]["type"] == "goodbye"
        transport.lose()
    await drain
    assert world.node.hub.topic_count == 0


async def test_commands_under_way_are_answered_before_the_end(world: World) -> None:
    transport = await world.subscribed("room:a")
    world.broker.publications = []
    transport.say(type="publish", topic="room:a", data=1, id=7)
    drain = asyncio.get_running_loop().create_task(world.node.drain())
    await turns()
    assert transport.messages == [], "sent away without an answer"
    world.broker.publications[0].set_result(PublishResult(1, "e", 1))
    await turns()
    assert [m["type"] for m in transport.messages] == ["ok", "goodbye"]
    assert transport.messages[0]["id"] == 7
    assert transport.closed is not None
    transport.lose()
    await drain
