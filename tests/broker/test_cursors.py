"""The contract of `realtime.ports.Cursors`, over every store."""

import asyncio
import json
import random
from typing import Any

import pytest

from chat_server.broker.memory import MemoryBroker
from chat_server.broker.redis.broker import RedisBroker
from chat_server.changes import Outcome
from chat_server.cursors import KEPT_READERS, MAX_READERS, Unread
from chat_server.events import Event, Retention
from chat_server.realtime.ports import Cursors, CursorStore
from chat_server.settings import BrokerSettings

from ..rig.redis_server import RedisServer, patient
from .helpers import TOPIC, Run, Store
from .test_changes import ANN, BOB, delete, edit, react, say

MANY = 600
"""Messages of which a script reads two topics at most."""


async def started(store: Store, **settings: Any) -> tuple[Any, CursorStore]:
    broker, _ = await store.start(**settings)
    assert isinstance(broker, Cursors)
    return broker, broker.cursors


async def unread(cursors: CursorStore, user: str = "bob", topic: str = TOPIC) -> Unread:
    return (await cursors.unread([topic], user))[0]


def text_of(event: Event | None) -> Any:
    assert event is not None
    return json.loads(event.payload)["data"]


async def test_a_cursor_moves_forward_only(store: Store) -> None:
    broker, cursors = await started(store)
    for _ in range(5):
        await say(broker)
    assert await cursors.move(TOPIC, "bob", 3) == Unread(3, 5, 2, False, moved=True)
    assert await cursors.move(TOPIC, "bob", 2) == Unread(3, 5, 2, False, moved=False)
    assert await cursors.move(TOPIC, "bob", 3) == Unread(3, 5, 2, False, moved=False)
    assert await cursors.move(TOPIC, "bob", 6) == Unread(3, 5, 2, False, moved=False)
    assert await cursors.move(TOPIC, "bob", 5) == Unread(5, 5, 0, False, moved=True)
    assert (await cursors.move(TOPIC, "max", 1)).count == 4, "others have cursors of their own"


async def test_own_messages_and_deleted_ones_and_changes_do_not_count(store: Store) -> None:
    broker, cursors = await started(store)
    first = await say(broker, "of ann")
    await say(broker, "of bob", sender=BOB)
    assert (await unread(cursors)).count == 1
    second = await say(broker, "of ann")
    await say(broker, "of nobody", sender=b"null")
    await say(broker, "quoted", sender=b'{"user":"b\\"ob","info":{"from":{"user":"bob"}}}')
    await broker.change(edit(first, "edited"))
    await broker.change(react(second, sender=BOB))
    assert (await unread(cursors)).count == 4
    assert (await broker.change(delete(second))).outcome is Outcome.STORED
    found = await unread(cursors)
    assert (found.cursor, found.count, found.more) == (0, 3, False)
    assert (await unread(cursors, "ann")).count == 3
    assert (await unread(cursors, 'b"ob')).count == 3


async def test_the_newest_message_is_as_it_now_is(store: Store) -> None:
    broker, cursors = await started(store)
    assert await unread(cursors) == Unread(0, 0, 0, False)
    seq = await say(broker, "old")
    assert text_of((await unread(cursors)).last) == "old"
    await broker.change(edit(seq, "new"))
    found = await unread(cursors)
    assert (text_of(found.last), found.seq, found.count) == ("new", 2, 1)
    assert (await cursors.move(TOPIC, "bob", 2)).last is None


async def test_what_history_has_lost_is_told(store: Store) -> None:
    broker, cursors = await started(store)
    kept = Retention(3, 3_600.0)
    for _ in range(3):
        await say(broker, retention=kept)
    assert not (await unread(cursors)).more
    await say(broker, retention=kept)
    found = await unread(cursors)
    assert (found.count, found.more) == (3, True)
    await cursors.move(TOPIC, "bob", 1)
    found = await unread(cursors)
    assert (found.count, found.more) == (3, False)


