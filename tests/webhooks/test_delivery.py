"""Every event comes at least once and in order for each topic, whatever the endpoint does."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pytest
from msgspec.structs import replace
from standardwebhooks.webhooks import Webhook as Verifying

from chat_server.clock import iso_time
from chat_server.database.database import Database
from chat_server.extension import ChatServer
from chat_server.settings import DatabaseSettings, Namespace
from chat_server.webhooks.store import State, WebhookStore

from ..rig.clock import ManualClock
from ..rig.ports import free_port
from ..rig.waiting import until, until_async
from ..rig.webhook_receiver import Received, WebhookReceiver, answering
from .conftest import SECRET, Serve, webhook

TOPICS = [f"room:{number}" for number in range(10)]


async def publish(chat: ChatServer, topics: Sequence[str], count: int, first: int = 1) -> None:
    """Publish `count` messages to each topic, whose data are the seqs that they get."""
    for number in range(first, first + count):
        for topic in topics:
            await chat.publish(topic, number, sender="alice")


def seqs(events: Sequence[dict[str, Any]]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = defaultdict(list)
    for event in events:
        found[event["topic"]].append(event["seq"] if event["type"] != "gap" else -1)
    return found


def has_all(receiver: WebhookReceiver, topics: Sequence[str], count: int) -> Callable[[], bool]:
    """Return whether each topic's events came once and in order, after messages that failed."""
    return lambda: seqs(receiver.events) == {topic: [*range(1, count + 1)] for topic in topics}


async def state(settings: DatabaseSettings, name: str = "orders") -> State:
    database = Database(settings)
    await database.start()
    try:
        return await WebhookStore(database).state(name) or State(name, 0)
    finally:
        await database.stop()


async def test_events_come_in_order_as_subscribers_see_them(serve: Serve) -> None:
    async with WebhookReceiver() as receiver:
        chat = await serve(orders=webhook(receiver.url))
        place = await chat.publish("room:a", {"text": "hi ü"}, sender="alice")
        await chat.publish("other:a", {"text": "no"})
        await until(lambda: receiver.events)
        await chat.edit("room:a", 1, {"text": "ho"}, sender="alice")
        await chat.delete("room:a", 1, sender="alice")
        await until(lambda: len(receiver.events) == 3)
        request = receiver.requests[0]
        payload = Verifying(SECRET).verify(request.body, request.headers)
        assert payload["type"] == "events"
        assert payload["timestamp"] == iso_time(place.at)
        assert payload["data"]["events"][0] == {
            "type": "message",
            "topic": "room:a",
            "seq": 1,
            "at": place.at,
            "from": {"user": "alice"},
            "data": {"text": "hi ü"},
            "epoch": place.epoch,
        }
        assert [event["type"] for event in receiver.events] == ["message", "edited", "deleted"]
        taken = {("orders", "taken"): len(receiver.requests)}
        await until(lambda: chat.node.numbers.webhooks == taken)


async def test_what_is_deleted_before_it_is_sent_is_not_sent(serve: Serve) -> None:
    async with WebhookReceiver(answering(500)) as receiver:
        chat = await serve(orders=webhook(receiver.url))
        await chat.publish("room:a", 1)
        await until(lambda: receiver.requests)
        await chat.publish("room:a", "secret")
        await chat.delete("room:a", 2)
        receiver.requests.clear()
        receiver.answer = answering(204)
        await until(lambda: receiver.events and receiver.events[-1]["type"] == "deleted")
        assert b"secret" not in b"".join(request.body for request in receiver.requests)


async def test_only_chosen_topics_and_kinds_are_sent(serve: Serve) -> None:
    async with WebhookReceiver() as receiver:
        chat = await serve(orders=webhook(receiver.url, topics=("room:*:x",), events=("edited",)))
        for topic in ("room:1:x", "room:1:y", "room:1"):
            await chat.publish(topic, 1)
            await chat.edit(topic, 1, 2)
        await until(lambda: receiver.events)
        assert [(event["type"], event["topic"]) for event in receiver.events] == [
            ("edited", "room:1:x")
        ]


