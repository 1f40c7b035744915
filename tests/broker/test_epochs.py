"""What a seq with its epoch names, over every store: of `EventLog.change` and of `CursorStore`."""

from dataclasses import dataclass

import pytest

from chat_server.broker.memory import MemoryBroker
from chat_server.changes import Append, Change, ChangeResult, Outcome
from chat_server.clock import SystemClock
from chat_server.cursors import Unread
from chat_server.events import Position, Retention
from chat_server.realtime.ports import Broker, Cursors, CursorStore
from chat_server.settings import BrokerSettings

from .helpers import FOREVER, TOPIC, Store
from .test_changes import append, appended, delete, edit, events, messages, react, say

BRIEF = Retention(10, 0.1)
BEGUN_ANEW = ChangeResult(Outcome.BEGUN_ANEW)


async def epoch_of(broker: Broker) -> str:
    return (await broker.history(TOPIC, limit=0)).epoch


def changes(target: int, epoch: str | None) -> list[Change]:
    """One change of each kind."""
    return [
        react(target, epoch=epoch),
        edit(target, "edited", epoch=epoch),
        append(target, "more", epoch=epoch),
        delete(target, epoch=epoch),
    ]


async def outcomes(broker: Broker, target: int, epoch: str | None) -> list[Outcome]:
    found = []
    for change in changes(target, epoch):
        sent = appended(broker, change) if isinstance(change, Append) else broker.change(change)
        found.append((await sent).outcome)
    return found


async def test_a_seq_of_the_present_epoch_names_its_message(store: Store) -> None:
    broker, _ = await store.start()
    for named in (True, False):
        target = await say(broker)
        epoch = await epoch_of(broker) if named else None
        assert await outcomes(broker, target, epoch) == [Outcome.STORED] * 4


async def test_a_seq_of_another_epoch_names_nothing(store: Store) -> None:
    broker, _ = await store.start()
    target = await say(broker)
    before = await messages(broker), await events(broker)
    for epoch in ("elsewhere", "0", "ä", "x" * 64):
        for seq in (target, target + 1, 2**53 - 1):
            assert await outcomes(broker, seq, epoch) == [Outcome.BEGUN_ANEW] * 4
    assert (await messages(broker), await events(broker)) == before


async def test_a_topic_that_was_lost_has_none_of_its_messages(store: Store) -> None:
    broker, _ = await store.start(position_seconds=2.0)
    target = await say(broker, retention=BRIEF)
    lost = await epoch_of(broker)
    await store.elapse(2.2)
    assert await outcomes(broker, target, lost) == [Outcome.BEGUN_ANEW] * 4, "nor any others"
    assert await say(broker, "another's") == target
    assert await outcomes(broker, target, lost) == [Outcome.BEGUN_ANEW] * 4
    (message,) = await messages(broker)
    assert (message["data"], "version" in message) == ("another's", False)


async def test_an_epoch_takes_over_what_is_stored(store: Store) -> None:
    broker, _ = await store.start()
    taken = [await say(broker), await say(broker)]
    first = await epoch_of(broker)
    second = (await broker.begin_epoch(TOPIC, first)).epoch
    after = await say(broker)
    for target, epoch in zip(taken, (first, second), strict=True):
        assert await outcomes(broker, target, epoch) == [Outcome.STORED] * 4
    assert await outcomes(broker, after, first) == [Outcome.BEGUN_ANEW] * 4
    assert await outcomes(broker, after, second) == [Outcome.STORED] * 4


async def test_of_epochs_further_back_nothing_is_known(store: Store) -> None:
    broker, _ = await store.start()
    early = await say(broker)
    first = await epoch_of(broker)
    second = (await broker.begin_epoch(TOPIC, first)).epoch
    late = await say(broker)
    await broker.begin_epoch(TOPIC, second)
    assert await outcomes(broker, early, first) == [Outcome.BEGUN_ANEW] * 4
    for target in (early, late):
        assert await outcomes(broker, target, second) == [Outcome.STORED] * 4


async def test_a_repetition_is_one_whatever_has_begun_since(store: Store) -> None:
    broker, _ = await store.start()
    target = await say(broker)
    first = await epoch_of(broker)
    made = edit(target, "once", epoch=first, key="k")
    (place,) = (await broker.change(made)).places
    for _ in range(2):
        await broker.begin_epoch(TOPIC, await epoch_of(broker))
    (again,) = (await broker.change(made)).places
    assert (again.seq, again.epoch, again.duplicate) == (place.seq, first, True)
    assert await broker.change(edit(target, "twice", epoch=first, key="l")) == BEGUN_ANEW


async def test_it_is_said_before_whose_the_message_is(store: Store) -> None:
    broker, _ = await store.start()
    target = await say(broker)
    bobs = edit(target, "x", epoch="elsewhere", sender=b'{"user":"bob"}')
    assert await broker.change(bobs) == BEGUN_ANEW
    await broker.change(delete(target))
    assert await broker.change(delete(target, epoch="elsewhere")) == BEGUN_ANEW


# Cursors ----------------------------------------------------------------------------------------


@dataclass
class Reader:
    """A topic of three messages, and the cursors in it."""

    broker: Broker
    cursors: CursorStore
    epoch: str


async def reader(store: Store, retention: Retention = FOREVER, **settings: float) -> Reader:
    broker, _ = await store.start(**settings)
    for _ in range(3):
        await say(broker, retention=retention)
    assert isinstance(broker, Cursors)
    return Reader(broker, broker.cursors, await epoch_of(broker))


async def test_a_cursor_moves_in_the_epoch_that_counts_its_seq(store: Store) -> None:
    made = await reader(store)
    move = made.cursors.move
    assert await move(TOPIC, "bob", 1, made.epoch) == Unread(1, 3, 2, False, moved=True)
    stays = Unread(1, 3, 2, False, moved=False, begun_anew=True)
    assert await move(TOPIC, "bob", 2, "elsewhere") == stays
    assert await move(TOPIC, "bob", 4, "elsewhere") == stays
    second = (await made.broker.begin_epoch(TOPIC, made.epoch)).epoch
    await say(made.broker)
    assert await move(TOPIC, "bob", 2, made.epoch) == Unread(2, 4, 2, False, moved=True)
    stays = Unread(2, 4, 2, False, moved=False, begun_anew=True)
    assert await move(TOPIC, "bob", 4, made.epoch) == stays
    assert await move(TOPIC, "bob", 4, second) == Unread(4, 4, 0, False, moved=True)


async def test_a_cursor_does_not_move_where_all_is_lost(store: Store) -> None:
    made = await reader(store, BRIEF, position_seconds=2.0)
    await store.elapse(2.2)
    found = await made.cursors.move(TOPIC, "bob", 2, made.epoch)
    assert found == Unread(0, 0, 0, False, moved=False, begun_anew=True)
    await say(made.broker)
    found = await made.cursors.move(TOPIC, "bob", 1, made.epoch)
    assert found == Unread(0, 1, 1, False, moved=False, begun_anew=True)


# The memory broker ------------------------------------------------------------------------------


@pytest.mark.parametrize("new_epoch", [False, True])
async def test_what_is_restored_keeps_its_names(new_epoch: bool) -> None:
    broker = MemoryBroker(BrokerSettings(), SystemClock())
    broker.restore(TOPIC, Position("before", 7), [], FOREVER, new_epoch=new_epoch)
    log = broker._topics[TOPIC].log
    assert (log.epoch == "before") is not new_epoch
    assert log.counts(7, "before")
    log.seq = 8
    assert log.counts(8, "before") is not new_epoch
    assert log.counts(8, log.epoch)