async def test_what_has_expired_is_lost(store: Store) -> None:
    broker, cursors = await started(store)
    kept = Retention(9, 2.0)
    await say(broker, retention=kept)
    assert (await unread(cursors)).count == 1
    await store.elapse(2.2)
    found = await unread(cursors)
    assert (found.count, found.more, found.seq, found.last) == (0, True, 1, None)
    await say(broker, retention=kept)
    found = await unread(cursors)
    assert (found.count, found.more) == (1, True)
    await cursors.move(TOPIC, "bob", 1)
    assert not (await unread(cursors)).more


async def test_without_history_nothing_is_known(store: Store) -> None:
    broker, cursors = await started(store)
    for _ in range(2):
        await say(broker, retention=Retention(0, 60.0))
    found = await unread(cursors)
    assert (found.count, found.more, found.seq) == (0, True, 2)
    assert await cursors.move(TOPIC, "bob", 2) == Unread(2, 2, 0, False, moved=True)


async def test_many_topics_are_asked_at_once(store: Store) -> None:
    broker, cursors = await started(store)
    await say(broker)
    topics = [f"room:{number}" for number in range(127)] + [TOPIC]
    found = await cursors.unread(topics, "bob")
    assert [each.count for each in found] == [0] * 127 + [1]


async def test_every_worker_sees_a_cursor(shared_store: Store) -> None:
    broker, cursors = await started(shared_store)
    _, others = await started(shared_store)
    await say(broker, sender=ANN)
    await cursors.move(TOPIC, "bob", 1)
    assert (await unread(others)).count == 0
    await say(broker, sender=ANN)
    assert (await unread(others)).count == 1
    assert (await others.move(TOPIC, "bob", 1)).moved is False


async def test_a_cursor_is_kept_for_a_while(store: Store) -> None:
    broker, cursors = await started(store, position_seconds=3.0)
    await say(broker, retention=Retention(9, 60.0))
    await cursors.move(TOPIC, "bob", 1)
    await store.elapse(1.6)
    await cursors.move(TOPIC, "bob", 1)
    await store.elapse(1.6)
    assert (await unread(cursors)).cursor == 1
    await store.elapse(3.2)
    found = await unread(cursors)
    assert (found.cursor, found.count) == (0, 1)


async def test_a_cursor_that_outlives_its_epoch_hides_nothing(store: Store) -> None:
    broker, cursors = await started(store, position_seconds=3.0)
    brief = Retention(9, 3.0)
    for _ in range(3):
        await say(broker, retention=brief)
    await store.elapse(1.6)
    assert (await cursors.move(TOPIC, "bob", 3)).moved
    await store.elapse(1.6)
    await say(broker, retention=brief)
    assert await cursors.move(TOPIC, "bob", 0) == Unread(0, 1, 1, False, moved=False)
    assert await cursors.move(TOPIC, "bob", 1) == Unread(1, 1, 0, False, moved=True)


async def test_a_cursor_counts_as_far_as_an_epoch_took_over(store: Store) -> None:
    broker, cursors = await started(store)
    for _ in range(3):
        await say(broker)
    await cursors.move(TOPIC, "bob", 2)
    await broker.begin_epoch(TOPIC, (await broker.history(TOPIC, limit=1)).epoch)
    await say(broker)
    assert (await unread(cursors)).cursor == 2
    assert (await unread(cursors)).count == 2


async def test_a_cursor_at_the_beginning_takes_no_room(store: Store) -> None:
    broker, cursors = await started(store)
    await say(broker)
    for number in range(3):
        found = await cursors.move(TOPIC, f"reader-{number}", 0)
        assert found == Unread(0, 1, 1, False, moved=False)
    if isinstance(broker, MemoryBroker):
        assert not broker.cursors._cursors


async def test_redis_keeps_no_cursor_at_the_beginning(redis_server: RedisServer, run: Run) -> None:
    redis = patient(redis_server.url, prefix="beginning")
    broker, _ = await run(RedisBroker(redis, BrokerSettings()))
    await say(broker)
    await broker.cursors.move(TOPIC, "bob", 0)
    assert redis_server.command("KEYS", "beginning:*:read:*") == b"*0\r\n"
    await broker.cursors.move(TOPIC, "bob", 1)
    assert redis_server.command("KEYS", "beginning:*:read:*").startswith(b"*1\r\n")


