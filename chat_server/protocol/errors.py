"""The one table of errors (docs/protocol.md, section 5).

    ChatError
    ├── BadRequest          400
    │   └── Malformed       400  the message is not a map at all; counts as a strike
    ├── Unauthorized        401
    ├── Forbidden           403
    ├── NotFound            404
    ├── MethodNotAllowed    405
    ├── UpgradeRequired     426
    ├── NotSubscribed       409
    ├── AlreadySubscribed   409
    ├── TooLarge            413
    ├── TooManyTopics       429
    ├── RateLimited         429
    ├── Unavailable         503
    │   └── Refused         503  the broker is there but does not store this; for clients the same
    └── Internal            500

Every failure a client is told about is one of these; errors of third-party libraries are mapped to
them where they enter.
"""

from typing import ClassVar

ANOTHER_USER = "token: is for another user than this connection's"
"""What `auth` is refused with for such a token; our client knows it by that, and ends."""


class ChatError(Exception):
    """A failure the client is told about.

    Args:
        message: one sentence for the client's developer that names the field and the rule.
        id: the `id` of the command, where it is known.
        topic: the topic concerned, if any.
        retry_in_ms: milliseconds after which another try makes sense, if it does.
    """

    code: ClassVar[str] = "internal"
    status: ClassVar[int] = 500
    title: ClassVar[str] = "Internal error"

    def __init__(
        self,
        message: str,
        *,
        id: int | None = None,
        topic: str | None = None,
        retry_in_ms: int | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.id = id
        self.topic = topic
        self.retry_in_ms = retry_in_ms


class BadRequest(ChatError):
    """The command breaks a rule of the protocol."""

    code = "bad_request"
    status = 400
    title = "Bad request"


class Malformed(BadRequest):
    """The bytes are not a map in the connection's encoding, so they are no command at all."""


class Unauthorized(ChatError):
    """No token, or one that is not accepted."""

    code = "unauthorized"
    status = 401
    title = "Unauthorized"


class Forbidden(ChatError):
    """The token does not grant this."""

    code = "forbidden"
    status = 403
    title = "Forbidden"


class NotFound(ChatError):
    """There is no such thing."""

    code = "not_found"
    status = 404
    title = "Not found"


class MethodNotAllowed(ChatError):
    """The address does not take this method; the header `Allow` names those that it takes."""

    code = "method_not_allowed"
    status = 405
    title = "Method not allowed"


class UpgradeRequired(ChatError):
    """The address is a WebSocket's, and the request is not one's handshake."""

    code = "upgrade_required"
    status = 426
    title = "Upgrade required"


class NotSubscribed(ChatError):
    """The connection is not subscribed to the topic."""

    code = "not_subscribed"
    status = 409
    title = "Not subscribed"


class AlreadySubscribed(ChatError):
    """The connection is subscribed to the topic already."""

    code = "already_subscribed"
    status = 409
    title = "Already subscribed"


class TooLarge(ChatError):
    """The message is larger than the server takes."""

    code = "too_large"
    status = 413
    title = "Too large"


class TooManyTopics(ChatError):
    """The connection has as many subscriptions as it may."""

    code = "too_many_topics"
    status = 429
    title = "Too many topics"


class RateLimited(ChatError):
    """Too many commands in too short a time; `retry_in_ms` says when to go on."""

    code = "rate_limited"
    status = 429
    title = "Rate limited"


class Unavailable(ChatError):
    """The broker cannot be reached; nothing is known to have happened, so retry with a `key`."""

    code = "unavailable"
    status = 503
    title = "Unavailable"


class Refused(Unavailable):
    """The broker is there and has answered that it does not do this."""


class Internal(ChatError):
    """A fault of the server's own, logged there."""


ERRORS: tuple[type[ChatError], ...] = (
    BadRequest,
    Unauthorized,
    Forbidden,
    NotFound,
    MethodNotAllowed,
    UpgradeRequired,
    NotSubscribed,
    AlreadySubscribed,
    TooLarge,
    TooManyTopics,
    RateLimited,
    Unavailable,
    Internal,
)
