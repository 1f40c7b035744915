"""Orders of operators, for the memory broker."""

import asyncio
from asyncio import Future
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from msgspec.structs import replace

from ..clock import Clock
from ..orders import MAX_ORDERS, OVER_SECONDS, PAGE_ORDERS, Entry, Mark, Page
from .common import failed, unavailable

T = TypeVar("T")

_ERA: Final = "memory"


class MemoryOrders:
    """Keeps `orders.OrderStore` for one process.

    Args:
        clock: tells whether an order is over.
        is_running: returns whether the broker runs.
    """

    is_shared = False

    def __init__(self, clock: Clock, is_running: Callable[[], bool]) -> None:
        self._clock = clock
        self._is_running = is_running
        # In the order of their numbers.
        self._entries: dict[str, Entry] = {}
        self._number = 0

    def put(self, entries: Sequence[Entry], *, missing: bool = False) -> "Future[Mark | None]":
        """Store entries."""
        if not self._is_running():
            return failed(unavailable())
        self._forget()
        if missing:
            entries = [entry for entry in entries if entry.name not in self._entries]
        fresh = {entry.name for entry in entries} - self._entries.keys()
        if len(self._entries) + len(fresh) > MAX_ORDERS:
            return _done(None)
        for entry in entries:
            self._number += 1
            self._entries.pop(entry.name, None)
            self._entries[entry.name] = replace(entry, number=self._number)
        return _done(Mark(_ERA, self._number))

    def read(self, after: int, node: str) -> "Future[Page]":
        """Read the entries after a number."""
        if not self._is_running():
            return failed(unavailable())
        found: list[Entry] = []
        if after < self._number:
            found = [entry for entry in self._entries.values() if entry.number > after]
        page, rest = found[:PAGE_ORDERS], found[PAGE_ORDERS:]
        mark = Mark(_ERA, page[-1].number if rest else self._number)
        return _done(Page(mark, page, bool(rest), {node: 0.0}))

    def leave(self, node: str) -> "Future[None]":
        """Do nothing: there are no other workers."""
        return _done(None)

    def _forget(self) -> None:
        before = self._clock.time() * 1_000 - OVER_SECONDS * 1_000
        for name in [name for name, entry in self._entries.items() if entry.until < before]:
            del self._entries[name]


def _done(result: T) -> "Future[T]":
    future: Future[T] = asyncio.get_running_loop().create_future()
    future.set_result(result)
    return future
