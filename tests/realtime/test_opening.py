"""A topic is opened by the very read that its first subscriber needs."""

import asyncio

import pytest

from chat_server.events import Position
from chat_server.realtime.hub import Hub
from chat_server.realtime.shared_reads import REPLAY_CHUNK

from ..rig.fake_transport import FakeTransport
from ..rig.fakes import FakeBroker, turns
from .helpers import ROOM, seqs, start, subscribe

STORED = REPLAY_CHUNK + 10


@pytest.fixture(autouse=True)
def _history(broker: FakeBroker) -> None:
    for number in range(STORED):
        broker.store(ROOM, number)
    broker.outbox.clear()


def asked(broker: FakeBroker) -> list[str]:
    return [name for name, *_ in broker.calls if name in ("subscribe", "history")]


@pytest.mark.parametrize("missed", [0, 1, 100])
async def test_a_resume_opens_its_topic_with_one_read(
    hub: Hub, broker: FakeBroker, missed: int
) -> None:
    one = FakeTransport()
    recovery = await subscribe(hub, one, since=Position("epoch0", STORED - missed))
    assert (recovery.recovered, recovery.replayed) == (True, missed)
    assert asked(broker) == ["subscribe", "history"]
    broker.store(ROOM)
    await turns()
    assert seqs(one) == [*range(STORED - missed + 1, STORED + 2)]


async def test_the_last_events_open_their_topic_with_one_read(hub: Hub, broker: FakeBroker) -> None:
    one = FakeTransport()
    await subscribe(hub, one, last=5)
    assert asked(broker) == ["subscribe", "history"]
    assert seqs(one) == [*range(STORED - 4, STORED + 1)]


@pytest.mark.parametrize("missed", [(1, 2, 0), (0, 5, 60), (109, 30, 10), (60, 60, 0)])
async def test_who_asks_before_the_read_shares_it(
    hub: Hub, broker: FakeBroker, missed: tuple[int, ...]
) -> None:
    transports = {FakeTransport(): count for count in missed}
    recoveries = await asyncio.gather(
        *(
            subscribe(hub, transport, since=Position("epoch0", STORED - count))
            for transport, count in transports.items()
        )
    )
    assert [recovery.replayed for recovery in recoveries] == [*missed]
    assert asked(broker) == ["subscribe", "history"]
    for transport, count in transports.items():
        assert seqs(transport) == [*range(STORED - count + 1, STORED + 1)]


async def test_who_asks_for_as_many_messages_before_the_read_shares_it(
    hub: Hub, broker: FakeBroker
) -> None:
    transports = [FakeTransport() for _ in range(3)]
    await asyncio.gather(*(subscribe(hub, transport, last=5) for transport in transports))
    assert asked(broker) == ["subscribe", "history"]
    for transport in transports:
        assert seqs(transport) == [*range(STORED - 4, STORED + 1)]


async def test_who_asks_during_the_read_of_an_opening_is_read_what_came_since(
    hub: Hub, broker: FakeBroker
) -> None:
    """The answer of the read may be older than what the client knows to be stored."""
    broker.reads.shut = True
    here = Position("epoch0", STORED)
    early = start(hub.join(FakeTransport(), ROOM, here, None))
    await turns()
    broker.manual = True
    broker.store(ROOM)
    late = [start(hub.join(FakeTransport(), ROOM, here, None)) for _ in range(5)]
    await turns()
    broker.reads.open()
    assert (await early).position == here
    for recovery in await asyncio.gather(*late):
        assert recovery.position == Position("epoch0", STORED + 1)
        assert [event.seq for event in recovery.page.events] == [STORED + 1]
    assert asked(broker) == ["subscribe", "history", "history"]


async def test_what_was_read_before_an_interruption_is_read_again(
    hub: Hub, broker: FakeBroker
) -> None:
    broker.reads.shut = True
    one = FakeTransport()
    join = start(hub.join(one, ROOM, Position("epoch0", STORED - 1), None))
    await turns()
    hub.on_lost()
    broker.fail_over(ROOM, 3)
    broker.reads.open()
    recovery = await join
    assert (recovery.recovered, recovery.reason) == (False, "epoch_changed")
    assert recovery.position == Position("epoch0", STORED - 3)


@pytest.mark.parametrize(
    "since",
    [
        Position("epoch0", STORED),
        Position("epoch0", STORED - 1),
        Position("epoch0", 0),
        Position("another", 10 * STORED),
        Position("another", 1),
        None,
    ],
)
async def test_whoever_opened_a_topic_its_last_event_is_known_again(
    hub: Hub, broker: FakeBroker, since: Position | None
) -> None:
    first, other = FakeTransport(), FakeTransport()
    join = start(hub.join(first, ROOM, since, None))
    await subscribe(hub, other)
    await join
    hub.leave(first, ROOM)
    broker.go_away()
    broker.fail_over(ROOM, 1)
    broker.store(ROOM, "another in its place")
    broker.come_back()
    await turns()
    assert broker.count("begin_epoch") == 1
    (gap,) = other.of_type("gap")
    assert gap["reason"] == "epoch_changed"
