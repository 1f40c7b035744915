"""The seam through which a route can take its socket away from the HTTP server."""

import asyncio
from typing import Protocol

STATE_KEY = "chat_server.socket"
"""Where, in the ASGI scope's `state`, a server that can hand over puts a `Socket`."""


class Socket(Protocol):
    """The socket a request came by."""

    @property
    def is_over(self) -> bool:
        """Whether nobody waits for an answer: the client is gone, or was refused without us."""
        ...

    def hand_over(self) -> asyncio.Transport | None:
        """Let go of the socket: the HTTP server writes and reads nothing more.

        Returns:
            Its transport, or None if it cannot be given away (it also carries other requests).
        """
        ...

    def forgo_compression(self) -> None:
        """Let the server answer the current handshake without permessage-deflate."""
        ...

    def limit_end(self) -> None:
        """Give the connection a bounded time to end, if it carries nothing but this request."""
        ...

    def abort(self) -> None:
        """Drop the connection at once, if it carries nothing but this request."""
        ...
