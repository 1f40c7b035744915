"""What an encoder has in its hands: each push with its position, and many transports at once."""

from collections.abc import Iterable, Sequence

from chat_server.events import Event, Position
from chat_server.protocol.codecs import JSON
from chat_server.protocol.messages import Ok, ServerMessage
from chat_server.realtime.hub import Hub
from chat_server.realtime.ports import Push, Transport

from ..rig.fake_transport import FakeEncoder, FakeTransport
from ..rig.fakes import FakeBroker
from .helpers import ROOM, seqs, subscribe
from .test_topic import events, page, signal, topic_at


class LinesEncoder:
    """Server-sent events, as an adapter may write them: the id is where a client resumes."""

    codec = JSON

    def encode(self, push: Push) -> bytes | None:
        if not isinstance(push, Event):
            return _lines(push.epoch, push.before - 1, JSON.encode(push))
        if not push.stored:
            return b"data: %s\n\n" % push.payload
        return _lines(push.epoch, push.seq, push.payload)

    def encode_message(self, message: ServerMessage) -> bytes:
        return b"data: %s\n\n" % JSON.encode(message)

    def encode_ok(self, id: int, ok: Ok) -> bytes:
        return b"data: %s\n\n" % JSON.encode_ok(id, ok)

    def write(self, transports: Iterable[Transport], packets: Sequence[bytes]) -> None:
        for transport in transports:
            transport.write(b"".join(packets))


def _lines(epoch: str, seq: int, data: bytes) -> bytes:
    return b"id: %s:%d\ndata: %s\n\n" % (epoch.encode(), seq, data)


def test_another_format_needs_nothing_but_an_encoder() -> None:
    topic, encoder = topic_at(1), LinesEncoder()
    one, late = FakeTransport(encoder), FakeTransport(encoder)
    topic.enter(one, topic.position)
    topic.offer([*events([2]), signal("x")])
    topic.stale = True
    topic.catch_up(page(seq=5))
    topic.enter(late, Position("e", 3))
    topic.replay(late, page([5], seq=5))
    assert ids(one) == [["id: e:2"], ["id: e:5"]], "a signal has no position"
    assert ids(late) == [["id: e:4", "id: e:5"]]
    assert b'"type":"gap"' in one.written[1]
    assert b'"after":2,"before":6' in one.written[1]


def ids(transport: FakeTransport) -> list[list[str]]:
    """Return the ids in each write."""
    writes = [packet.decode().splitlines() for packet in transport.written]
    return [[line for line in lines if line.startswith("id")] for lines in writes]


def test_an_encoder_is_handed_all_who_write_alike_at_once() -> None:
    topic, encoder = topic_at(0), FakeEncoder()
    transports = [FakeTransport(encoder) for _ in range(5)]
    for transport in transports:
        topic.enter(transport, topic.position)
    topic.offer(events(range(1, 11)))
    assert (encoder.encoded, encoder.writes) == (10, 1)
    assert all(seqs(transport) == [*range(1, 11)] for transport in transports)


async def test_a_long_resume_is_a_few_writes(broker: FakeBroker) -> None:
    hub = Hub(broker, max_replay=1_000)
    for _ in range(1_000):
        broker.store(ROOM)
    late = FakeTransport(encoder := FakeEncoder())
    recovery = await subscribe(hub, late, since=Position("epoch0", 0))
    assert recovery.recovered
    assert seqs(late) == [*range(1, 1_001)]
    assert encoder.writes <= 16
    hub.leave(late, ROOM)
    await hub.stop()
