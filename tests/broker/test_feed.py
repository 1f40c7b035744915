"""The feed: hints of every worker, positions of all topics, a log held back for consumers."""

import pytest
from msgspec.structs import replace

from chat_server.changes import Change, Edit
from chat_server.events import Draft, Kind, Position, Retention
from chat_server.protocol.errors import Unavailable
from chat_server.realtime.ports import Broker, Feed, FeedStore
from chat_server.service.drafts import change_fields, message_draft

from .helpers import FOREVER, TOPIC, Store, draft

FOLLOWED = Retention(3, 3_600.0, held_size=6, held_bytes=1_000_000, changes=3)


def feed_of(broker: Broker) -> FeedStore:
    assert isinstance(broker, Feed)
    return broker.feed


async def positions(broker: Broker) -> dict[str, Position]:
    found: dict[str, Position] = {}
    async for some in feed_of(broker).positions():
        found.update(some)
    return found


async def stored(broker: Broker, topic: str = TOPIC) -> list[int]:
    return [event.seq for event in (await broker.history(topic, limit=100)).events]


async def test_hints_name_the_topics_that_are_followed(store: Store) -> None:
    broker, _ = await store.start()
    topics = [f"room:{number}" for number in range(5)]
    for topic in [*topics, *topics]:
        await broker.publish(draft(topic=topic, retention=FOLLOWED))
    await broker.publish(draft(topic="room:other", retention=FOREVER))
    await feed_of(broker).share()
    first = await feed_of(broker).take(2)
    rest = await feed_of(broker).take(100)
    assert len(first) == 2
    assert sorted(first + rest) == topics
    assert await feed_of(broker).take(100) == []


async def test_a_change_is_a_hint_too(store: Store) -> None:
    broker, _ = await store.start()
    await broker.publish(message(FOREVER))
    await broker.change(deletion(1, FOLLOWED))
    await feed_of(broker).share()
    assert await feed_of(broker).take(10) == [TOPIC]


async def test_workers_share_their_hints(shared_store: Store) -> None:
    one, _ = await shared_store.start()
    other, _ = await shared_store.start()
    publication = one.publish(draft(retention=FOLLOWED))
    await feed_of(one).share()
    assert publication.done(), "a hint comes behind its event"
    assert await feed_of(other).take(10) == [TOPIC]
    assert await feed_of(one).take(10) == []


async def test_a_sweep_finds_every_topic(store: Store) -> None:
    broker, _ = await store.start()
    places = {}
    for number in range(700):
        topic = f"room:{number}"
        place = await broker.publish(draft(topic=topic, retention=FOREVER))
        places[topic] = Position(place.epoch, place.seq)
    assert await positions(broker) == places


async def test_what_is_not_taken_is_held_back_within_a_bound(store: Store) -> None:
    broker, _ = await store.start()
    for _ in range(5):
        place = await broker.publish(draft(retention=FOLLOWED))
    assert await stored(broker) == [1, 2, 3, 4, 5]
    await feed_of(broker).release(TOPIC, Position("another epoch", 5))
    for _ in range(3):
        await broker.publish(draft(retention=FOLLOWED))
    assert await stored(broker) == [3, 4, 5, 6, 7, 8]
    await feed_of(broker).release(TOPIC, Position(place.epoch, 7))
    await broker.publish(draft(retention=FOLLOWED))
    assert await stored(broker) == [7, 8, 9]


async def test_bytes_have_a_bound_too(store: Store) -> None:
    broker, _ = await store.start()
    few = replace(FOLLOWED, bytes=200, held_bytes=400)
    for _ in range(10):
        await broker.publish(draft("x" * 60, retention=few))
    page = await broker.history(TOPIC, limit=100)
    assert 200 < page.size <= 400


async def test_changes_are_held_back_too(store: Store) -> None:
    broker, _ = await store.start()
    place = await broker.publish(message(FOLLOWED))
    for _ in range(20):
        await broker.change(edit(1, FOLLOWED))
    assert await stored(broker) == [1, *range(10, 22)]
    await feed_of(broker).release(TOPIC, Position(place.epoch, 21))
    await broker.change(edit(1, FOLLOWED))
    assert await stored(broker) == [1, 20, 21, 22]


async def test_without_consumers_nothing_is_held_back(store: Store) -> None:
    broker, _ = await store.start()
    for _ in range(6):
        await broker.publish(draft(retention=Retention(3, 3_600.0)))
    assert await stored(broker) == [4, 5, 6]


async def test_a_store_that_is_away_says_so(store: Store) -> None:
    broker = store.make()
    with pytest.raises(Unavailable):
        await feed_of(broker).take(1)
    with pytest.raises(Unavailable):
        await positions(broker)


def message(retention: Retention) -> Draft:
    """Return a message that can be changed."""
    return message_draft(TOPIC, b'{"user":"ada"}', b'"hello"', retention, None)


def deletion(target: int, retention: Retention) -> Change:
    fields = change_fields(Kind.DELETED, TOPIC, b'{"user":"ada"}', target)
    return Change(**fields, author=None, retention=retention)


def edit(target: int, retention: Retention) -> Change:
    fields = change_fields(Kind.EDITED, TOPIC, b'{"user":"ada"}', target, b',"data":', b'"new"')
    return Edit(**fields, author=None, retention=retention, data=b'"new"')
