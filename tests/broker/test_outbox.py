"""Publications that wait for a store that is unavailable."""

import asyncio
import logging
from asyncio import Future
from collections.abc import AsyncIterator, Iterable

import pytest

from chat_server.broker import outbox as module
from chat_server.broker.outbox import Outbox
from chat_server.events import PublishResult
from chat_server.protocol.errors import Unavailable
from chat_server.settings import BrokerSettings, Namespace, Settings

from .helpers import TOPIC, Recorder, draft, until
from .scripted import ScriptedBroker

PLAIN = "plain:a"
"""A topic of a namespace that keeps nothing."""


class World:
    """An outbox in front of a scripted broker."""

    def __init__(self, *, room: int = 100, limit: int = 1_000, **broker: float) -> None:
        settings = Settings(
            broker=BrokerSettings(**broker),  # type: ignore[arg-type]
            namespaces={
                "room": Namespace(spool_messages=room),
                "other": Namespace(spool_messages=2),
                "plain": Namespace(),
            },
        )
        self.store = ScriptedBroker(limit)
        self.outbox = Outbox(self.store, settings)
        self.recorder = Recorder()

    async def start(self) -> None:
        self.outbox.start()
        await self.store.start(self.recorder)

    async def stop(self) -> None:
        self.outbox.stop()
        await self.store.stop()

    def come_back(self) -> None:
        """Let the store come back, and the outbox look at it before its next tick."""
        self.store.come_back()
        self.outbox.flush()

    def publish(self, *texts: str, topic: str = TOPIC) -> "list[Future[PublishResult]]":
        return [self.outbox.publish(draft(text, topic=topic)) for text in texts]

    async def answer_all(self) -> None:
        """Store whatever comes until nothing does."""
        async with asyncio.timeout(90):
            while self.outbox.spooled or self.store.inbox:
                self.store.answer()
                await asyncio.sleep(0.001)

    def texts(self, topic: str = TOPIC) -> list[str]:
        return [tail.split(b'"')[-2].decode() for tail in self.store.texts(topic)]


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    await made.start()
    yield made
    await made.stop()


async def seqs(futures: "Iterable[Future[PublishResult]]") -> list[int]:
    return [(await future).seq for future in futures]


async def check_refused(future: "Future[PublishResult]", message: str = "message store") -> None:
    assert future.done(), "it had to wait"
    with pytest.raises(Unavailable, match=message) as caught:
        await future
    assert caught.value.retry_in_ms


async def test_what_is_published_during_an_outage_is_stored_after_it(world: World) -> None:
    before = world.publish("0")
    world.store.answer()
    world.store.lose()
    during = world.publish("1", "2", "3")
    await asyncio.sleep(0)
    assert not any(future.done() for future in during)
    assert world.outbox.spooled == 3
    world.come_back()
    after = world.publish("4")
    await world.answer_all()
    assert await seqs(before + during + after) == [1, 2, 3, 4, 5]
    assert world.texts() == ["0", "1", "2", "3", "4"]
    assert (world.recorder.losses, world.recorder.returns) == (1, 1)


async def test_a_part_of_the_store_that_is_away_holds_up_its_own_topics_only(world: World) -> None:
    world.store.unavailable.add(TOPIC)
    (kept,) = world.publish("kept")
    (stored,) = world.publish("stored", topic="room:elsewhere")
    world.store.answer()
    assert (await stored).seq == 1
    assert world.outbox.spooled == 1
    world.outbox.flush()
    assert (world.store.inbox, world.outbox.spooled) == ([], 1), "sent where nobody is"
    world.store.unavailable.clear()
    world.come_back()
    await world.answer_all()
    assert (await kept).seq == 1


async def test_what_waits_goes_where_the_store_is_there(world: World) -> None:
    world.store.lose()
    (kept,) = world.publish("kept")
    (freed,) = world.publish("freed", topic="room:elsewhere")
    world.store.unavailable.add(TOPIC)
    world.come_back()
    world.store.answer()
    assert (await freed).seq == 1
    assert not kept.done()
    world.store.unavailable.clear()
    world.come_back()
    await world.answer_all()
    assert (await kept).seq == 1


async def test_a_namespace_without_a_spool_is_refused_at_once(world: World) -> None:
    world.store.lose()
    (refused,) = world.publish("lost", topic=PLAIN)
    await check_refused(refused)
    (unknown,) = world.publish("lost", topic="nowhere:a")
    await check_refused(unknown)
    assert world.outbox.spooled == 0


async def test_what_keeps_nothing_is_sent_as_it_is(world: World) -> None:
    plain = draft(topic=PLAIN)
    future = world.outbox.publish(plain)
    assert world.store.sent == [plain]
    world.store.answer()
    await future


