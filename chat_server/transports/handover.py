"""The interface for a route to take its socket away from the HTTP server."""

import asyncio
from typing import Protocol

STATE_KEY = "chat_server.socket"
"""The key of a server's `Socket` in the ASGI scope's `state`."""


class Socket(Protocol):
    """The socket of a request."""

    @property
    def is_over(self) -> bool:
        """Whether an answer is useless: the client is gone, or the server has refused it."""
        ...

    def hand_over(self) -> asyncio.Transport | None:
        """Release the socket: the HTTP server stops reading and writing.

        Returns:
            The transport of the socket, or None if the socket also carries other requests.
        """
        ...

    def forgo_compression(self) -> None:
        """Make the server answer the current handshake without permessage-deflate."""
        ...

    def limit_end(self) -> None:
        """Bound the time in which the connection must end, if it carries only this request."""
        ...

    def abort(self) -> None:
        """Drop the connection at once, if it carries only this request."""
        ...
