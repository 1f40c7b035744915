"""The contract of `realtime.ports.Broker`, held by every broker over every store."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Sequence
from typing import Any

import pytest

from chat_server.events import Event, HistoryPage, Kind, Retention
from chat_server.protocol.errors import Unavailable
from chat_server.realtime.ports import Broker, BrokerHealth

from .conftest import FAKEREDIS, made_store
from .helpers import FOREVER, TOPIC, Recorder, Store, draft, text_of, until


@pytest.fixture(params=["memory", FAKEREDIS, "redis", "sentinel", "cluster"])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[Store]:
    """Each kind of store in turn; behind sentinels, too."""
    async for made in made_store(request):
        yield made


@pytest.fixture(params=[FAKEREDIS, "redis", "sentinel", "cluster"])
async def shared_store(request: pytest.FixtureRequest) -> AsyncIterator[Store]:
    """Each kind of store that several workers can share; behind sentinels, too."""
    async for made in made_store(request):
        yield made


def seqs(page: HistoryPage) -> list[int]:
    return [event.seq for event in page.events]


class TestOrder:
    async def test_seq_counts_every_event_of_a_topic_from_one(self, store: Store) -> None:
        broker, _ = await store.start()
        published = [await broker.publish(draft(str(number))) for number in range(5)]
        other = await broker.publish(draft(topic="room:other"))
        assert [place.seq for place in published] == [1, 2, 3, 4, 5]
        assert other.seq == 1
        assert len({place.epoch for place in published}) == 1
        assert other.epoch != published[0].epoch
        assert not any(place.duplicate for place in published)

    async def test_a_frame_is_put_together_with_seq_and_time(self, store: Store) -> None:
        broker, recorder = await store.start()
        await broker.subscribe(TOPIC)
        place = await broker.publish(draft("grüße"))
        (event,) = await recorder.wait_for(1)
        assert event == Event(TOPIC, place.epoch, 1, Kind.MESSAGE, event.payload)
        assert event.payload.decode() == (
            f'{{"type":"message","topic":"room:lobby","seq":1,"at":{place.at},'
            '"from":null,"data":"grüße"}'
        )
        now = store.clock.time() if store.name == "memory" else time.time()
        assert abs(place.at - now * 1_000) < 60_000

    async def test_a_thousand_calls_of_one_loop_turn_keep_their_order(self, store: Store) -> None:
        broker, recorder = await store.start()
        await broker.subscribe(TOPIC)
        order: list[int] = []
        futures = [broker.publish(draft(str(number))) for number in range(1_000)]
        for future in futures:
            future.add_done_callback(lambda done: order.append(done.result().seq))
        published = await asyncio.gather(*futures)
        assert [place.seq for place in published] == list(range(1, 1_001))
        await until(lambda: len(order) == 1_000)
        assert order == list(range(1, 1_001)), "answers come in the order of the calls"
        events = await recorder.wait_for(1_000)
        assert [event.seq for event in events] == list(range(1, 1_001))
        assert [text_of(event) for event in events] == [str(number) for number in range(1_000)]
        assert recorder.batches < 500, "events are delivered in batches"

    async def test_events_are_delivered_after_publish_returned(self, store: Store) -> None:
        broker, recorder = await store.start()
        await broker.subscribe(TOPIC)
        future = broker.publish(draft())
        assert not recorder.events
        await future
        await recorder.wait_for(1)

    async def test_frames_may_hold_any_bytes(self, store: Store) -> None:
        broker, recorder = await store.start()
        await broker.subscribe(TOPIC)
        text = 'a b  c\r\n\0 \\ " é \U0001f600 1 - 2 ' * 3_000
        await broker.publish(draft(text))
        (event,) = await recorder.wait_for(1)
        assert text_of(event) == text
        page = await broker.history(TOPIC, limit=1)
        assert page.events == [event]

    @pytest.mark.parametrize("kind", [kind for kind in Kind if kind is not Kind.SIGNAL])
    async def test_an_event_keeps_its_kind(self, store: Store, kind: Kind) -> None:
        broker, recorder = await store.start()
        await broker.subscribe(TOPIC)
        await broker.publish(draft(kind=kind))
        (event,) = await recorder.wait_for(1)
        page = await broker.history(TOPIC, limit=1)
        assert event.kind is page.events[0].kind is kind

    async def test_two_workers_see_one_order(self, shared_store: Store) -> None:
        first, heard_by_first = await shared_store.start()
        second, heard_by_second = await shared_store.start()
        await asyncio.gather(first.subscribe(TOPIC), second.subscribe(TOPIC))
        places = await asyncio.gather(
            *(broker.publish(draft(str(n))) for n in range(100) for broker in (first, second))
        )
        assert len({place.epoch for place in places}) == 1
        assert sorted(place.seq for place in places) == list(range(1, 201))
        assert await heard_by_first.wait_for(200) == await heard_by_second.wait_for(200)
        assert heard_by_first.seqs() == list(range(1, 201))
        assert (await first.history(TOPIC, limit=200)) == (await second.history(TOPIC, limit=200))


class TestEpoch:
    async def test_reading_gives_a_topic_its_epoch(self, store: Store) -> None:
        broker, _ = await store.start()
        empty = await broker.history(TOPIC, limit=0)
        again = await broker.history(TOPIC, limit=10)
        assert empty == again == HistoryPage(empty.epoch, 0, [])
        assert empty.epoch
        assert (await broker.publish(draft())).epoch == empty.epoch

    async def test_workers_agree_on_an_epoch(self, shared_store: Store) -> None:
        brokers = [(await shared_store.start())[0] for _ in range(4)]
        pages = await asyncio.gather(*(broker.history(TOPIC, limit=0) for broker in brokers))
        assert len({place.epoch for place in pages}) == 1

    async def test_a_forgotten_topic_begins_another_epoch(self, store: Store) -> None:
        broker, _ = await store.start(position_seconds=0.2)
        first = await broker.publish(draft(retention=Retention(10, 0.1)))
        await store.elapse(0.3)
        page = await broker.history(TOPIC, limit=10)
        assert (page.seq, page.events) == (0, [])
        assert page.epoch != first.epoch
        await store.elapse(0.3)
        second = await broker.publish(draft(retention=Retention(10, 0.1)))
        assert second.seq == 1
        assert second.epoch not in (first.epoch, page.epoch)

    async def test_an_epoch_can_begin_within_an_order(self, store: Store) -> None:
        broker, recorder = await store.start()
        await broker.subscribe(TOPIC)
        first = [await broker.publish(draft(str(number))) for number in range(3)]
        assert (await broker.history(TOPIC, limit=0)).epoch_start == 0
        began = await broker.begin_epoch(TOPIC, first[0].epoch)
        assert (began.seq, began.epoch != first[0].epoch) == (3, True)
        again = await broker.begin_epoch(TOPIC, first[0].epoch)
        assert again == began, "others who find the same out change nothing"
        place = await broker.publish(draft("3"))
        assert (place.seq, place.epoch) == (4, began.epoch)
        page = await broker.history(TOPIC, limit=9)
        assert (page.epoch, page.seq, page.epoch_start) == (began.epoch, 4, 3)
        assert seqs(page) == [1, 2, 3, 4], "what is stored stays"
        assert {event.epoch for event in page.events} == {began.epoch}
        assert [event.epoch for event in await recorder.wait_for(4)][-1] == began.epoch

    async def test_a_position_outlives_what_is_stored(self, store: Store) -> None:
        broker, _ = await store.start(position_seconds=0.1)
        place = await broker.publish(draft())
        await store.elapse(0.3)
        page = await broker.history(TOPIC, limit=10)
        assert (page.epoch, seqs(page)) == (place.epoch, [1])


class TestIdempotency:
    async def test_a_key_stores_once(self, store: Store) -> None:
        broker, recorder = await store.start()
        await broker.subscribe(TOPIC)
        first = await broker.publish(draft("first", key="k"))
        second = await broker.publish(draft("second", key="k"))
        third = await broker.publish(draft("third"))
        assert not first.duplicate
        assert second.duplicate
        assert (second.seq, second.epoch, second.at) == (first.seq, first.epoch, first.at)
        assert third.seq == 2
        await recorder.wait_for(2)
        assert [text_of(event) for event in recorder.events] == ["first", "third"]

    async def test_a_key_belongs_to_its_topic(self, store: Store) -> None:
        broker, _ = await store.start()
        await broker.publish(draft(key="k"))
        assert not (await broker.publish(draft(key="k", topic="room:other"))).duplicate
        assert not (await broker.publish(draft(key="k2"))).duplicate

    async def test_keys_may_hold_any_character(self, store: Store) -> None:
        broker, _ = await store.start()
        for key in ("alice\0k", "a b", "}{*", "ключ", "\n"):
            assert not (await broker.publish(draft(key=key))).duplicate
            assert (await broker.publish(draft(key=key))).duplicate

    async def test_one_key_twice_at_once(self, shared_store: Store) -> None:
        first, _ = await shared_store.start()
        second, _ = await shared_store.start()
        places = await asyncio.gather(
            *(broker.publish(draft(key="k")) for broker in (first, second, first, second))
        )
        assert sorted(place.duplicate for place in places) == [False, True, True, True]
        assert {place.seq for place in places} == {1}

    async def test_a_key_is_forgotten_after_its_window(self, store: Store) -> None:
        broker, _ = await store.start(idempotency_seconds=2.0)
        both = [broker.publish(draft(key="k")) for _ in range(2)]
        assert [(await place).duplicate for place in both] == [False, True]
        await store.elapse(2.2)
        late = await broker.publish(draft(key="k"))
        assert (late.seq, late.duplicate) == (2, False)

    async def test_a_duplicate_of_an_earlier_epoch_keeps_its_place(self, store: Store) -> None:
        broker, _ = await store.start(position_seconds=2.0)
        brief = Retention(10, 2.0)
        await broker.publish(draft(retention=brief))
        first = await broker.publish(draft(key="k", retention=brief))
        await store.elapse(2.2)
        again = await broker.publish(draft(key="k", retention=brief))
        assert (again.seq, again.epoch, again.duplicate) == (2, first.epoch, True)
        assert (await broker.publish(draft(retention=brief))).epoch != first.epoch


class TestHistory:
    async def test_the_oldest_are_trimmed_exactly(self, store: Store) -> None:
        broker, _ = await store.start()
        few = Retention(3, 3_600.0)
        for number in range(250):
            await broker.publish(draft(str(number), retention=few))
        page = await broker.history(TOPIC, limit=100)
        assert seqs(page) == [248, 249, 250]
        assert (page.seq, page.more) == (250, False)

    async def test_history_expires_but_the_position_stays(self, store: Store) -> None:
        broker, _ = await store.start()
        brief = Retention(10, 0.2)
        place = await broker.publish(draft(retention=brief))
        await store.elapse(0.3)
        assert await broker.history(TOPIC, limit=10) == HistoryPage(place.epoch, 1, [], missing=1)
        await broker.publish(draft(retention=brief))
        assert (await broker.history(TOPIC, limit=10)).seq == 2

    async def test_without_history_seq_still_counts(self, store: Store) -> None:
        broker, recorder = await store.start()
        await broker.subscribe(TOPIC)
        for _ in range(3):
            place = await broker.publish(draft(retention=Retention(0, 60.0)))
        assert await broker.history(TOPIC, limit=10) == HistoryPage(place.epoch, 3, [], missing=3)
        await recorder.wait_for(3)
        assert recorder.seqs() == [1, 2, 3]

    async def test_history_that_was_off_for_a_while_has_no_hole(self, store: Store) -> None:
        broker, _ = await store.start()
        for retention in (FOREVER, Retention(0, 60.0), FOREVER):
            await broker.publish(draft(retention=retention))
        assert seqs(await broker.history(TOPIC, limit=10)) == [3]

    async def test_a_smaller_history_trims_at_the_next_event(self, store: Store) -> None:
        broker, _ = await store.start()
        for size in (10, 10, 10, 2):
            await broker.publish(draft(retention=Retention(size, 60.0)))
        assert seqs(await broker.history(TOPIC, limit=10)) == [3, 4]


class TestSignals:
    async def test_a_signal_is_delivered_but_not_stored(self, store: Store) -> None:
        broker, recorder = await store.start()
        await broker.subscribe(TOPIC)
        await broker.signal(TOPIC, b'{"type":"signal", "data": 1}')
        (event,) = await recorder.wait_for(1)
        assert event == Event(TOPIC, "", 0, Kind.SIGNAL, b'{"type":"signal", "data": 1}')
        assert (await broker.history(TOPIC, limit=10)).events == []
        assert (await broker.publish(draft())).seq == 1

    async def test_signals_and_events_keep_their_order(self, store: Store) -> None:
        broker, recorder = await store.start()
        await broker.subscribe(TOPIC)
        for number in range(10):
            broker.publish(draft(str(number)))
            broker.signal(TOPIC, b"{}")
        await recorder.wait_for(20)
        assert recorder.seqs() == [seq for n in range(1, 11) for seq in (n, 0)]


class TestSubscriptions:
    async def test_what_is_published_once_subscribed_arrives(self, shared_store: Store) -> None:
        hearing, recorder = await shared_store.start()
        speaking, _ = await shared_store.start()
        for number in range(50):
            topic = f"room:{number}"
            await hearing.subscribe(topic)
            await speaking.publish(draft(topic=topic))
        await recorder.wait_for(50)
        assert {event.topic for event in recorder.events} == {f"room:{n}" for n in range(50)}

    async def test_publishing_at_once_after_subscribing(self, store: Store) -> None:
        broker, recorder = await store.start()
        await broker.subscribe(TOPIC)
        await broker.publish(draft())
        await recorder.wait_for(1)

    async def test_other_topics_are_not_heard(self, store: Store) -> None:
        broker, recorder = await store.start()
        await broker.subscribe(TOPIC)
        for topic in ("room:lobby2", "room:lobb", "Room:lobby", TOPIC):
            await broker.publish(draft(topic=topic))
        await recorder.wait_for(1)
        assert [event.topic for event in recorder.events] == [TOPIC]

    async def test_nothing_comes_once_unsubscribed(self, store: Store) -> None:
        broker, recorder = await store.start()
        await broker.subscribe(TOPIC)
        broker.unsubscribe(TOPIC)
        broker.unsubscribe("room:never")
        # Confirmed after the unsubscription, so what follows it cannot be on its way.
        await broker.subscribe("room:other")
        await broker.publish(draft())
        await broker.publish(draft(topic="room:other"))
        await recorder.wait_for(1)
        assert [event.topic for event in recorder.events] == ["room:other"]

    async def test_subscribing_again_at_once(self, store: Store) -> None:
        broker, recorder = await store.start()
        futures = []
        for _ in range(20):
            futures.append(broker.subscribe(TOPIC))
            broker.unsubscribe(TOPIC)
        futures.append(broker.subscribe(TOPIC))
        await asyncio.gather(*futures)
        await broker.publish(draft())
        await recorder.wait_for(1)

    async def test_subscribing_twice_delivers_once(self, store: Store) -> None:
        broker, recorder = await store.start()
        await asyncio.gather(broker.subscribe(TOPIC), broker.subscribe(TOPIC))
        await broker.subscribe(TOPIC)
        for _ in range(3):
            await broker.publish(draft())
        await recorder.wait_for(3)
        assert recorder.seqs() == [1, 2, 3]

    async def test_a_listener_that_fails_goes_on_hearing(
        self, store: Store, caplog: pytest.LogCaptureFixture
    ) -> None:
        class Faulty(Recorder):
            def on_events(self, events: Sequence[Event]) -> None:
                super().on_events(events)
                raise RuntimeError("a fault of the listener")

        broker, faulty = store.make(), Faulty()
        await broker.start(faulty)
        await broker.subscribe(TOPIC)
        await broker.publish(draft())
        await faulty.wait_for(1)
        await broker.publish(draft())
        await faulty.wait_for(2)
        assert "a fault of the listener" in caplog.text
        assert await status_of(broker) == "ok"


class TestGivingUp:
    async def test_a_cancelled_publication_is_stored_all_the_same(self, store: Store) -> None:
        broker, recorder = await store.start()
        await broker.subscribe(TOPIC)
        futures = [broker.publish(draft(str(number))) for number in range(10)]
        for future in futures[::2]:
            future.cancel()
        assert [(await future).seq for future in futures[1::2]] == [2, 4, 6, 8, 10]
        await recorder.wait_for(10)
        assert recorder.seqs() == list(range(1, 11))

    async def test_cancelling_at_any_moment_harms_nobody_else(self, store: Store) -> None:
        broker, _ = await store.start()
        for turns in range(12):
            tasks: list[asyncio.Future[Any]] = [
                asyncio.create_task(broker.history(TOPIC, limit=5)),
                asyncio.create_task(broker.health()),
                asyncio.ensure_future(broker.publish(draft())),
                asyncio.ensure_future(broker.subscribe(TOPIC)),
                asyncio.ensure_future(broker.signal(TOPIC, b"{}")),
            ]
            for _ in range(turns):
                await asyncio.sleep(0)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        assert (await broker.publish(draft())).seq == 13
        assert (await broker.history(TOPIC, limit=50)).seq == 13
        health = await broker.health()
        assert health.status == "ok"
        assert health.latency_seconds is not None

    async def test_stopping_leaves_nothing_pending(self, store: Store) -> None:
        broker, _ = await store.start()
        futures: list[asyncio.Future[Any]] = [
            *(asyncio.ensure_future(broker.publish(draft())) for _ in range(100)),
            asyncio.ensure_future(broker.subscribe(TOPIC)),
            asyncio.ensure_future(broker.signal(TOPIC, b"{}")),
            asyncio.create_task(broker.history(TOPIC, limit=1)),
        ]
        await broker.stop()
        await asyncio.wait(futures)
        for future in futures:
            assert isinstance(future.exception(), Unavailable | None)

    async def test_a_stopped_broker_is_unavailable(self, store: Store) -> None:
        broker, recorder = await store.start()
        states = [(await status_of(broker), broker.reaches(TOPIC))]
        await broker.stop()
        await broker.stop()
        states.append((await status_of(broker), broker.reaches(TOPIC)))
        assert states == [("ok", True), ("unavailable", False)]
        await _assert_unavailable(broker.publish(draft()))
        await _assert_unavailable(broker.signal(TOPIC, b"{}"))
        await _assert_unavailable(broker.subscribe(TOPIC))
        await _assert_unavailable(broker.history(TOPIC, limit=1))
        assert await broker.health() == BrokerHealth("unavailable", 0.0, None)
        broker.unsubscribe(TOPIC)
        assert (recorder.losses, recorder.returns) == (0, 0)

    async def test_a_broker_that_was_not_started_is_unavailable(self, store: Store) -> None:
        broker = store.make()
        assert await status_of(broker) == "unavailable"
        await _assert_unavailable(broker.publish(draft()))
        await _assert_unavailable(broker.history(TOPIC, limit=1))
        await broker.stop()

    async def test_stopping_while_starting(self, store: Store) -> None:
        for turns in range(12):
            broker = store.make()
            starting = asyncio.create_task(broker.start(Recorder()))
            for _ in range(turns):
                await asyncio.sleep(0)
            starting.cancel()
            await asyncio.wait([starting])
            await broker.stop()


async def test_health_tells_how_long_a_round_trip_took(store: Store) -> None:
    broker, _ = await store.start()
    health = await broker.health()
    assert health.latency_seconds is not None
    assert 0 <= health.latency_seconds < 5
    ahead = health.clock_ahead_seconds
    assert ahead is None or abs(ahead) < 5, "both clocks are this machine's"
    assert health == BrokerHealth("ok", 0.0, health.latency_seconds, "", ahead)
    assert await broker.health(ping=False) == BrokerHealth("ok", 0.0, None)


async def test_many_topics_at_once(store: Store) -> None:
    broker, recorder = await store.start()
    topics = [f"room:{number}" for number in range(1_200)]
    await asyncio.gather(*(broker.subscribe(topic) for topic in topics))
    await asyncio.gather(*(broker.publish(draft(topic=topic)) for topic in topics))
    await until(lambda: {event.topic for event in recorder.events} == set(topics))


async def status_of(broker: Broker) -> str:
    return (await broker.health(ping=False)).status


async def _assert_unavailable(awaitable: Awaitable[Any]) -> None:
    with pytest.raises(Unavailable) as caught:
        await awaitable
    assert caught.value.retry_in_ms is not None
    assert "127.0.0.1" not in str(caught.value)
