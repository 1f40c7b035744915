"""The contract of `EventLog.purge`, over every store."""

from chat_server.changes import Outcome
from chat_server.cursors import Unread
from chat_server.realtime.ports import Cursors

from .helpers import TOPIC, Store, draft
from .test_changes import delete, edit, events, messages, react, say


async def test_nothing_is_left_and_the_order_goes_on(store: Store) -> None:
    broker, _ = await store.start()
    assert isinstance(broker, Cursors)
    for text in ("first", "second"):
        await say(broker, text)
    await broker.change(edit(1, "edited"))
    await broker.change(react(2))
    assert (await broker.cursors.unread([TOPIC], "bob"))[0].count == 2, "authors are kept"
    before = await broker.history(TOPIC, limit=0)
    place = await broker.purge(TOPIC)
    assert (place.seq, place.epoch != before.epoch) == (4, True)
    page = await events(broker)
    assert (page.epoch, page.seq, page.epoch_start, page.events) == (place.epoch, 4, 4, [])
    assert await messages(broker) == []
    assert (await broker.cursors.unread([TOPIC], "bob"))[0] == Unread(0, 4, 0, True)
    for epoch in (None, before.epoch, place.epoch):
        assert (await broker.change(delete(2, epoch=epoch))).outcome is Outcome.NOT_FOUND
    assert await say(broker, "third") == 5
    await broker.change(edit(5, "changed"))
    (message,) = await messages(broker)
    assert (message["seq"], message["data"], message["version"]) == (5, "changed", 6)
    assert (await broker.cursors.unread([TOPIC], "bob"))[0].count == 1


async def test_a_key_holds_and_other_topics_stay(store: Store) -> None:
    broker, _ = await store.start()
    await broker.publish(draft("said", key="k"))
    await say(broker, "elsewhere", topic="room:other")
    await broker.purge(TOPIC)
    assert (await broker.publish(draft("said", key="k"))).duplicate
    assert await messages(broker) == []
    assert len((await broker.history("room:other", limit=9)).events) == 1


async def test_a_topic_without_a_history_can_be_purged(store: Store) -> None:
    broker, _ = await store.start()
    first = await broker.purge(TOPIC)
    assert first.seq == 0
    second = await broker.purge(TOPIC)
    assert (second.seq, second.epoch != first.epoch) == (0, True)
    assert (await broker.publish(draft())).epoch == second.epoch
