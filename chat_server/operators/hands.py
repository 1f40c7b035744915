"""Carries orders out on the connections of this worker."""

from collections.abc import Callable, Iterable, Sequence

import msgspec

from ..events import Event, Kind
from ..protocol.close_codes import CloseCode
from ..protocol.errors import ChatError, Forbidden, Unauthorized
from ..realtime.node import Node
from ..realtime.ports import Encoder
from ..sessions.connection import Connection
from ..turns import in_turns
from .commands import Announce, AnyOrder, Deny, Disconnect, Reread, Unsubscribe

AT_ONCE = 50
"""Connections in one turn of the loop: to close one takes some 150 µs."""

ANNOUNCEMENTS = "system:announcements"
"""The topic of announcements, sent to every connection, subscribed or not."""


class Hands:
    """Closes connections, ends subscriptions and speaks to everybody.

    Every method returns the number of connections concerned.

    Args:
        node: the worker's node, with the connections.
    """

    def __init__(self, node: Node) -> None:
        self._node = node

    async def carry_out(self, order: AnyOrder) -> int:
        """Carry out an order other than a denial of tokens, for which `sift` exists."""
        match order:
            case Deny(list="users"):
                blocked = f"blocked: {order.reason}"
                return await self._each(self._of(order.target), _expelling(blocked))
            case Deny(list="topics"):
                closed = f"the topic is closed: {order.reason}"
                return await self._each(self._all(), _dropping(order.target, closed))
            case Disconnect():
                found = self._of(order.user, order.session, order.address)
                return await self._each(found, _expelling(f"disconnected: {order.reason}"))
            case Unsubscribe():
                ended = f"an operator has ended this subscription: {order.reason}"
                found = self._all() if order.user is None else self._of(order.user)
                return await self._each(found, _dropping(order.topic, ended))
            case Announce():
                return await self._each(self._all(), _telling(order))
            case Reread():
                return self._node.hub.doubt(order.topic)
        return 0

    async def sift(self) -> int:
        """Close every connection with a denied token."""
        return await self._each(self._all(), self._sift)

    def _sift(self, client: Connection) -> bool:
        if client.claims is None:
            return False
        try:
            self._node.denials.check(client.claims)
        except ChatError as error:
            revoked = isinstance(error, Unauthorized)
            code = CloseCode.UNAUTHORIZED if revoked else CloseCode.BLOCKED
            client.expel(code, error.message)
            return True
        return False

    def _all(self) -> Sequence[Connection]:
        return [each for each in self._node.registry if isinstance(each, Connection)]

    def _of(
        self, user: str | None = None, session: str | None = None, address: str | None = None
    ) -> Sequence[Connection]:
        registry = self._node.registry
        found: Iterable[object] = ()
        if user is not None:
            found = registry.of_user(user)
        elif session is not None:
            found = [registry.session(session)]
        elif address is not None:
            found = registry.of_address(address)
        return [each for each in found if isinstance(each, Connection)]

    async def _each(self, clients: Sequence[Connection], do: Callable[[Connection], bool]) -> int:
        return sum([sum(map(do, some)) async for some in in_turns(clients, AT_ONCE)])


def _expelling(reason: str) -> Callable[[Connection], bool]:
    return lambda client: client.expel(CloseCode.BLOCKED, reason)


def _dropping(topic: str, reason: str) -> Callable[[Connection], bool]:
    return lambda client: client.drop(topic, Forbidden(reason))


def _telling(order: Announce) -> Callable[[Connection], bool]:
    topic = msgspec.json.encode(ANNOUNCEMENTS)
    payload = b'{"type":"signal","topic":%b,"from":null,"data":%b,"at":%d}' % (
        topic,
        bytes(order.data),
        order.at,
    )
    event = Event(ANNOUNCEMENTS, "", 0, Kind.SIGNAL, payload)
    packets: dict[Encoder, bytes | None] = {}

    def tell(client: Connection) -> bool:
        encoder = client.transport.encoder
        if encoder not in packets:
            packets[encoder] = encoder.encode(event)
        packet = packets[encoder]
        return packet is not None and client.tell(packet)

    return tell