async def test_topics_with_much_unread_take_turns(store: Store) -> None:
    """A script that has read much leaves the rest, so that Redis answers others in between."""
    broker, cursors = await started(store)
    topics = [f"room:{number}" for number in range(6)]
    for topic in topics:
        await asyncio.gather(*(say(broker, number, topic=topic) for number in range(MANY)))
    for _ in range(2):  # the first time it is found out whose the messages are
        found = await cursors.unread(topics, "bob")
        assert [each.count for each in found] == [MANY] * len(topics)


async def test_the_only_message_behind_the_cursor_may_be_ones_own(store: Store) -> None:
    broker, cursors = await started(store)
    assert (await unread(cursors)).count == 0
    await cursors.move(TOPIC, "bob", await say(broker))
    await say(broker, sender=BOB)
    assert ((await unread(cursors)).count, (await unread(cursors, "ann")).count) == (0, 1)
    await cursors.move(TOPIC, "bob", 2)
    seq = await say(broker)
    assert (await unread(cursors)).count == 1
    await broker.change(delete(seq))
    assert (await unread(cursors)).count == 0


# Readers ----------------------------------------------------------------------------------------


async def readers(
    cursors: CursorStore, user: str = "ann", topic: str = TOPIC
) -> list[tuple[str, int]]:
    (found,) = await cursors.unread([topic], user, [topic])
    assert found.readers is not None
    return [(reader.user, reader.seq) for reader in found.readers]


async def test_others_who_may_be_seen_are_told_the_furthest_first(store: Store) -> None:
    broker, cursors = await started(store)
    assert await readers(cursors) == []
    for _ in range(5):
        await say(broker)
    for user, seq in (("bob", 2), ("ann", 3), ("c\u00e9 }:\U0001f600", 5), ("max", 4)):
        await cursors.move(TOPIC, user, seq, shown=True)
    await cursors.move(TOPIC, "hidden", 5)
    await cursors.move(TOPIC, "nowhere", 0, shown=True)
    await cursors.move(TOPIC, "beyond", 6, shown=True)
    await cursors.move(TOPIC, "elsewhere", 1, "of another epoch", shown=True)
    assert await readers(cursors) == [("c\u00e9 }:\U0001f600", 5), ("max", 4), ("bob", 2)]
    assert await readers(cursors, "max") == [("c\u00e9 }:\U0001f600", 5), ("ann", 3), ("bob", 2)]
    await cursors.move(TOPIC, "bob", 1, shown=True)
    await cursors.move(TOPIC, "max", 5, shown=True)
    assert await readers(cursors) == [("max", 5), ("c\u00e9 }:\U0001f600", 5), ("bob", 2)]
    assert (await unread(cursors)).readers is None
    assert (await cursors.move(TOPIC, "bob", 3, shown=True)).readers is None


async def test_readers_are_told_of_those_topics_alone(store: Store) -> None:
    broker, cursors = await started(store)
    topics = [f"room:{number}" for number in range(60)]
    for topic in topics:
        await say(broker, topic=topic)
        await cursors.move(topic, "bob", 1, shown=True)
    found = await cursors.unread(topics, "ann", topics[::2])
    assert [each.readers for each in found] == [
        ((("bob", 1),) if n % 2 == 0 else None) for n in range(60)
    ]


