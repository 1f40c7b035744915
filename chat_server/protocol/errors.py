"""The one table of errors (docs/protocol.md, section 5).

    ChatError
    ├── BadRequest          400
    │   └── Malformed       400  the message is not a map at all; counts as a strike
    ├── Unauthorized        401
    ├── Forbidden           403
    │   └── Blocked         403  an operator keeps the user out; closes with 4403
    ├── NotFound            404
    ├── MethodNotAllowed    405
    ├── UpgradeRequired     426
    ├── Gone                410
    ├── NotSubscribed       409
    ├── AlreadySubscribed   409
    ├── Unrecoverable       409
    ├── TooLarge            413
    ├── Invalid             422
    ├── TooManyTopics       429
    ├── RateLimited         429
    ├── Unavailable         503
    │   └── Rejected        503  the broker answers with an error; for clients the same
    └── Internal            500

Every failure that is reported to a client is one of these. Errors of third-party libraries are
mapped at the call of the library.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar

from ..rates import Exceeded

ANOTHER_USER = "token: is for another user than this connection's"
"""The message of `auth`'s error if the new token belongs to another user.

The Python client recognises the error by this message, and ends.
"""


class ChatError(Exception):
    """A failure that is reported to the client.

    Args:
        message: one sentence for the client's developer that names the field and the rule.
        id: the `id` of the command, if known.
        topic: the topic concerned, if any.
        retry_in_ms: milliseconds after which to try again; None if a retry makes no sense.

    Attributes:
        log_fields: further fields for the log, hidden from the client.
        user: the denied user; empty unless the user is certain.
    """

    user: str = ""
    log_fields: Mapping[str, str] = MappingProxyType({})
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
    """The bytes are not a map in the connection's encoding, and so no command."""


class Unauthorized(ChatError):
    """The token is missing or not accepted."""

    code = "unauthorized"
    status = 401
    title = "Unauthorized"


class Forbidden(ChatError):
    """The token does not have the grant."""

    code = "forbidden"
    status = 403
    title = "Forbidden"


class Blocked(Forbidden):
    """An operator keeps the user out, whatever the token grants."""


class NotFound(ChatError):
    """The requested thing does not exist."""

    code = "not_found"
    status = 404
    title = "Not found"


class MethodNotAllowed(ChatError):
    """The address does not support this method; the header `Allow` names the others."""

    code = "method_not_allowed"
    status = 405
    title = "Method not allowed"


class UpgradeRequired(ChatError):
    """The address is for WebSockets, and the request is no handshake."""

    code = "upgrade_required"
    status = 426
    title = "Upgrade required"


class Gone(ChatError):
    """The message is deleted, or is not streaming any more."""

    code = "gone"
    status = 410
    title = "Gone"


class Unrecoverable(ChatError):
    """The events that a strict subscriber has missed cannot be replayed.

    Args:
        message: see `ChatError`.
        topic: the topic.
        reason: why the events cannot be replayed.
        epoch: the topic's epoch.
        seq: the topic's last seq.
    """

    code = "unrecoverable"
    status = 409
    title = "Unrecoverable"

    def __init__(self, message: str, *, topic: str, reason: str, epoch: str, seq: int) -> None:
        super().__init__(message, topic=topic)
        self.reason = reason
        self.epoch = epoch
        self.seq = seq


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
    """The message exceeds the server's limit."""

    code = "too_large"
    status = 413
    title = "Too large"


class Invalid(ChatError):
    """Fields of a request break rules.

    Args:
        fields: the fault of each field, by name.
    """

    code = "invalid"
    status = 422
    title = "Invalid"

    def __init__(self, fields: Mapping[str, str]) -> None:
        super().__init__("; ".join(f"{name}: {reason}" for name, reason in fields.items()))
        self.fields = dict(fields)


class TooManyTopics(ChatError):
    """The connection has as many subscriptions as `limits.max_topics` allows."""

    code = "too_many_topics"
    status = 429
    title = "Too many topics"


class RateLimited(ChatError):
    """Too many commands in too short a time; the next one is accepted in `retry_in_ms`.

    Attributes:
        limit: the limit's name for operators; `application` for a refusal by a hook.
        counted: True once the refusal is in the numbers; several places may answer one refusal.
    """

    code = "rate_limited"
    status = 429
    title = "Rate limited"
    limit: str = "application"
    counted: bool = False

    @classmethod
    def by(cls, limit: str, message: str, *, retry_in_ms: int | None = None) -> "RateLimited":
        """Return the refusal by a limit of the server; docs/metrics.md has the limits' names."""
        error = cls(message, retry_in_ms=retry_in_ms)
        error.limit = limit
        return error

    @classmethod
    def of_topic(cls, exceeded: Exceeded, topic: str) -> "RateLimited":
        """Return the error for an exceeded rate of a topic."""
        error = cls.by(exceeded.limit, f"topic: {exceeded.what}", retry_in_ms=exceeded.wait_ms)
        error.topic = topic
        return error


class Unavailable(ChatError):
    """The broker cannot be reached; the outcome is unknown, so retry with a `key`."""

    code = "unavailable"
    status = 503
    title = "Unavailable"


class Rejected(Unavailable):
    """The broker is reachable, but has answered with an error; to wait would not help."""


class Internal(ChatError):
    """A fault of the server, described in the server's log."""


ERRORS: tuple[type[ChatError], ...] = (
    BadRequest,
    Unauthorized,
    Forbidden,
    NotFound,
    MethodNotAllowed,
    UpgradeRequired,
    Gone,
    NotSubscribed,
    AlreadySubscribed,
    Unrecoverable,
    TooLarge,
    Invalid,
    TooManyTopics,
    RateLimited,
    Unavailable,
    Internal,
)
