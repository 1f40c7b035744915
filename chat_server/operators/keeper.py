"""Follows the orders in the store: reads new orders, has them carried out, and counts."""

import asyncio
import logging
import math
from asyncio import Task
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

from ..auth.denials import Denial, List
from ..logs import LogThrottle
from ..orders import OVER_SECONDS, PAGE_ORDERS, SILENT_SECONDS, Entry, Mark, OrderStore, Page
from ..protocol.errors import Unavailable
from ..realtime.node import Node
from .commands import AnyOrder, Deny, denial_name, entry_of, read_order, withdrawn
from .hands import Hands
from .neighbours import has_ended

logger = logging.getLogger(__name__)

POLL_SECONDS: Final = 0.5
"""Seconds between two reads of the store, and so until a lost notification is made good."""

STALE_SECONDS: Final = 3.0
"""Seconds without a read of the store after which checks of tokens wait for the next read: the
worker was stopped, or its loop was blocked."""

LEAVE_SECONDS: Final = 1.0
"""Seconds that an ending worker tries to remove its name from the store."""

TRUST_SECONDS: Final = OVER_SECONDS / 2
"""Seconds after its last read in which a worker may restore denials that the store has lost. Later
a missing denial may be a withdrawn one."""

_OF_TOKENS: Final = ("tokens", "issued", "keys")

FORGET_SECONDS: Final = 60.0
"""Seconds between two removals of expired denials, most of which are never looked up again."""

_COUNTED: Final = 1_000
"""Maximum number of orders whose count of connections is remembered."""


