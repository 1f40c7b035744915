"""What operators have ordered, as a store keeps it for all workers (docs/design/operators.md).

The store numbers each order and keeps it until it is over, so that a worker that was away can read
what it has missed. What an order says is nothing to the store.
"""

from asyncio import Future
from collections.abc import Sequence
from typing import Final, Protocol, runtime_checkable

from msgspec import Struct

MAX_ORDERS: Final = 200_000
"""Orders that a store keeps; further ones are refused until some are over."""

PAGE_ORDERS: Final = 500
"""Orders on one page: some 100 KB, which hold up Redis for about a millisecond."""

OVER_SECONDS: Final = 3_600.0
"""How long a store still tells of an order that is over or withdrawn, to workers that were away."""

NODE_SECONDS: Final = 600.0
"""How long a worker that says nothing is named among those who have not obeyed: it may be stopped
or cut off, and have users all the while."""

SILENT_SECONDS: Final = 5.0
"""Seconds after which a worker that says nothing may have ended without a word. One that is well
looks twice a second."""


class Entry(Struct, frozen=True):
    """An order in the store.

    Args:
        name: of two entries with one name the later replaces the earlier.
        until: milliseconds since 1970 at which the order is over.
        value: what is ordered; empty once it is withdrawn.
        number: its place in the order of all; 0 as long as it is not stored.
    """

    name: str
    until: int
    value: bytes
    number: int = 0


class Mark(Struct, frozen=True):
    """How far somebody has read: the number of an entry, and the era that counts it."""

    era: str = ""
    number: int = 0


class Page(Struct, frozen=True):
    """Entries in the order of their numbers.

    Args:
        mark: the last one on the page; that of the store if there are none.
        entries: the entries.
        more: whether others follow.
        nodes: the workers that have read lately, and the seconds since each did.
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
            entries: what to store.
            missing: leave out those whose name is known, whatever it stands for by now.
        """
        ...

    def read(self, after: int, node: str) -> "Future[Page]":
        """Read what follows a number, and note that a worker lives.

        Args:
            after: the number; 0 reads everything.
            node: the worker's name.
        """
        ...

    def leave(self, node: str) -> "Future[None]":
        """Forget a worker that ends."""
        ...


@runtime_checkable
class Orders(Protocol):
    """The capability of a broker to keep orders."""

    @property
    def orders(self) -> OrderStore:
        """The store of orders, which lives as long as the broker."""
        ...
