"""The endpoint `/ws/echo`: returns every message, over the same transports as `/ws`."""

import secrets

from ..protocol.close_codes import CloseCode
from ..realtime.node import Node
from .asgi import AsgiTransport
from .direct import DirectTransport


class Echo:
    """One connection; see `realtime.ports.Receiver` and `realtime.registry.Client`.

    The transport does not read from a client whose buffer is full, so there is no limit here.
    """

    def __init__(self, node: Node, transport: DirectTransport | AsgiTransport) -> None:
        self.id = secrets.token_hex(8)
        self._node = node
        self._transport = transport

    def start(self) -> None:
        """Register, so that the node closes the connection at its stop."""
        self._node.registry.add(self)

    is_subscribed = False

    def on_message(self, payload: bytes, *, binary: bool) -> None:
        """See `ports.Receiver`."""
        self._transport.write_message(payload, binary=binary)

    def on_sign_of_life(self) -> None:
        """See `ports.Receiver`."""

    def on_full(self) -> None:
        """See `ports.Receiver`."""

    def on_drained(self) -> None:
        """See `ports.Receiver`."""

    def on_remote_close(self) -> None:
        """See `ports.Receiver`."""
        self._transport.close(int(CloseCode.NORMAL), "")

    def on_closed(self) -> None:
        """See `ports.Receiver`."""
        self._node.registry.remove(self)

    def close(self, code: CloseCode, reason: str, reconnect_in_ms: int) -> None:
        """See `registry.Client`."""
        self._transport.close(int(code), reason)

    def abort(self) -> None:
        """See `registry.Client`."""
        self._transport.abort()
