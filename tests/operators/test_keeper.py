"""A worker follows the orders in the store: what it may believe, and when."""

from asyncio import Future
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from msgspec import Raw

from chat_server.auth.claims import Claims, TopicGrants
from chat_server.broker.memory_orders import MemoryOrders
from chat_server.operators import keeper
from chat_server.operators.commands import Announce, Deny, entry_of, withdrawal
from chat_server.operators.hands import Hands
from chat_server.operators.keeper import FORGET_SECONDS, TRUST_SECONDS, Keeper
from chat_server.orders import OVER_SECONDS, Entry, Page
from chat_server.protocol.errors import Blocked, Unavailable
from chat_server.realtime.node import Node

from ..realtime.world import World

BOB = Claims("bob", TopicGrants())
YEAR = 366 * 86_400


class SharedOrders(MemoryOrders):
    """A store for several workers, which may be away."""

    is_shared = True

    def __init__(self, node: Node) -> None:
        self.here = True
        super().__init__(node.clock, lambda: self.here)
        self._node = node

    def block(self, user: str, seconds: float = YEAR) -> Entry:
        """Return a block, stored."""
        until = int((self._node.clock.time() + seconds) * 1_000)
        entry = entry_of(Deny(by="op", reason="spam", until=until, list="users", target=user), "")
        self.put([entry])
        return entry


class Worker:
    """A worker, and the store that it follows."""

    def __init__(self) -> None:
        self.world = World()
        self.node = self.world.node
        self.orders = SharedOrders(self.node)
        self.keeper = Keeper(self.orders, self.node, Hands(self.node))

    def is_known(self, user: str) -> bool:
        return self.node.denials.find("users", user) is not None


@asynccontextmanager
async def running(worker: Worker) -> AsyncIterator[Worker]:
    await worker.world.start()
    await worker.keeper.start()
    try:
        yield worker
    finally:
        await worker.keeper.stop()
        await worker.world.stop()


async def test_nobody_is_let_in_before_it_is_known_who_is_kept_out() -> None:
    worker = Worker()
    worker.orders.block("bob")
    worker.orders.here = False
    async with running(worker):
        denials = worker.node.denials
        assert worker.node.denials.is_stale
        with pytest.raises(Unavailable, match="who is kept out is not known yet"):
            denials.check(BOB)
        worker.orders.here = True
        await denials.renew()
        assert not denials.is_stale
        with pytest.raises(Blocked):
            denials.check(BOB)
        # What is known once goes on to hold.
        worker.orders.here = False
        await denials.renew()
        denials.check(Claims("ada", TopicGrants()))


async def test_what_is_over_is_dropped_though_nobody_asks_for_it() -> None:
    worker = Worker()
    worker.orders.block("bob", seconds=10)
    async with running(worker):
        assert len(worker.node.denials) == 1
        worker.world.clock.advance(FORGET_SECONDS)
        await worker.keeper.renew()
        assert len(worker.node.denials) == 0


@pytest.mark.parametrize("away", [TRUST_SECONDS / 2, OVER_SECONDS * 24 * 40])
async def test_a_worker_that_was_away_for_long_puts_nothing_back(away: float) -> None:
    worker = Worker()
    async with running(worker):
        worker.orders.block("bob")
        await worker.keeper.renew()
        assert worker.is_known("bob")
        worker.orders.here = False
        await worker.keeper.renew()
        worker.world.clock.advance(away)
        # Another store by now: it lost the block, or the block was withdrawn and that is forgotten.
        worker.orders._entries.clear()
        worker.orders.here = True
        await worker.keeper.renew()
        put_back = away < TRUST_SECONDS
        assert worker.is_known("bob") is put_back
        page = await worker.orders.read(0, "here")
        assert [each.name for each in page.entries] == (["users bob"] if put_back else [])


async def test_a_worker_that_was_away_learns_what_was_withdrawn() -> None:
    worker = Worker()
    async with running(worker):
        entry = worker.orders.block("bob")
        await worker.keeper.renew()
        worker.orders.here = False
        await worker.keeper.renew()
        worker.orders.here = True
        now = int(worker.world.clock.time() * 1_000)
        await worker.orders.put([withdrawal("users", "bob", now)])
        await worker.keeper.renew()
        assert not worker.is_known("bob")
        # Nor does anybody else put it back.
        await worker.orders.put([entry], missing=True)
        worker.keeper.doubt()
        await worker.keeper.renew()
        assert not worker.is_known("bob")


@pytest.mark.parametrize(("away", "times"), [(200, 1), (301, 0)])
async def test_what_is_announced_comes_once_and_in_time_or_not_at_all(
    away: float, times: int
) -> None:
    worker = Worker()
    async with running(worker):
        client = worker.world.connect(BOB)
        until = int((worker.world.clock.time() + 300) * 1_000)
        order = Announce(by="op", reason="tea", until=until, data=Raw(b'"tea"'), at=1)
        worker.world.clock.advance(away)
        await worker.orders.put([entry_of(order, "1")])
        for _ in range(3):
            worker.keeper.doubt()
            await worker.keeper.renew()
        assert sum(b"system:announcements" in each for each in client.written) == times


async def test_a_killed_neighbour_is_forgotten_and_a_frozen_one_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    worker = Worker()
    left: list[str] = []
    read, leave = worker.orders.read, worker.orders.leave

    def reading(after: int, node: str) -> "Future[Page]":
        page = read(after, node)
        page.result().nodes.update({"killed": 6.0, "frozen": 600.0, "slow": 1.0})
        return page

    def leaving(node: str) -> "Future[None]":
        left.append(node)
        return leave(node)

    monkeypatch.setattr(worker.orders, "read", reading)
    monkeypatch.setattr(worker.orders, "leave", leaving)
    monkeypatch.setattr(keeper, "has_ended", lambda name, own: name in ("killed", "slow"))
    async with running(worker):
        assert set(left) == {"killed"}
