"""This worker's connections by session, user and address, with their limits."""

import asyncio
from collections.abc import Collection, Iterator
from contextlib import suppress
from typing import Protocol, runtime_checkable

from ..events import Event
from ..protocol.close_codes import CloseCode
from ..protocol.errors import RateLimited


class Client(Protocol):
    """A connection as the worker sees it: it has an id and can be closed."""

    @property
    def id(self) -> str:
        """The session id of the `welcome` message."""
        ...

    def close(self, code: CloseCode, reason: str, reconnect_in_ms: int) -> None:
        """Send a goodbye and close, after the answers to all received commands."""
        ...

    def abort(self) -> None:
        """Drop the connection at once."""
        ...


@runtime_checkable
class PushClient(Client, Protocol):
    """A connection that takes pushes of topics."""

    @property
    def topics(self) -> Collection[str]:
        """The topics of the connection's subscriptions, with pending ones."""
        ...

    def push(self, event: Event) -> None:
        """Send an event of a topic, if the connection is subscribed to the topic and reads."""
        ...


class Registry:
    """The worker's connections, authenticated or not.

    Args:
        per_user: maximum number of connections of one user on this worker.
        per_address: maximum number of connections of one address on this worker.
    """

    def __init__(self, per_user: int, per_address: int) -> None:
        self._clients: dict[str, Client] = {}
        self._users = _Index(per_user, "user")
        self._addresses = _Index(per_address, "address")
        self._emptied = asyncio.Event()

    def __len__(self) -> int:
        """Return the number of connections."""
        return len(self._clients)

    def __iter__(self) -> Iterator[Client]:
        """Iterate over the connections, the oldest first."""
        return iter(self._clients.values())

    def __contains__(self, client: Client) -> bool:
        """Return whether a connection is registered."""
        return client.id in self._clients

    def add(self, client: Client) -> None:
        """Add a connection; its user and address are counted later."""
        self._clients[client.id] = client

    def add_address(self, client: Client, address: str) -> None:
        """Count a connection for its address.

        Raises:
            RateLimited: the address has as many connections as allowed; nothing was counted.
        """
        self._addresses.add(address, client)

    def add_user(self, client: Client, user: str) -> None:
        """Count a connection for its user.

        Raises:
            RateLimited: the user has as many connections as allowed; nothing was counted.
        """
        self._users.add(user, client)

    def remove(self, client: Client, *, user: str = "", address: str = "") -> None:
        """Remove a closed connection.

        Args:
            client: the connection.
            user: the user that `add_user` counted, if any.
            address: the address that `add_address` counted, if any.
        """
        if user:
            self._users.remove(user, client)
        if address:
            self._addresses.remove(address, client)
        self._clients.pop(client.id, None)
        if not self._clients:
            self._emptied.set()

    def session(self, id: str) -> Client | None:
        """Return the connection with this id."""
        return self._clients.get(id)

    @property
    def user_count(self) -> int:
        """The number of users who have connections."""
        return len(self._users)

    def of_user(self, user: str) -> Collection[Client]:
        """Return the connections of a user."""
        return self._users.of(user)

    def of_address(self, address: str) -> Collection[Client]:
        """Return the connections from an address."""
        return self._addresses.of(address)

    async def wait_until_empty(self, seconds: float) -> bool:
        """Wait until no connection is left, or the time is over; return whether none is left."""
        if self._clients:
            self._emptied.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._emptied.wait(), seconds)
        return not self._clients


class _Index:
    """Connections by a name that several connections may share.

    A set would cost 216 bytes, and nearly every user has one connection. So a name has a set only
    from its second connection on.

    Args:
        limit: maximum number of connections of one name.
        whose: the owner, as errors say it.
    """

    def __init__(self, limit: int, whose: str) -> None:
        self._limit = limit
        self._whose = whose
        self._members: dict[str, Client | set[Client]] = {}

    def __len__(self) -> int:
        return len(self._members)

    def of(self, name: str) -> Collection[Client]:
        found = self._members.get(name)
        if found is None:
            return ()
        return found if isinstance(found, set) else (found,)

    def add(self, name: str, client: Client) -> None:
        found = self.of(name)
        if len(found) >= self._limit:
            what = f"too many connections of this {self._whose} (at most {self._limit})"
            raise RateLimited.by(f"connections_of_{self._whose}", what)
        if isinstance(found, set):
            found.add(client)
        else:
            self._members[name] = {*found, client} if found else client

    def remove(self, name: str, client: Client) -> None:
        found = self._members.get(name)
        if isinstance(found, set) and len(found) > 1:
            found.discard(client)
        else:
            self._members.pop(name, None)