async def test_readers_are_bounded(store: Store) -> None:
    broker, cursors = await started(store)
    count = KEPT_READERS + 60
    await asyncio.gather(*(say(broker) for _ in range(count)))
    seqs = range(count, 0, -1)
    await asyncio.gather(*(cursors.move(TOPIC, f"user{seq}", seq, shown=True) for seq in seqs))
    furthest = [(f"user{seq}", seq) for seq in seqs]
    assert await readers(cursors) == furthest[:MAX_READERS]
    assert await readers(cursors, f"user{count}") == furthest[1 : MAX_READERS + 1]
    # Whoever has gone leaves a place to the next one.
    for seq in range(count, count - 5, -1):
        await cursors.forget(f"user{seq}")
    assert await readers(cursors) == furthest[5 : MAX_READERS + 5]
    if isinstance(broker, MemoryBroker):
        (kept,) = broker.cursors._readers.values()
        assert len(kept) < count - 5


async def test_topics_with_many_readers_take_turns(store: Store) -> None:
    broker, cursors = await started(store)
    topics = [f"room:{number}" for number in range(12)]
    for topic in topics:
        await say(broker, topic=topic)
        users = [f"user{number}" for number in range(MAX_READERS + 5)]
        await asyncio.gather(*(cursors.move(topic, user, 1, shown=True) for user in users))
    found = await cursors.unread(topics, "ann", topics)
    assert [len(each.readers or ()) for each in found] == [MAX_READERS] * len(topics)


async def test_redis_keeps_so_many_readers_and_no_longer_than_cursors(
    redis_server: RedisServer, run: Run
) -> None:
    redis = patient(redis_server.url, prefix="readers")
    broker, _ = await run(RedisBroker(redis, BrokerSettings(position_seconds=600.0)))
    for _ in range(KEPT_READERS + 5):
        await say(broker)
    for seq in range(1, KEPT_READERS + 6):
        await broker.cursors.move(TOPIC, f"user{seq}", seq, shown=True)
    for name in ("readers", "read_at"):
        key = f"readers:{{{TOPIC}}}:{name}"
        assert redis_server.run("ZCARD", key) == KEPT_READERS
        assert 590_000 < redis_server.run("PTTL", key) <= 600_000
        assert redis_server.run("ZSCORE", key, "user5") is None
    await broker.cursors.move("room:none", "bob", 1, shown=True)
    assert redis_server.command("KEYS", "readers:*none*:read*") == b"*0\r\n"


async def test_a_reader_is_kept_as_long_as_the_cursor(store: Store) -> None:
    broker, cursors = await started(store, position_seconds=3.0)
    for _ in range(3):
        await say(broker, retention=Retention(9, 60.0))
    await cursors.move(TOPIC, "bob", 3, shown=True)
    await cursors.move(TOPIC, "max", 2, shown=True)
    await store.elapse(1.6)
    await cursors.move(TOPIC, "max", 1, shown=True)
    await store.elapse(1.6)
    assert await readers(cursors) == [("max", 2)]
    await cursors.move(TOPIC, "ann", 1, shown=True)
    assert await readers(cursors, "eve") == [("max", 2), ("ann", 1)]
    await store.elapse(3.2)
    assert await readers(cursors) == []


async def test_readers_count_as_far_as_an_epoch_took_over(store: Store) -> None:
    broker, cursors = await started(store)
    for _ in range(3):
        await say(broker)
    await cursors.move(TOPIC, "bob", 3, shown=True)
    await cursors.move(TOPIC, "max", 1, shown=True)
    await broker.begin_epoch(TOPIC, (await broker.history(TOPIC, limit=1)).epoch)
    assert await readers(cursors) == [("bob", 3), ("max", 1)]
    for _ in range(3):
        await say(broker)
    await cursors.move(TOPIC, "max", 5, shown=True)
    assert await readers(cursors) == [("max", 5), ("bob", 3)]


async def test_readers_of_an_epoch_that_is_lost_have_read_nothing(store: Store) -> None:
    broker, cursors = await started(store, position_seconds=3.0)
    brief = Retention(9, 3.0)
    for _ in range(3):
        await say(broker, retention=brief)
    await store.elapse(1.6)
    await cursors.move(TOPIC, "bob", 3, shown=True)
    await store.elapse(1.6)
    assert await readers(cursors) == []
    for _ in range(4):
        await say(broker, retention=brief)
    assert await readers(cursors) == []
    await cursors.move(TOPIC, "max", 1, shown=True)
    assert await readers(cursors) == [("max", 1)]


