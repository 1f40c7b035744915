"""What a lane notes of what it has sent, when it is ended in the middle."""

import asyncio
import ssl
from collections import Counter
from collections.abc import AsyncIterator

import pytest

from chat_server.clock import SystemClock
from chat_server.consumers.ports import Batch, Cursor, Outdated
from chat_server.database.database import Database
from chat_server.events import Event, Kind
from chat_server.webhooks.endpoint import Endpoint
from chat_server.webhooks.lane import Lane
from chat_server.webhooks.sending import Sender
from chat_server.webhooks.store import WebhookStore

from ..rig.waiting import until
from ..rig.webhook_receiver import Received, WebhookReceiver, answering
from .conftest import webhook

TOPIC = "room:a"
LATER = 4_000_000_000_000
"""A time behind the endpoint's beginning, in milliseconds since 1970."""


@pytest.fixture
def store(database: Database) -> WebhookStore:
    return WebhookStore(database)


@pytest.fixture
async def receiver() -> AsyncIterator[WebhookReceiver]:
    async with WebhookReceiver() as started:
        yield started


@pytest.fixture
async def lane(receiver: WebhookReceiver, store: WebhookStore) -> AsyncIterator[Lane]:
    settings = webhook(receiver.url, batch_size=1)
    sender = Sender(settings, ssl.create_default_context())
    counts: Counter[tuple[str, str]] = Counter()
    clock = SystemClock()
    endpoint = Endpoint("orders", settings, store, sender, clock, keep_seconds=1.0, counts=counts)
    yield Lane(endpoint, 0, 1, lambda topic: True)
    await endpoint.close()


def batch(first: int, last: int) -> Batch:
    def event(seq: int) -> Event:
        payload = b'{"type":"message","seq":%d,"at":%d}' % (seq, LATER)
        return Event(TOPIC, "e", seq, Kind.MESSAGE, payload)

    before = Cursor("e", first - 1, LATER) if first > 1 else None
    events = [event(seq) for seq in range(first, last + 1)]
    return Batch(TOPIC, before, Cursor("e", last, LATER), events, [])


async def test_what_was_taken_is_noted_when_the_process_ends_in_order(
    lane: Lane, receiver: WebhookReceiver, store: WebhookStore
) -> None:
    async def answer_two(request: Received, writer: asyncio.StreamWriter) -> None:
        if len(receiver.requests) > 2:
            await asyncio.sleep(3_600)
        await answering(204)(request, writer)

    receiver.answer = answer_two
    taking = asyncio.create_task(lane.take([batch(1, 5)]))
    await until(lambda: len(receiver.requests) == 3)
    taking.cancel()
    await asyncio.wait([taking])
    assert taking.cancelled()
    assert await store.cursors("orders", [TOPIC]) == {TOPIC: Cursor("e", 2, LATER)}


async def test_a_batch_from_elsewhere_is_refused_before_anything_is_sent(
    lane: Lane, receiver: WebhookReceiver
) -> None:
    await lane.take([batch(1, 2)])
    assert len(receiver.requests) == 2
    for stale in (batch(1, 2), batch(2, 3), batch(4, 5)):
        with pytest.raises(Outdated):
            await lane.take([stale])
    assert len(receiver.requests) == 2
    await lane.take([batch(3, 3)])
    assert len(receiver.requests) == 3