@pytest.mark.parametrize("stored", [0, 1, 2, 3])
async def test_what_was_under_way_is_stored_once_and_in_order(world: World, stored: int) -> None:
    under_way = world.publish("0", "1", "2")
    world.store.lose(stored)
    later = world.publish("3")
    await asyncio.sleep(0)
    assert world.outbox.spooled == 4
    world.come_back()
    await world.answer_all()
    places = [await future for future in under_way + later]
    assert [place.seq for place in places] == [1, 2, 3, 4]
    assert not any(place.duplicate for place in places)
    assert world.texts() == ["0", "1", "2", "3"]


async def test_every_attempt_bears_the_same_key_which_nobody_knows(world: World) -> None:
    first, second = world.publish("0", "1")
    world.store.lose()
    await asyncio.sleep(0)
    world.come_back()
    await world.answer_all()
    await asyncio.gather(first, second)
    keys = [sent.key for sent in world.store.sent]
    assert keys[:2] == keys[2:]
    assert len(set(keys)) == 2
    for key in keys:
        # The node begins a client's key with the length of the user's name.
        assert key is not None
        assert key.startswith("spool:")
        assert len(key) >= 32


async def test_a_clients_key_is_kept_and_its_repetition_is_one(world: World) -> None:
    world.store.lose()
    keyed = draft("once", key="3:ada:k")
    first, second = world.outbox.publish(keyed), world.outbox.publish(keyed)
    world.come_back()
    await world.answer_all()
    assert ((await first).seq, (await first).duplicate) == (1, False)
    assert ((await second).seq, (await second).duplicate) == (1, True)
    assert world.texts() == ["once"]


async def test_nothing_overtakes_what_failed_in_the_same_turn(world: World) -> None:
    """The connection breaks, but the store counts as available: there will be no on_restored."""
    under_way = world.publish("0", "1")
    world.store.cut(1)
    later = world.publish("2")
    assert [len(world.store.inbox), world.outbox.spooled] == [0, 1]
    world.outbox.flush()
    assert not world.store.inbox, "it was sent before those that have to be sent again"
    await until(lambda: len(world.store.inbox) == 3)
    await world.answer_all()
    assert await seqs(under_way + later) == [1, 2, 3]
    assert world.texts() == ["0", "1", "2"]


async def test_other_topics_do_not_wait(world: World) -> None:
    world.publish("0")
    world.store.cut()
    (other,) = world.publish("1", topic="room:other")
    world.store.answer()
    assert (await other).seq == 1
    assert world.texts() == []
    await until(lambda: len(world.store.inbox) == 1)
    await world.answer_all()


async def test_a_refusal_is_passed_on(world: World) -> None:
    futures = world.publish("0", "1")
    world.store.refuse()
    world.store.answer()
    await until(futures[0].done)
    await check_refused(futures[0], "refuses")
    assert (await futures[1]).seq == 1
    assert world.outbox.spooled == 0


async def test_what_was_overtaken_is_not_stored_late(world: World) -> None:
    futures = world.publish("0", "1", "2", "3")
    world.store.stumble(stored=1)
    await until(futures[0].done)
    await check_refused(futures[0])
    await until(lambda: len(world.store.inbox) == 2)
    await world.answer_all()
    assert await seqs(futures[1:]) == [1, 2, 3]
    assert world.texts() == ["1", "2", "3"]


async def test_a_failure_while_it_is_sent_again_keeps_the_rest(world: World) -> None:
    world.store.lose()
    futures = world.publish(*map(str, range(10)))
    for stored in (3, 0, 2):
        world.come_back()
        assert world.store.inbox
        world.store.lose(stored)
        futures += world.publish(str(len(futures)))
        await asyncio.sleep(0)
    world.come_back()
    await world.answer_all()
    assert await seqs(futures) == list(range(1, 14))
    assert world.texts() == [str(number) for number in range(13)]


async def test_sending_again_is_paced() -> None:
    world = World(room=1_000, max_pending=100)
    await world.start()
    world.store.lose()
    futures = world.publish(*map(str, range(300)))
    futures += world.publish(*map(str, range(300)), topic="room:b")
    world.come_back()
    most = 0
    while world.outbox.spooled:
        most = max(most, len(world.store.inbox))
        topics = {sent.topic for sent, _ in world.store.inbox}
        assert world.outbox.spooled < 300 or len(topics) == 2, "one topic waits for the other"
        world.store.answer(20)
        await asyncio.sleep(0)
    assert most == 50
    assert await seqs(futures) == [*range(1, 301)] * 2
    await world.stop()


