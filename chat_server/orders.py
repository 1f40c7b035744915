"""Orders of operators, as a store keeps them for all workers (docs/design/operators.md).

The store numbers each order and keeps the order until its end, so that a worker can read the orders
that were missed during an outage. The store does not interpret the contents of orders.
"""

from asyncio import Future
from collections.abc import Sequence
from typing import Final, Protocol, runtime_checkable

from msgspec import Struct

MAX_ORDERS: Final = 200_000
"""Maximum number of orders in a store; further orders are refused until some are over."""

PAGE_ORDERS: Final = 500
"""Orders on one page: some 100 KB, which block Redis for about a millisecond."""

OVER_SECONDS: Final = 3_600.0
"""Seconds for which a store still returns an order that is over or withdrawn, after outages."""

NODE_SECONDS: Final = 600.0
"""Seconds for which a silent worker is named as one that has not obeyed: the worker may be stopped
or cut off, and still have users."""

SILENT_SECONDS: Final = 5.0
"""Seconds after which a silent worker may have ended without notice. A healthy worker reads twice a
second."""


class Entry(Struct, frozen=True):
    """An order in the store.

    Args:
        name: the entry's name; of two entries with one name the later replaces the earlier.
        until: milliseconds since 1970 at the order's end.
        value: the content of the order; empty for a withdrawn order.
        number: the entry's place in the order of all entries; 0 before storing.
    """

    name: str
    until: int
    value: bytes
    number: int = 0


class Mark(Struct, frozen=True):
    """The position of a reader: the number of an entry, and the era of the number."""

    era: str = ""
    number: int = 0


class Page(Struct, frozen=True):
    """Entries in the order of their numbers.

    Args:
        mark: the position of the last entry on the page; the store's position for an empty page.
        entries: the entries.
        more: True if further entries follow.
        nodes: seconds since the last read, by name of each worker with recent reads.
    """

    mark: Mark
    entries: list[Entry]
    more: bool
    nodes: dict[str, float]


class OrderStore(Protocol):
    """Keeps orders for all workers; every future fails with `protocol.errors.Unavailable`."""

    @property
    def is_shared(self) -> bool:
        """Whether other processes may put orders."""
        ...

    def put(self, entries: Sequence[Entry], *, missing: bool = False) -> "Future[Mark | None]":
        """Store entries, and resolve to the mark of the last one.

        If `MAX_ORDERS` would be exceeded nothing is stored, and the result is None.

        Args:
            entries: the entries to store.
            missing: skip entries whose name is known, even for a withdrawn order.
        """
        ...

    def read(self, after: int, node: str) -> "Future[Page]":
        """Read the entries after a number, and note that a worker is alive.

        Args:
            after: the number; 0 reads all entries.
            node: the worker's name.
        """
        ...

    def leave(self, node: str) -> "Future[None]":
        """Forget a worker that is stopping."""
        ...


@runtime_checkable
class Orders(Protocol):
    """The capability of a broker to keep orders."""

    @property
    def orders(self) -> OrderStore:
        """The store of orders, which lives as long as the broker."""
        ...
