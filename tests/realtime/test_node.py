"""The worker as a whole: what it hands to the broker, its history, and its end."""

import msgspec
import pytest

from chat_server.events import Draft, Kind, Retention
from chat_server.protocol.codecs import CODECS, JSON, Codec
from chat_server.protocol.errors import BadRequest
from chat_server.protocol.messages import Limits, User
from chat_server.realtime.node import Node
from chat_server.settings import LimitSettings, ServerSettings

from ..rig.clock import ManualClock
from ..rig.fake_transport import as_client
from ..rig.fakes import NO_JSON, FakeBroker
from .clients import FakeClient
from .world import settings


def node_with(
    broker: FakeBroker, drain_seconds: float = 0.05, slow_buffer_bytes: int = 262_144
) -> Node:
    changed = msgspec.structs.replace(
        settings(),
        server=ServerSettings(drain_seconds=drain_seconds),
        limits=LimitSettings(slow_buffer_bytes=slow_buffer_bytes),
    )
    return Node(changed, broker, ManualClock(), "here")


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


async def test_stopping_drains_first_and_lets_go_of_the_broker_last() -> None:
    broker = FakeBroker()
    node = node_with(broker)
    await node.start()
    client = FakeClient(node.registry, stubborn=True)
    await node.stop()
    assert [call[0] for call in client.calls] == ["close", "abort"]
    assert [call[0] for call in broker.calls] == ["start", "stop"]