async def test_a_message_has_events_of_several_topics_but_not_too_many(serve: Serve) -> None:
    gate = asyncio.Event()

    async def wait(request: Received, writer: asyncio.StreamWriter) -> None:
        await gate.wait()
        await answering(204)(request, writer)

    async with WebhookReceiver(wait) as receiver:
        chat = await serve(orders=webhook(receiver.url, max_requests=1, batch_size=25))
        await publish(chat, TOPICS[:1], 1)
        await until(lambda: receiver.requests)
        await publish(chat, TOPICS[:1], 9, 2)
        await publish(chat, TOPICS[1:], 10)
        gate.set()
        await until(has_all(receiver, TOPICS, 10))
        sizes = [len(request.events) for request in receiver.requests]
        assert sizes == [1, 25, 25, 25, 24]
        several = {event["topic"] for event in receiver.requests[1].events}
        assert len(several) >= 3


async def test_what_was_there_before_the_webhook_is_not_sent(
    serve: Serve, clock: ManualClock
) -> None:
    chat = await serve()
    await publish(chat, TOPICS[:2], 3)
    # Another server has the same broker, and a webhook.
    clock.advance(1)
    async with WebhookReceiver() as receiver:
        broker = chat.node.broker
        settings = chat.settings
        other = ChatServer(
            replace(settings, webhooks={"orders": webhook(receiver.url)}),
            broker=broker,
            clock=clock,
        )
        await other.start()
        try:
            await publish(other, TOPICS[:1], 2, 4)
            await until(lambda: receiver.events)
            assert seqs(receiver.events)[TOPICS[0]][0] == 4
            assert TOPICS[1] not in seqs(receiver.events)
        finally:
            await other.stop()


# Failures -------------------------------------------------------------------------------------


async def test_an_endpoint_that_was_down_gets_everything_in_order_once_it_is_back(
    serve: Serve, database_settings: DatabaseSettings
) -> None:
    port = free_port()
    receiver = WebhookReceiver(port=port)
    chat = await serve(orders=webhook(f"http://127.0.0.1:{port}/hook", batch_size=7))
    async with receiver:
        await publish(chat, TOPICS, 5)
        await until(has_all(receiver, TOPICS, 5))
    await publish(chat, TOPICS, 30, 6)

    async def fails() -> bool:
        return (await state(database_settings)).failing_since is not None

    await until_async(fails)
    found = await state(database_settings)
    assert "connection attempts failed" in found.reason
    async with receiver:
        await until(has_all(receiver, TOPICS, 35))

        async def is_well() -> bool:
            return (await state(database_settings)).failing_since is None

        await until_async(is_well)


async def test_a_failed_message_comes_again_with_the_same_id_signed_anew(
    serve: Serve, clock: ManualClock
) -> None:
    async with WebhookReceiver(answering(500)) as receiver:
        chat = await serve(orders=webhook(receiver.url))
        await publish(chat, TOPICS[:1], 1)
        await until(lambda: len(receiver.requests) == 1)
        clock.advance(7)
        await until(lambda: len(receiver.requests) >= 3)
        receiver.answer = answering(200)
        count = len(receiver.requests)
        await until(lambda: len(receiver.requests) > count)
        first, last = receiver.requests[0], receiver.requests[-1]
        assert first.headers["webhook-id"] == last.headers["webhook-id"]
        assert first.body == last.body
        times = [int(each.headers["webhook-timestamp"]) for each in (first, last)]
        assert times[1] - times[0] == 7
        assert first.headers["webhook-signature"] != last.headers["webhook-signature"]


