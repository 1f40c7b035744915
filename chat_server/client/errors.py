"""What can go wrong for a client.

    ClientError
    ├── ConnectFailed     the server could not be reached, or is no chat server
    ├── TokenRejected     the server does not accept the token
    ├── NotConnected      there is no connection now; nothing was sent
    ├── ConnectionLost    the connection broke before the answer came; the outcome is unknown
    ├── Disconnected      the server ended the connection and does not want it back
    ├── ClientClosed      the client was used after it was closed
    ├── BadServer         the server sent what is not `chat.v1`
    └── CommandFailed     the server refused a command, or could not carry it out

Errors of `websockets` and of the operating system are mapped to these where they enter.
"""

from .ending import Ending


class ClientError(Exception):
    """The root of everything that this package raises."""


class ConnectFailed(ClientError):
    """The server could not be reached, or is no chat server.

    Args:
        ending: why, and when to try again.
    """

    def __init__(self, ending: Ending) -> None:
        super().__init__(f"cannot connect: {ending}")
        self.ending = ending


class TokenRejected(ClientError):
    """The server does not accept the token; only another one helps."""


class NotConnected(ClientError):
    """There is no connection now, and nothing was sent."""


class ConnectionLost(ClientError):
    """The connection broke before the answer came, so nobody knows whether the command was done.

    A `publish` with a `key` can be repeated without harm.
    """


class Disconnected(ClientError):
    """The server ended the connection and does not want it back.

    Args:
        ending: the close code and its reason.
    """

    def __init__(self, ending: Ending) -> None:
        super().__init__(f"disconnected by the server: {ending}")
        self.ending = ending


class ClientClosed(ClientError):
    """The client was used after it was closed."""


class BadServer(ClientError):
    """The server sent what is not `chat.v1`."""


class CommandFailed(ClientError):
    """The server refused a command, or could not carry it out.

    Args:
        code: one of the protocol's errors, such as `forbidden`; see docs/protocol.md, section 5.
        message: the server's sentence about it.
        retry_in_ms: milliseconds after which another try makes sense, if it does.
    """

    def __init__(self, code: str, message: str, retry_in_ms: int | None = None) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.retry_in_ms = retry_in_ms

    @property
    def transient(self) -> bool:
        """Whether the same command may succeed later."""
        return self.code in ("rate_limited", "unavailable")
