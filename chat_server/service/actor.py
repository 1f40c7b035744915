"""The actor behind an operation, with the actor's permissions."""

from abc import ABC, abstractmethod
from collections.abc import Coroutine
from math import inf
from typing import Any

import msgspec

from ..auth.claims import Claims
from ..auth.permissions import Permissions
from ..protocol.codecs import JSON, Codec
from ..protocol.command_table import Grant
from ..protocol.errors import Forbidden
from ..protocol.messages import AuthOk, User
from ..realtime.ports import Transport
from ..realtime.recovery import Recovery

_NOBODY = b"null"


class Actor:
    """A user with a token, at the other end of a connection or of a request.

    Attributes:
        claims: the token's claims; None before authentication, with no permissions at all.
        user: the user; empty before authentication.
        sender: the user as others see the user, as JSON text.
        codec: the encoding of the actor's answers.
        rate_factor: multiplies the actor's rates; infinite for no limit.
        peer: the client's address; empty if unknown.
    """

    peer: str = ""
    codec: Codec = JSON
    rate_factor: float = 1.0

    def __init__(self, claims: Claims | None = None) -> None:
        self.claims: Claims | None = None
        self.user = ""
        self.sender = _NOBODY
        self._permissions: Permissions | None = None
        if claims is not None:
            self.authenticate(claims)

    def authenticate(self, claims: Claims) -> None:
        """Give the actor the permissions of this verified token, and no others."""
        self.claims = claims
        self.user = claims.sub
        self.sender = msgspec.json.encode(claims.user)
        self.rate_factor = claims.rate_factor
        self._permissions = Permissions(claims)

    def may(self, grant: Grant, topic: str) -> bool:
        """Return whether the actor has a grant in a topic."""
        return self._permissions is not None and self._permissions.may(grant, topic)

    def require(self, grant: Grant, topic: str) -> None:
        """Check that the actor has a grant in a topic.

        Raises:
            Forbidden: the actor does not have the grant.
        """
        if self._permissions is None or not self._permissions.may(grant, topic):
            raise Forbidden(f"topic: the token does not allow {grant} here", topic=topic)

    def scoped(self, key: str | None, scope: str = "") -> str | None:
        """Return an idempotency key for this actor alone, valid only within a scope."""
        # With the length no other user's key can be made equal.
        return None if key is None else f"{scope}{len(self.user)}:{self.user}:{key}"

    async def ready(self) -> None:
        """Wait until the actor can take a large answer."""


class Application(Actor):
    """The program around the server, with all grants and without a rate limit.

    Args:
        sender: shown to others; None for a message without a sender.
    """

    rate_factor = inf

    def __init__(self, sender: User | None = None) -> None:
        super().__init__()
        if sender is not None:
            self.user = sender.user
            self.sender = msgspec.json.encode(sender)

    def may(self, grant: Grant, topic: str) -> bool:
        """Return True."""
        return True

    def require(self, grant: Grant, topic: str) -> None:
        """Do nothing: the application is allowed everything."""


class Subscriber(Actor, ABC):
    """An actor with a live connection that takes pushes.

    Attributes:
        id: the session id of the `welcome` message.
        transport: the transport for pushes.
    """

    id: str
    transport: Transport

    @abstractmethod
    def admit(self, claims: Claims) -> AuthOk | Coroutine[Any, Any, AuthOk]:
        """Accept a verified token; the first token must also pass the hooks.

        Raises:
            Unauthorized: the token belongs to another user.
            ChatError: a hook refuses the connection; the connection is closed.
        """

    @abstractmethod
    def enter(self, topic: str, recovery: Recovery) -> None:
        """Begin to receive a topic's events; called right after the `ok` of `subscribe`."""