async def test_a_slow_endpoint_harms_no_other(serve: Serve) -> None:
    async def never(request: Received, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(3600)

    async with WebhookReceiver(never) as slow, WebhookReceiver() as receiver:
        chat = await serve(slow=webhook(slow.url), orders=webhook(receiver.url))
        await publish(chat, TOPICS, 20)
        await until(has_all(receiver, TOPICS, 20))
        assert slow.requests
        assert len(slow.requests) <= 4


async def test_a_message_that_is_not_taken_holds_up_its_lane_alone(serve: Serve) -> None:
    async def refuse(request: Received, writer: asyncio.StreamWriter) -> None:
        bad = any(event["data"] == "poison" for event in request.events)
        await answering(500 if bad else 204)(request, writer)
        if not bad:
            taken.extend(request.events)

    taken: list[dict[str, Any]] = []
    async with WebhookReceiver(refuse) as receiver:
        chat = await serve(orders=webhook(receiver.url, max_requests=4, batch_size=1))
        await chat.publish(TOPICS[0], "poison")
        await until(lambda: len(receiver.requests) >= 2)
        await publish(chat, TOPICS[1:], 5)
        await until(lambda: len(seqs(taken)) >= 5)
        assert TOPICS[0] not in seqs(taken)


# Parking --------------------------------------------------------------------------------------


async def test_gone_parks_at_once_and_a_replay_sends_what_was_missed(
    serve: Serve, database_settings: DatabaseSettings, database: Database
) -> None:
    async with WebhookReceiver(answering(410)) as receiver:
        chat = await serve(orders=webhook(receiver.url, max_requests=1))
        await publish(chat, TOPICS, 1)

        async def is_parked() -> bool:
            return (await state(database_settings)).parked_at is not None

        await until_async(is_parked)
        assert (await state(database_settings)).reason == "the answer is HTTP 410"
        assert chat.node.numbers.webhooks == {("orders", "failed"): 1, ("orders", "parked"): 1}
        await publish(chat, TOPICS, 2, 2)
        assert len(receiver.requests) == 1
        receiver.requests.clear()
        receiver.answer = answering(204)
        assert await WebhookStore(database).replay("orders")
        await until(has_all(receiver, TOPICS, 3))
        assert (await state(database_settings)).parked_at is None


async def test_a_day_of_failures_parks(
    serve: Serve, database_settings: DatabaseSettings, database: Database, clock: ManualClock
) -> None:
    async with WebhookReceiver(answering(503)) as receiver:
        chat = await serve(orders=webhook(receiver.url))
        await publish(chat, TOPICS[:1], 1)
        await until(lambda: len(receiver.requests) >= 2)
        clock.advance(86_399)
        count = len(receiver.requests)
        await until(lambda: len(receiver.requests) >= count + 2)
        assert (await state(database_settings)).parked_at is None
        clock.advance(2)

        async def is_parked() -> bool:
            return (await state(database_settings)).parked_at is not None

        await until_async(is_parked)
        count = len(receiver.requests)
        assert await WebhookStore(database).replay("orders")
        await until(lambda: len(receiver.requests) >= count + 3)
        assert not await is_parked(), "the day has begun again"


async def test_a_day_of_failures_is_counted_over_restarts(
    serve: Serve, database_settings: DatabaseSettings, clock: ManualClock
) -> None:
    async with WebhookReceiver(answering(503)) as receiver:
        chat = await serve(orders=webhook(receiver.url))
        await publish(chat, TOPICS[:1], 1)
        await until(lambda: len(receiver.requests) >= 2)
        chat = await serve(stop=chat, orders=webhook(receiver.url))
        clock.advance(86_401)
        await publish(chat, TOPICS[:1], 1)

        async def is_parked() -> bool:
            return (await state(database_settings)).parked_at is not None

        await until_async(is_parked)


async def test_an_operator_sends_a_topic_again(serve: Serve, database: Database) -> None:
    async with WebhookReceiver() as receiver:
        chat = await serve(orders=webhook(receiver.url))
        await publish(chat, TOPICS[:2], 5)
        await until(has_all(receiver, TOPICS[:2], 5))
        store = WebhookStore(database)

        async def is_written() -> bool:
            return len(await store.cursors("orders", TOPICS[:2])) == 2

        await until_async(is_written)
        receiver.requests.clear()
        assert not await store.rewind("orders", "room:unknown", 0, 0)
        assert await store.rewind("orders", TOPICS[0], 2, 0)
        await until(lambda: seqs(receiver.events) == {TOPICS[0]: [3, 4, 5]})


async def test_a_reset_leaves_out_what_is_not_taken(
    serve: Serve, database: Database, clock: ManualClock
) -> None:
    async with WebhookReceiver(answering(500)) as receiver:
        chat = await serve(orders=webhook(receiver.url))
        await publish(chat, TOPICS[:3], 5)
        await until(lambda: len(receiver.requests) >= 3)
        clock.advance(1)
        now = int(clock.time() * 1_000)
        assert await WebhookStore(database).forget("orders", now)
        receiver.answer = answering(204)
        clock.advance(1)
        await publish(chat, TOPICS[:3], 1, 6)

        def has_new() -> bool:
            last = seqs(receiver.events)
            return all(last.get(topic, [0])[-1] == 6 for topic in TOPICS[:3])

        await until(has_new)
        after = receiver.requests[-1].events
        assert {event["seq"] for event in after} == {6}


# What the log has lost ------------------------------------------------------------------------


async def test_what_the_log_loses_during_an_outage_is_told_as_a_gap(
    serve: Serve, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chat_server.events.HELD_MESSAGES", 0)
    async with WebhookReceiver() as receiver:
        orders = webhook(receiver.url)
        chat = await serve(room=Namespace(history_size=5), orders=orders)
        await publish(chat, TOPICS[:1], 1)
        await until(has_all(receiver, TOPICS[:1], 1))
        receiver.answer = answering(500)
        await publish(chat, TOPICS[:1], 1, 2)
        await until(lambda: len(receiver.requests) >= 3)
        await publish(chat, TOPICS[:1], 30, 3)
        receiver.requests.clear()
        receiver.answer = answering(204)
        await until(lambda: receiver.events and receiver.events[-1]["seq"] == 32)
        events = [event for event in receiver.events if event.get("seq") != 2]
        gap = events[0]
        assert (gap["type"], gap["topic"], gap["reason"]) == ("gap", TOPICS[0], "expired")
        assert (gap["after"], gap["before"]) == (2, 13), "4 times 5 messages are held back"
        assert [event["seq"] for event in events[1:]] == [*range(13, 33)]
    assert "webhook orders: the log had lost events 3 to 12 of room:0" in caplog.text


async def is_archived(chat: ChatServer, topic: str, seq: int) -> bool:
    assert chat.archive is not None
    found = await chat.archive.reader.events(topic, after=0, limit=100, max_bytes=2**20)
    return found is not None and found.seq == seq


async def test_what_the_log_loses_comes_out_of_the_archive(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chat_server.events.HELD_MESSAGES", 0)
    async with WebhookReceiver() as receiver:
        orders = webhook(receiver.url)
        chat = await serve(room=Namespace(history_size=5, archive=True), orders=orders)
        await publish(chat, TOPICS[:1], 1)
        await until(has_all(receiver, TOPICS[:1], 1))
        receiver.answer = answering(500)
        for last in range(11, 52, 10):
            await publish(chat, TOPICS[:1], 10, last - 9)
            await until_async(partial(is_archived, chat, TOPICS[0], last))
        stored = await chat.node.broker.history(TOPICS[0], limit=100)
        assert stored.events[0].seq > 3, "the log has lost something"
        receiver.requests.clear()
        receiver.answer = answering(204)
        await until(lambda: receiver.events and receiver.events[-1]["seq"] == 51)
        assert {event["type"] for event in receiver.events} == {"message"}
        assert sorted({event["seq"] for event in receiver.events}) == [*range(2, 52)]


async def test_a_new_order_of_a_topic_is_told_as_a_gap(serve: Serve) -> None:
    async with WebhookReceiver() as receiver:
        orders = webhook(receiver.url)
        chat = await serve(orders=orders)
        await publish(chat, TOPICS[:1], 3)
        await until(has_all(receiver, TOPICS[:1], 3))
        # The store in memory begins anew with each server.
        chat = await serve(stop=chat, orders=orders)
        receiver.requests.clear()
        place = await chat.publish(TOPICS[0], 1)
        await until(lambda: len(receiver.events) == 2)
        assert receiver.events[0] == {
            "type": "gap",
            "topic": TOPICS[0],
            "after": 0,
            "before": 1,
            "reason": "epoch_changed",
            "epoch": place.epoch,
        }
        assert (receiver.events[1]["seq"], receiver.events[1]["epoch"]) == (1, place.epoch)


async def test_what_is_published_last_is_sent_before_the_server_ends(serve: Serve) -> None:
    async with WebhookReceiver() as receiver:
        chat = await serve(orders=webhook(receiver.url))
        await publish(chat, TOPICS, 1)
        await until(has_all(receiver, TOPICS, 1))
        await publish(chat, TOPICS, 2, 2)
        await serve(stop=chat)
        assert has_all(receiver, TOPICS, 3)()