class Keeper:
    """Keeps this worker's denials equal to the store's.

    Args:
        store: has the orders.
        node: has the denials.
        hands: carries orders out.

    Attributes:
        nodes: the workers that have read the store lately, and the seconds since each read.
        mark: the position up to which the store has been read.
        lag_seconds: seconds by which the last read was late.
    """

    def __init__(self, store: OrderStore, node: Node, hands: Hands) -> None:
        self._store = store
        self._node = node
        self._hands = hands
        self._denials = node.denials
        self._clock = node.clock
        self.nodes: dict[str, float] = {node.name: 0.0}
        self.mark = Mark()
        self.lag_seconds = 0.0
        # Whether the lists may differ from the store's in entries that were already read.
        self._doubtful = True
        self._looked_at = -math.inf
        self._counts: OrderedDict[int, int] = OrderedDict()
        # Reads begun and ended, and an event that each end sets and replaces.
        self._begun = self._ended = 0
        self._end = asyncio.Event()
        self._wake = asyncio.Event()
        self._task: Task[None] | None = None
        self._throttle = LogThrottle()
        self.on_looked: Callable[[], None] = lambda: None

    async def start(self) -> None:
        """Read the orders, and follow them from now on; the task retries an unavailable store."""
        self._denials.renew = self.renew
        self._denials.known = False
        self._task = asyncio.get_running_loop().create_task(self._run(), name="orders")
        await self.renew()

    async def stop(self) -> None:
        """Stop following, and remove this worker's name from the store."""
        task, self._task = self._task, None
        self._denials.renew = _nothing
        if task is None:
            return
        task.cancel()
        await asyncio.wait([task])
        try:
            async with asyncio.timeout(LEAVE_SECONDS):
                await self._store.leave(self._node.name)
        except (Unavailable, TimeoutError):
            pass  # The store forgets a silent worker after a while.

    def doubt(self) -> None:
        """Compare all lists with the store soon, which may have lost orders or been replaced."""
        self._doubtful = True
        self._wake.set()

    async def renew(self) -> None:
        """Wait until a read that begins from now on has ended, at most the timeout of Redis."""
        if self._task is None:
            return
        wanted = self._begun + 1
        self._wake.set()
        try:
            async with asyncio.timeout(self._node.settings.redis.timeout_seconds):
                while self._ended < wanted:
                    await self._end.wait()
        except TimeoutError:
            pass  # While the store does not answer, operators cannot give orders either.

    def count(self, number: int) -> int:
        """Return how many connections an order concerned."""
        return self._counts.get(number, 0)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        forget_at = self._clock.monotonic() + FORGET_SECONDS
        while True:
            self._wake.clear()
            self._begun += 1
            await self._look()
            if self._clock.monotonic() >= forget_at:
                forget_at += FORGET_SECONDS
                self._denials.forget()
            self._ended = self._begun
            end, self._end = self._end, asyncio.Event()
            end.set()
            due = loop.time() + POLL_SECONDS
            try:
                async with asyncio.timeout_at(due):
                    await self._wake.wait()
            except TimeoutError:
                self.lag_seconds = max(loop.time() - due, 0.0)

    async def _look(self) -> None:
        """Read and carry out new orders."""
        began_at = self._clock.monotonic()
        try:
            await self._read()
            self._looked_at = began_at
            self._denials.known = True
        except Unavailable:
            # Operators cannot give orders either. Known denials go on to hold.
            self._doubtful = True
            began_at = self._clock.monotonic()
        except Exception:
            if self._throttle.due("orders"):
                logger.exception("the orders of operators cannot be followed")
        if self._store.is_shared:
            self._denials.fresh_until = began_at + STALE_SECONDS
        self.on_looked()

    async def _read(self) -> None:
        known, whole = self.mark, self._doubtful or not self.mark.era
        page = await self._store.read(0 if whole else known.number, self._node.name)
        if not whole and (page.mark.era != known.era or page.mark.number < known.number):
            whole = True
            page = await self._store.read(0, self._node.name)
        self._doubtful = False
        for name, seconds in page.nodes.items():
            if seconds >= SILENT_SECONDS and has_ended(name, self._node.name):
                await self._store.leave(name)
        # Up to this number, orders that are carried out once have been.
        done = known.number if page.mark.era == known.era else 0
        names: set[str] = set()
        try:
            while True:
                self.nodes = page.nodes
                await self._take(page, done)
                if whole:
                    names.update(entry.name for entry in page.entries)
                self.mark = page.mark
                if not page.more:
                    break
                page = await self._store.read(page.mark.number, self._node.name)
            if whole:
                await self._settle(names)
        except BaseException:
            self._doubtful = whole
            raise

    async def _take(self, page: Page, done: int) -> None:
        """Carry out a page of orders: first all lists, so that no closed connection comes back."""
        fresh: list[tuple[int, AnyOrder]] = []
        now = self._clock.time() * 1_000
        for entry in page.entries:
            order = read_order(entry)
            if (gone := withdrawn(entry)) is not None:
                self._put(*gone, None)
            elif isinstance(order, Deny):
                if self._denials.find(order.list, order.target) != order.denial:
                    self._put(order.list, order.target, order.denial)
                    fresh.append((entry.number, order))
            elif order is not None and entry.number > done and entry.until > now:
                fresh.append((entry.number, order))
        sifted = False
        for number, order in fresh:
            if not (isinstance(order, Deny) and order.list in _OF_TOKENS):
                self._note(number, await self._hands.carry_out(order))
            elif not sifted:
                # One pass over all connections is enough for all lists of tokens.
                sifted = True
                self._note(number, await self._hands.sift())

    def _put(self, name: List, target: str, denial: Denial | None) -> None:
        with suppress(KeyError):  # A list of a later version.
            self._denials.put(name, target, denial)

    def _note(self, number: int, count: int) -> None:
        self._counts[number] = count
        while len(self._counts) > _COUNTED:
            self._counts.popitem(last=False)

    async def _settle(self, names: set[str]) -> None:
        """Restore denials that the store has lost, or drop denials withdrawn long ago.

        Args:
            names: of all entries in the store.
        """
        self._denials.forget()
        lost = [each for each in self._denials if denial_name(each[0], each[1]) not in names]
        if self._clock.monotonic() - self._looked_at > TRUST_SECONDS:
            for name, target, _ in lost:
                self._denials.put(name, target, None)
            return
        for begin in range(0, len(lost), PAGE_ORDERS):
            await self._store.put(_entries(lost[begin : begin + PAGE_ORDERS]), missing=True)
        if lost:
            logger.warning("the store had lost %d orders of operators; they hold again", len(lost))


def _entries(denials: Sequence[tuple[List, str, Denial]]) -> list[Entry]:
    return [
        entry_of(
            Deny(
                list=name,
                target=target,
                until=denial.until,
                at=denial.at,
                by=denial.by,
                reason=denial.reason,
            ),
            "",
        )
        for name, target, denial in denials
    ]


async def _nothing() -> None:
    pass