async def test_what_is_new_goes_behind_what_is_kept() -> None:
    world = World(max_pending=2)
    await world.start()
    world.store.lose()
    futures = world.publish("0", "1")
    world.come_back()
    assert len(world.store.inbox) == 1
    futures += world.publish("2")
    assert len(world.store.inbox) == 1
    await world.answer_all()
    assert world.texts() == ["0", "1", "2"]
    assert await seqs(futures) == [1, 2, 3]
    await world.stop()


async def test_a_busy_store_is_asked_again() -> None:
    world = World(limit=4)
    await world.start()
    world.store.lose()
    futures = world.publish(*map(str, range(10)))
    world.come_back()
    assert len(world.store.inbox) == 4
    futures += world.publish("10")
    await world.answer_all()
    assert await seqs(futures) == list(range(1, 12))
    await world.stop()


async def test_past_its_bound_a_namespace_is_refused_at_once(world: World) -> None:
    world.store.lose()
    kept = world.publish("0", topic="other:a") + world.publish("1", topic="other:b")
    for topic in ("other:a", "other:c"):
        (refused,) = world.publish("2", topic=topic)
        await check_refused(refused, "the spool is full")
    kept += world.publish("3")
    world.come_back()
    await world.answer_all()
    await asyncio.gather(*kept)
    world.store.lose()
    kept = world.publish("4", "5", topic="other:a")
    world.come_back()
    await world.answer_all()
    assert await seqs(kept) == [2, 3]


async def test_what_was_under_way_is_kept_up_to_the_bound(world: World) -> None:
    futures = world.publish("0", "1", "2", topic="other:a")
    world.store.lose()
    await asyncio.sleep(0)
    await check_refused(futures[2], "the spool is full")
    world.come_back()
    await world.answer_all()
    assert await seqs(futures[:2]) == [1, 2]


async def test_bytes_are_bounded() -> None:
    world = World(spool_bytes=10 * module.ENTRY_BYTES)
    await world.start()
    world.store.lose()
    kept = world.publish("x" * 5 * module.ENTRY_BYTES)
    (refused,) = world.publish("y" * 5 * module.ENTRY_BYTES)
    await check_refused(refused, "the spool is full")
    kept += world.publish("z")
    world.come_back()
    await world.answer_all()
    assert await seqs(kept) == [1, 2]
    world.store.lose()
    kept = world.publish("x" * 5 * module.ENTRY_BYTES)
    assert not kept[0].done()
    await world.stop()


async def test_what_waits_too_long_is_refused() -> None:
    world = World(spool_seconds=0.5)
    await world.start()
    world.store.lose()
    (future,) = world.publish("old")
    with pytest.raises(Unavailable):
        await asyncio.wait_for(asyncio.shield(future), 10)
    assert world.outbox.spooled == 0
    world.come_back()
    assert not world.store.inbox
    (future,) = world.publish("new")
    world.store.answer()
    assert (await future).seq == 1
    await world.stop()


async def test_who_gives_up_on_it_does_not_undo_it(world: World) -> None:
    world.store.lose()
    gone, other = world.publish("0", "1")
    gone.cancel()
    world.come_back()
    await world.answer_all()
    assert (await other).seq == 2
    assert world.texts() == ["0", "1"]


async def test_a_stop_gives_up_what_is_kept(caplog: pytest.LogCaptureFixture) -> None:
    world = World()
    await world.start()
    under_way = world.publish("0")
    world.store.lose()
    await asyncio.sleep(0)
    world.come_back()
    assert world.store.inbox
    futures = under_way + world.publish("1", topic="room:b")
    world.store.lose()
    futures += world.publish("2")
    await world.stop()
    await asyncio.sleep(0)
    for future in (*futures, *world.publish("3")):
        await check_refused(future)
    assert world.store.count("stop") == 1
    assert world.outbox.spooled == 0
    assert "2 spooled publications were not stored" in caplog.text


async def test_the_log_says_when_it_begins_and_ends(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    world.store.lose()
    futures = world.publish(*map(str, range(50)))
    await until(lambda: "are spooled" in caplog.text)
    world.come_back()
    await world.answer_all()
    await asyncio.gather(*futures)
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert "nothing is spooled any more" in caplog.text


async def test_the_tick_sends_what_waits_once_the_log_accepts_it(world: World) -> None:
    world.store.lose()
    (kept,) = world.publish("0")
    world.store.come_back()
    assert not world.store.inbox
    await until(lambda: len(world.store.inbox) == 1)
    await world.answer_all()
    assert (await kept).seq == 1
