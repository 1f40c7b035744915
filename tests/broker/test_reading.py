"""Which stored events a read returns, of every broker over every store."""

import asyncio
import json

import pytest

from .helpers import TOPIC, Store, draft, text_of


@pytest.mark.parametrize(
    ("after", "before", "limit", "newest", "expected", "more"),
    [
        (0, None, 20, False, range(1, 11), False),
        (0, None, 10, False, range(1, 11), False),
        (0, None, 9, False, range(1, 10), True),
        (0, None, 9, True, range(2, 11), True),
        (0, None, 10, True, range(1, 11), False),
        (0, None, 0, False, (), False),
        (0, None, 0, True, (), False),
        (4, None, 3, False, (5, 6, 7), True),
        (7, None, 3, False, (8, 9, 10), False),
        (4, None, 3, True, (8, 9, 10), True),
        (10, None, 3, False, (), False),
        (99, None, 3, False, (), False),
        (0, 5, 3, False, (1, 2, 3), True),
        (0, 5, 3, True, (2, 3, 4), True),
        (0, 5, 4, True, (1, 2, 3, 4), False),
        (2, 6, 10, False, (3, 4, 5), False),
        (2, 6, 2, False, (3, 4), True),
        (2, 6, 2, True, (4, 5), True),
        (5, 6, 10, False, (), False),
        (6, 3, 10, False, (), False),
        (0, 1, 10, True, (), False),
        (0, 0, 10, True, (), False),
        (0, 2**53 - 1, 2, True, (9, 10), True),
        (2**53 - 1, None, 2, False, (), False),
    ],
)
async def test_reading(
    store: Store,
    after: int,
    before: int | None,
    limit: int,
    newest: bool,
    expected: range | tuple[int, ...],
    more: bool,
) -> None:
    broker, _ = await store.start()
    places = await asyncio.gather(*(broker.publish(draft(str(n))) for n in range(1, 11)))
    page = await broker.history(TOPIC, after=after, before=before, limit=limit, newest=newest)
    assert [event.seq for event in page.events] == list(expected)
    assert (page.epoch, page.seq, page.more) == (places[0].epoch, 10, more)
    assert [text_of(event) for event in page.events] == [str(seq) for seq in expected]
    assert [json.loads(event.payload)["seq"] for event in page.events] == list(expected)


@pytest.mark.parametrize("newest", [False, True])
async def test_reading_ends_at_a_number_of_bytes(store: Store, newest: bool) -> None:
    broker, _ = await store.start()
    await asyncio.gather(*(broker.publish(draft("x" * 7 * n)) for n in range(40)))
    everything = (await broker.history(TOPIC, limit=300)).events[:: -1 if newest else 1]
    for count in (1, 2, 15, 16, 17, 33, 39, 40):
        size = sum(len(event.payload) for event in everything[:count])
        for max_bytes, fitting in ((size - 1, max(count - 1, 1)), (size, count)):
            page = await broker.history(TOPIC, limit=300, newest=newest, max_bytes=max_bytes)
            assert page.events[:: -1 if newest else 1] == everything[:fitting]
            assert (page.seq, page.more) == (40, fitting < 40)
    page = await broker.history(TOPIC, limit=3, newest=newest, max_bytes=0)
    assert (page.events, page.more) == (everything[:1], True), "the first is always there"
    assert not (await broker.history(TOPIC, limit=0, max_bytes=0)).more