async def test_a_copy_of_the_store_that_lost_the_end_tells_of_no_more(
    redis_server: RedisServer, run: Run
) -> None:
    """What a restored copy stores in a new epoch is not what was read in the lost one."""
    redis = patient(redis_server.url, prefix="copy")
    broker, _ = await run(RedisBroker(redis, BrokerSettings()))
    for _ in range(5):
        await say(broker)
    await broker.cursors.move(TOPIC, "bob", 5, shown=True)
    redis_server.command("HSET", f"copy:{{{TOPIC}}}:meta", "seq", "2")
    await broker.begin_epoch(TOPIC, (await broker.history(TOPIC, limit=0)).epoch)
    for _ in range(4):
        await say(broker)
    assert await readers(broker.cursors) == [("bob", 2)]
    await broker.cursors.move(TOPIC, "max", 3, shown=True)
    assert await readers(broker.cursors) == [("max", 3), ("bob", 2)]


async def test_a_user_is_forgotten_everywhere(store: Store) -> None:
    broker, cursors = await started(store)
    topics = [f"room:{number}" for number in range(20)]
    alike = ("b*b", "bob", "bxb", "b*b2", "a}:read:b*b", "b[*]b")
    for topic in topics:
        await say(broker, topic=topic)
        for user in alike:
            await cursors.move(topic, user, 1, shown=True)
    await cursors.forget("b*b")
    for topic in topics:
        assert {user for user, _ in await readers(cursors, topic=topic)} == {*alike} - {"b*b"}
        assert (await unread(cursors, "b*b", topic)).cursor == 0
        assert (await unread(cursors, "a}:read:b*b", topic)).cursor == 1


async def test_a_purge_takes_the_readers_too(store: Store) -> None:
    broker, cursors = await started(store)
    await say(broker)
    await cursors.move(TOPIC, "bob", 1, shown=True)
    await broker.purge(TOPIC)
    assert await readers(cursors) == []
    await say(broker)
    await cursors.move(TOPIC, "bob", 2, shown=True)
    assert await readers(cursors) == [("bob", 2)]


async def test_an_acl_without_scan_ends_no_erasure(
    own_redis: RedisServer, run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    own_redis.command(
        *("ACL", "SETUSER", "chat", "on", ">pw", "~chat:*", "&chat:*", "+@all", "-scan")
    )
    url = f"redis://chat:pw@127.0.0.1:{own_redis.port}/0"
    broker, _ = await run(RedisBroker(patient(url), BrokerSettings()))
    await say(broker)
    await broker.cursors.move(TOPIC, "bob", 1, shown=True)
    await broker.cursors.forget("bob")
    assert "ACL: +scan is missing" in caplog.text
    assert await readers(broker.cursors) == [("bob", 1)]


@pytest.mark.parametrize("seed", range(4))
async def test_every_store_knows_the_same_readers(store: Store, seed: int) -> None:
    """What a dictionary says of random commands."""
    chance = random.Random(seed)
    broker, cursors = await started(store)
    known: dict[str, int] = {}
    last = 0
    for _ in range(80):
        user = chance.choice(["ann", "bob", "eve", "max", "{x}"])
        match chance.choice(["say", "say", "read", "read", "read", "forget", "epoch"]):
            case "say":
                last = await say(broker)
            case "read":
                seq = chance.randint(0, last + 1)
                await cursors.move(TOPIC, user, seq, shown=True)
                if 0 < seq <= last:
                    known[user] = max(seq, known.get(user, 0))
            case "forget":
                await cursors.forget(user)
                known.pop(user, None)
            case "epoch":
                await broker.begin_epoch(TOPIC, (await broker.history(TOPIC, limit=0)).epoch)
        others = [(seq, each) for each, seq in known.items() if each != "ann"]
        assert await readers(cursors) == [(each, seq) for seq, each in sorted(others)[::-1]]
