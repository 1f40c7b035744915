"""The orders of operators, and their names in the store."""

from typing import Any

import msgspec
from msgspec import Raw, Struct

from ..auth.denials import Denial, List
from ..orders import Entry


class Order(Struct, frozen=True, kw_only=True, tag_field="kind", omit_defaults=True):
    """An order.

    Args:
        by: the operator.
        reason: the reason, shown to the users concerned.
        until: milliseconds since 1970 at which the order ends.
    """

    by: str
    reason: str
    until: int


class Deny(Order, frozen=True, kw_only=True, tag="deny"):
    """Put a target on a list of denials; `at` is in seconds since 1970, see `denials.Denial`."""

    list: List
    target: str
    at: int = 0

    @property
    def denial(self) -> Denial:
        """The denial of the target in the list."""
        return Denial(self.until, self.at, self.by, self.reason)


class Disconnect(Order, frozen=True, kw_only=True, tag="disconnect"):
    """Close the connections of one user, session or address."""

    user: str | None = None
    session: str | None = None
    address: str | None = None


class Unsubscribe(Order, frozen=True, kw_only=True, tag="unsubscribe"):
    """End the subscriptions of one user, or of all users, to a topic."""

    topic: str
    user: str | None = None


class Announce(Order, frozen=True, kw_only=True, tag="announce"):
    """Send `data` to every connection; `at` is in milliseconds since 1970."""

    data: Raw
    at: int


class Reread(Order, frozen=True, kw_only=True, tag="reread"):
    """Read a purged topic again, and tell the subscribers."""

    topic: str


AnyOrder = Deny | Disconnect | Unsubscribe | Announce | Reread

_decode = msgspec.json.Decoder(AnyOrder).decode


def entry_of(order: AnyOrder, number: str) -> Entry:
    """Return the entry of an order in the store.

    Args:
        order: the order.
        number: the name of an order that no later order replaces.
    """
    name = denial_name(order.list, order.target) if isinstance(order, Deny) else f"once {number}"
    return Entry(name, order.until, msgspec.json.encode(order))


def withdrawal(list: List, target: str, now: int) -> Entry:
    """Return the entry that removes a target from a list; `now` is in milliseconds since 1970."""
    return Entry(denial_name(list, target), now, b"")


def denial_name(list: List, target: str) -> str:
    """Return the name of a denial in the store."""
    return f"{list} {target}"


def read_order(entry: Entry) -> AnyOrder | None:
    """Return the order in an entry; None if withdrawn, or written by a later version."""
    try:
        return _decode(entry.value) if entry.value else None
    except msgspec.MsgspecError:
        return None


def withdrawn(entry: Entry) -> tuple[Any, str] | None:
    """Return list and target of a withdrawn denial, or None."""
    list, _, target = entry.name.partition(" ")
    return (list, target) if not entry.value and list != "once" else None
