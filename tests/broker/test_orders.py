"""Orders of operators: numbered, told to all workers, kept until they are over."""

import time

import pytest

from chat_server.broker import memory_orders
from chat_server.orders import NODE_SECONDS, PAGE_ORDERS, Entry, Orders, OrderStore, Page
from chat_server.protocol.errors import Unavailable
from chat_server.realtime.ports import Broker

from ..rig.redis_server import RedisServer
from .helpers import Store


def orders_of(broker: Broker) -> OrderStore:
    assert isinstance(broker, Orders)
    return broker.orders


def entry(name: str, value: bytes = b"{}", *, store: Store, seconds: float = 60.0) -> Entry:
    now = store.clock.time() if store.name == "memory" else time.time()
    return Entry(name, int((now + seconds) * 1_000), value)


def told(page: Page) -> list[tuple[str, bytes, int]]:
    return [(each.name, each.value, each.number) for each in page.entries]


async def test_orders_are_numbered_and_the_later_replaces_the_earlier(store: Store) -> None:
    orders = orders_of((await store.start())[0])
    empty = await orders.read(0, "here")
    assert (empty.entries, empty.mark.number, empty.more) == ([], 0, False)
    first = await orders.put([entry("a", b"1", store=store), entry("b", b"2", store=store)])
    second = await orders.put([entry("a", b"3", store=store)])
    assert first is not None
    assert second is not None
    assert first.number < second.number
    assert first.era == second.era
    page = await orders.read(0, "here")
    assert told(page) == [("b", b"2", first.number), ("a", b"3", second.number)]
    assert (page.mark, page.more) == (second, False)
    assert told(await orders.read(first.number, "here")) == [("a", b"3", second.number)]
    assert told(await orders.read(second.number, "here")) == []


async def test_what_is_put_back_replaces_nothing(store: Store) -> None:
    orders = orders_of((await store.start())[0])
    await orders.put([entry("a", b"", store=store)])
    lost = [entry("a", b"old", store=store), entry("b", b"old", store=store)]
    await orders.put(lost, missing=True)
    found = (await orders.read(0, "here")).entries
    assert [(each.name, each.value) for each in found] == [("a", b""), ("b", b"old")]


async def test_many_orders_come_in_pages(store: Store) -> None:
    orders = orders_of((await store.start())[0])
    names = [f"users {number}" for number in range(PAGE_ORDERS + 1)]
    await orders.put([entry(name, store=store) for name in names])
    first = await orders.read(0, "here")
    assert (len(first.entries), first.more) == (PAGE_ORDERS, True)
    assert first.mark.number == first.entries[-1].number
    rest = await orders.read(first.mark.number, "here")
    assert (len(rest.entries), rest.more) == (1, False)


async def test_what_was_over_long_ago_is_forgotten(store: Store) -> None:
    orders = orders_of((await store.start())[0])
    await orders.put([entry("old", store=store, seconds=-4_000), entry("new", store=store)])
    assert [each.name for each in (await orders.read(0, "here")).entries] == ["old", "new"]
    await orders.put([entry("newer", store=store)])
    assert [each.name for each in (await orders.read(0, "here")).entries] == ["new", "newer"]


async def test_workers_share_orders_and_know_of_each_other(shared_store: Store) -> None:
    one = orders_of((await shared_store.start())[0])
    other = orders_of((await shared_store.start())[0])
    await one.put([entry("a", store=shared_store)])
    assert (await one.read(0, "one")).nodes == {"one": 0.0}
    page = await other.read(0, "other")
    assert [each.name for each in page.entries] == ["a"]
    assert sorted(page.nodes) == ["one", "other"]
    await one.leave("one")
    assert list((await other.read(0, "other")).nodes) == ["other"]


async def test_there_is_a_most_of_them(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_orders, "MAX_ORDERS", 2)
    monkeypatch.setattr("chat_server.broker.redis.orders.MAX_ORDERS", 2)
    orders = orders_of((await store.start())[0])
    await orders.put([entry("a", store=store), entry("b", store=store)])
    assert await orders.put([entry("c", store=store)]) is None
    assert (await orders.put([entry("b", b"2", store=store)])) is not None
    assert len((await orders.read(0, "here")).entries) == 2


async def test_a_store_that_is_away_says_so(store: Store) -> None:
    orders = orders_of(store.make())
    with pytest.raises(Unavailable):
        await orders.put([entry("a", store=store)])
    with pytest.raises(Unavailable):
        await orders.read(0, "here")


async def test_a_full_store_takes_orders_and_knows_who_lives(own_redis: RedisServer) -> None:
    """Whoever has filled the store must be kept out, by every worker."""
    store = Store("redis", url=own_redis.url)
    try:
        orders = orders_of((await store.start())[0])
        own_redis.run("CONFIG", "SET", "maxmemory", "1")
        assert await orders.put([entry("users eve", store=store)]) is not None
        page = await orders.read(0, "here")
        assert ([each.name for each in page.entries], [*page.nodes]) == (["users eve"], ["here"])
    finally:
        own_redis.run("CONFIG", "SET", "maxmemory", "0")
        await store.stop()


async def test_no_number_is_given_twice_though_the_newest_orders_are_lost(
    redis_server: RedisServer,
) -> None:
    """As by a failover to a replica that lacks them."""
    store = Store("redis", url=redis_server.url)
    try:
        orders = orders_of((await store.start())[0])
        await orders.put([entry("a", store=store)])
        keys = redis_server.run("KEYS", f"{store._prefix}:{{!operators}}:*")
        kept = [(key, redis_server.run("DUMP", key)) for key in keys]
        lost = await orders.put([entry("b", store=store)])
        for key, value in kept:
            redis_server.run("RESTORE", key, 60_000, value, "REPLACE")
        assert [each.name for each in (await orders.read(0, "here")).entries] == ["a"]
        given = await orders.put([entry("c", store=store)])
        assert lost is not None
        assert given is not None
        assert (given.era, given.number > lost.number) == (lost.era, True)
    finally:
        await store.stop()


async def test_all_keys_expire(redis_server: RedisServer) -> None:
    store = Store("redis", url=redis_server.url)
    try:
        orders = orders_of((await store.start())[0])
        await orders.put([entry("a", store=store, seconds=60)])
        await orders.read(0, "here")
        keys = redis_server.run("KEYS", f"{store._prefix}:{{!operators}}:*")
        assert len(keys) == 5
        for key in keys:
            assert 0 < redis_server.run("PTTL", key) <= 3_660_000, key
    finally:
        await store.stop()


async def test_who_reads_no_more_is_named_for_minutes_and_since_when(shared_store: Store) -> None:
    assert NODE_SECONDS >= 300, "who is frozen or cut off has users all the while"
    one = orders_of((await shared_store.start())[0])
    await one.read(0, "frozen")
    page = await one.read(0, "here")
    assert list(page.nodes) == ["frozen", "here"]
    began, first = time.monotonic(), page.nodes["frozen"]
    while page.nodes["frozen"] <= first:
        page = await one.read(0, "here")
    assert page.nodes["frozen"] - first <= time.monotonic() - began + 0.002
    assert page.nodes["here"] == 0.0
    await one.leave("frozen")
    page = await one.read(0, "here")
    assert page.nodes == {"here": 0.0}
