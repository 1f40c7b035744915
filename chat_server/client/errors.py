"""The errors of the client.

    ClientError ├── ConnectFailed     the server could not be reached, or is not a chat server ├──
    TokenRejected     the server does not accept the token ├── NotConnected      there is no
    connection now; nothing was sent ├── ConnectionLost    the connection broke before the answer;
    the outcome is unknown ├── OutcomeUnknown    a message may have been stored, and can no longer
    be repeated safely ├── TimedOut          a message was not stored in the given time ├──
    Disconnected      the server ended the connection for good ├── ClientClosed      the client was
    used after it was closed ├── BadServer         the server does not speak `chat.v1` └──
    CommandFailed     the server refused a command, or could not carry it out
        └── Unrecoverable what a strict subscription has missed cannot be had any more

The client converts errors of `websockets` and of the operating system to these errors.
"""

from ..events import MAX_SEQ, Position
from ..protocol.messages import Error
from .ending import Ending


class ClientError(Exception):
    """The base class of the client's errors."""


class ConnectFailed(ClientError):
    """The server could not be reached, or is not a chat server.

    Args:
        ending: the reason, and the wait before the next attempt.
    """

    def __init__(self, ending: Ending) -> None:
        super().__init__(f"cannot connect: {ending}")
        self.ending = ending


class TokenRejected(ClientError):
    """The server does not accept the token, now or later."""


class NotConnected(ClientError):
    """There is no connection now, and nothing was sent."""


class ConnectionLost(ClientError):
    """The connection broke before the answer, so the outcome of the command is unknown.

    A `publish` can be repeated safely with the same `key`. Within the server's idempotency window
    the client resends the message. Later the client first searches history for the message.
    """


class OutcomeUnknown(ClientError):
    """A message or change may have been stored, and resending could store another copy.

    The answer was lost, the server may have forgotten the key meanwhile, and history does not tell.
    The application has to decide: resend with another key, or drop the message.
    """


class TimedOut(ClientError):
    """A message was not stored within the `timeout` of `publish_all` or `publish_many`.

    Args:
        seconds: the timeout.
        maybe_stored: True if the message may have been stored nevertheless.
    """

    def __init__(self, seconds: float, *, maybe_stored: bool) -> None:
        outcome = "it may have been stored all the same" if maybe_stored else "nothing was stored"
        super().__init__(f"not stored within {seconds:g} s; {outcome}")
        self.maybe_stored = maybe_stored


class Disconnected(ClientError):
    """The server ended the connection for good.

    Args:
        ending: the close code and its reason.
    """

    def __init__(self, ending: Ending) -> None:
        super().__init__(f"disconnected by the server: {ending}")
        self.ending = ending


class ClientClosed(ClientError):
    """The client was used after it was closed."""


class BadServer(ClientError):
    """The server does not speak `chat.v1`."""


class CommandFailed(ClientError):
    """The server refused a command, or could not carry it out.

    Args:
        code: one of the protocol's errors, such as `forbidden`; see docs/protocol.md, section 5.
        message: the server's explanation, one sentence.
        retry_in_ms: milliseconds after which a retry makes sense; None if no retry does.
        expired: True if the token had expired and can be renewed.
    """

    def __init__(
        self, code: str, message: str, retry_in_ms: int | None = None, *, expired: bool = False
    ) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.retry_in_ms = retry_in_ms
        self.expired = expired

    @property
    def transient(self) -> bool:
        """True if the same command may succeed later."""
        return self.expired or self.code in ("rate_limited", "unavailable")

    @property
    def definite(self) -> bool:
        """True if the command was certainly not executed.

        With `unavailable` the store may have failed between storing a message and confirming it.
        With `internal` the outcome of the server's fault is unknown.
        """
        return self.code not in ("unavailable", "internal")


class Unrecoverable(CommandFailed):
    """A strict subscription has lost events for good, and has ended.

    The application loads its state anew and subscribes from the position of the new state.

    Args:
        message: the server's explanation.
        reason: `expired`, `skipped`, `epoch_changed` or `too_far_behind`.
        position: the present position of the topic.
    """

    def __init__(self, message: str, reason: str, position: Position) -> None:
        super().__init__("unrecoverable", message)
        self.reason = reason
        self.position = position


def failure(error: Error, *, expired: bool = False) -> CommandFailed:
    """Return the exception for an `error` of the server.

    Args:
        error: the server's message.
        expired: True if the token had expired and can be renewed.
    """
    if error.code == "unrecoverable" and error.epoch is not None and error.seq is not None:
        position = Position(error.epoch, min(max(0, error.seq), MAX_SEQ))
        return Unrecoverable(error.message, error.reason or "expired", position)
    return CommandFailed(error.code, error.message, error.retry_in_ms, expired=expired)
