"""The router against shards that answer what the test says, when it says so."""

import asyncio
from asyncio import Future
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from chat_server.broker.common import busy, fail, unavailable
from chat_server.broker.redis import slots as module
from chat_server.broker.redis.broker import RedisBroker
from chat_server.broker.redis.refusals import Moved
from chat_server.broker.redis.slots import SlotRouter
from chat_server.broker.redis.urls import Address
from chat_server.protocol.errors import Unavailable

from .helpers import until

SLOT = 7


class Shard:
    """Stands for a `RedisBroker`: keeps what it is asked until the test answers, in order."""

    def __init__(self) -> None:
        self.available = True
        self.asked: list[tuple[str, Future[Any]]] = []

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.asked]

    def ask(self, name: str) -> "Future[Any]":
        future: Future[Any] = asyncio.get_running_loop().create_future()
        self.asked.append((name, future))
        return future

    def flushed(self) -> "Future[Any]":
        return self.ask("settled")

    def answer(self, error: Unavailable | None = None) -> None:
        name, future = self.asked.pop(0)
        if error is None:
            future.set_result(name)
        else:
            fail(future, error)


class Bench:
    """A router and its map, in which one shard serves all slots."""

    def __init__(self, *, limit: int = 100, seconds: float = 5.0) -> None:
        self.one, self.two = Shard(), Shard()
        self.serving: Shard | None = self.one
        self.hints: list[Address | None] = []
        self.router = SlotRouter(self, limit=limit, seconds=seconds)

    def owner(self, slot: int) -> RedisBroker | None:
        return cast("RedisBroker | None", self.serving)

    def invalidate(self, hint: Address | None) -> None:
        self.hints.append(hint)

    async def refreshed(self) -> None:
        await asyncio.sleep(0.001)

    def submit(self, name: str, *, ordered: bool = True, slot: int = SLOT) -> "Future[Any]":
        def call(shard: RedisBroker) -> "Future[Any]":
            return cast(Shard, shard).ask(name)

        return self.router.submit(slot, call, ordered=ordered)


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    made = Bench()
    yield made
    await made.router.stop()


async def turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_what_comes_back_goes_before_what_comes_later(bench: Bench) -> None:
    first = [bench.submit(name) for name in "abc"]
    bench.one.answer()
    bench.one.answer(Moved(Address("there", 1)))
    await turns()
    later = [bench.submit(name) for name in "de"]
    bench.serving = bench.two
    bench.one.answer(Moved(None))
    await turns()
    assert bench.one.names == ["settled"], "it may have been sent more"
    bench.one.answer()
    await until(lambda: bench.two.names == ["b"])
    bench.two.answer()
    await until(lambda: bench.two.names == ["c", "d", "e"])
    for _ in range(3):
        bench.two.answer()
    assert await asyncio.gather(*first, *later) == list("abcde")
    assert bench.hints[0] == Address("there", 1)


async def test_a_slot_that_stays_unsettled_is_tried_with_one_call(bench: Bench) -> None:
    futures = [bench.submit(name) for name in "abc"]
    for _ in range(3):
        bench.one.answer(Moved(None))
    await until(lambda: bench.one.names == ["settled"])
    bench.one.answer()
    for _ in range(5):
        await until(lambda: bench.one.names == ["a"])
        bench.one.answer(Moved(None))
    await until(lambda: bench.one.names == ["a"])
    bench.one.answer()
    await until(lambda: bench.one.names == ["b", "c"])
    bench.one.answer()
    bench.one.answer()
    assert await asyncio.gather(*futures) == list("abc")


async def test_what_was_overtaken_is_not_run_late(bench: Bench) -> None:
    overtaken, signal, later = (
        bench.submit("a"),
        bench.submit("s", ordered=False),
        bench.submit("b"),
    )
    bench.one.answer(Moved(None))
    bench.one.answer(Moved(None))
    bench.one.answer()
    assert await later == "b"
    with pytest.raises(Unavailable):
        await overtaken
    await until(lambda: bench.one.names == ["settled"])
    bench.one.answer()
    await until(lambda: bench.one.names == ["s"])
    bench.one.answer()
    assert await signal == "s"


