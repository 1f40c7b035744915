"""Orders of operators in Redis: five keys in one slot, and two scripts."""

import secrets
from asyncio import Future
from collections.abc import Callable, Sequence
from typing import Any, Final

from ...orders import (
    MAX_ORDERS,
    NODE_SECONDS,
    OVER_SECONDS,
    PAGE_ORDERS,
    Entry,
    Mark,
    Page,
)
from ..common import failed, unavailable
from .pipeline import Argument, Pipeline, Script, pack
from .storage import Keyspace

PUT: Final = Script("orders_put")
READ: Final = Script("orders_read")

HOME: Final = "!operators"
"""The hash tag of all keys, which no topic can have."""


class RedisOrders:
    """Keeps `orders.OrderStore` over one Redis server.

    Args:
        names: names of keys.
        reader: returns a pipeline other than that of publications.
        available: returns whether Redis is believed to be reachable.
    """

    is_shared = True

    def __init__(
        self, names: Keyspace, reader: Callable[[], Pipeline], available: Callable[[], bool]
    ) -> None:
        self._reader = reader
        self._available = available
        base = f"{names.prefix}:{{{HOME}}}"
        self._keys = tuple(f"{base}:{name}" for name in ("orders", "numbers", "ends", "mark"))
        self._nodes = f"{base}:nodes"

    def put(self, entries: Sequence[Entry], *, missing: bool = False) -> "Future[Mark | None]":
        """Store entries, in one script."""
        if not self._available():
            return failed(unavailable())
        arguments: list[Argument] = [
            secrets.token_hex(6),
            MAX_ORDERS,
            int(OVER_SECONDS * 1_000),
            int(missing),
        ]
        for entry in entries:
            arguments += [entry.name, entry.until, entry.value]
        return self._reader().call(PUT, self._keys, arguments, _marked)

    def read(self, after: int, node: str) -> "Future[Page]":
        """Read the entries after a number, in one script."""
        if not self._available():
            return failed(unavailable())
        arguments = (after, PAGE_ORDERS, node, int(NODE_SECONDS * 1_000))
        return self._reader().call(READ, (*self._keys, self._nodes), arguments, _page)

    def leave(self, node: str) -> "Future[None]":
        """Forget a worker."""
        if not self._available():
            return failed(unavailable())
        return self._reader().send(pack("ZREM", self._nodes, node), lambda _: None)


def _marked(reply: Any) -> Mark | None:
    if reply is None:
        return None
    number, era = reply
    return Mark(era.decode(), number)


def _page(reply: Any) -> Page:
    mark, nodes, found = reply
    number, _, era = (mark or b"0 ").partition(b" ")
    entries = [
        _entry(name, place, text)
        for name, place, text in zip(found[::3], found[1::3], found[2::3], strict=True)
        if text is not None
    ]
    more = len(found) == 3 * PAGE_ORDERS
    last = found[-2] if more else int(number)
    heard = {
        name.decode(): milliseconds / 1_000
        for name, milliseconds in zip(nodes[::2], nodes[1::2], strict=True)
    }
    return Page(Mark(era.decode(), last), entries, more, heard)


def _entry(name: bytes, number: int, text: bytes) -> Entry:
    until, _, value = text.partition(b" ")
    return Entry(name.decode(), int(until), value, number)