async def test_a_new_map_lets_nothing_overtake_what_is_under_way(bench: Bench) -> None:
    first = bench.submit("a")
    bench.serving = bench.two
    second, other = bench.submit("b"), bench.submit("x", slot=8)
    await turns()
    assert (bench.one.names, bench.two.names) == (["a", "settled"], ["x"])
    bench.one.answer(Moved(None))
    await turns()
    bench.one.answer()
    await until(lambda: bench.two.names == ["x", "a"])
    bench.two.answer()
    bench.two.answer()
    await until(lambda: bench.two.names == ["b"])
    bench.two.answer()
    assert [await future for future in (first, second, other)] == ["a", "b", "x"]


async def test_a_shard_that_counts_as_away_may_yet_answer(bench: Bench) -> None:
    """Its readers have failed, and the map is new; what was published to it is under way."""
    first = bench.submit("a")
    bench.one.available = False
    bench.serving = bench.two
    second = bench.submit("b")
    await until(lambda: bench.one.names == ["a", "settled"])
    assert bench.two.names == []
    bench.one.answer(Moved(None))
    bench.one.answer()
    for name in "ab":
        await until(lambda name=name: bench.two.names == [name])  # type: ignore[misc]
        bench.two.answer()
    assert [await first, await second] == ["a", "b"]


async def test_a_shard_with_too_much_to_do_is_asked_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BUSY_SECONDS", 0.001)
    first = bench.submit("a")
    bench.one.available = False
    bench.serving = bench.two
    second = bench.submit("b")
    await until(lambda: bench.one.names == ["a", "settled"])
    _, settled = bench.one.asked.pop()
    fail(settled, busy())
    await until(lambda: bench.one.names == ["a", "settled"])
    assert bench.two.names == []
    bench.one.answer()
    bench.one.answer()
    await until(lambda: bench.two.names == ["b"])
    bench.two.answer()
    assert [await first, await second] == ["a", "b"]


async def test_a_read_that_comes_back_late_takes_nobodys_place(bench: Bench) -> None:
    """Readers have connections of their own, which nobody waits for."""
    read, first = bench.submit("r", ordered=False), bench.submit("a")
    bench.serving = bench.two
    second = bench.submit("b")
    late = bench.one.asked.pop(0)
    for _ in range(2):
        bench.one.answer()
        await turns()
    await until(lambda: bench.two.names == ["b"])
    fail(late[1], Moved(None))
    await turns()
    bench.two.answer()
    await until(lambda: bench.two.names == ["r"])
    bench.two.answer()
    assert [await read, await first, await second] == ["r", "a", "b"]


async def test_a_shard_that_goes_away_ends_the_waiting(bench: Bench) -> None:
    first, second = bench.submit("a"), bench.submit("b")
    bench.one.answer(Moved(None))
    bench.one.answer(unavailable())
    await turns()
    bench.one.available = False
    bench.one.answer(unavailable())
    with pytest.raises(Unavailable):
        await second
    bench.serving = bench.two
    await until(lambda: bench.two.names == ["a"])
    bench.two.answer()
    assert await first == "a"


async def test_waiting_is_bounded_in_number_and_time() -> None:
    bench = Bench(limit=2, seconds=0.05)
    futures = [bench.submit("a")]
    bench.one.answer(Moved(None))
    await turns()
    futures += [bench.submit(name) for name in "bcd"]
    assert futures[-1].done(), "too many wait"
    bench.serving = None
    bench.one.answer()
    for future in futures:
        with pytest.raises(Unavailable):
            await future
    bench.serving = bench.two
    await until(lambda: not bench.router._queues)
    last = bench.submit("e")
    bench.two.answer()
    assert await last == "e"
    await bench.router.stop()


async def test_stopping_fails_what_waits(bench: Bench) -> None:
    first = bench.submit("a")
    bench.one.answer(Moved(None))
    await turns()
    second = bench.submit("b")
    await bench.router.stop()
    for future in (first, second, bench.submit("c")):
        with pytest.raises(Unavailable):
            await future


async def test_who_gives_up_holds_up_nobody(bench: Bench) -> None:
    first, second = bench.submit("a"), bench.submit("b")
    bench.one.answer(Moved(None))
    bench.one.answer(Moved(None))
    await turns()
    first.cancel()
    bench.one.answer()
    await until(lambda: bench.one.names == ["b"])
    bench.one.answer()
    assert await second == "b"
