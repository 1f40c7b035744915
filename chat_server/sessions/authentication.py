"""Opens and prolongs a live connection's session by verified tokens."""

from abc import abstractmethod
from collections.abc import Coroutine, Mapping
from types import MappingProxyType
from typing import Any

from ..auth.claims import Claims
from ..hooks.subjects import Client
from ..protocol.close_codes import CloseCode
from ..protocol.errors import (
    ANOTHER_USER,
    Blocked,
    ChatError,
    Forbidden,
    Internal,
    RateLimited,
    Unauthorized,
    Unavailable,
)
from ..protocol.messages import AuthOk, Welcome
from ..protocol.session import Session
from ..realtime.limits import ConnectionRate
from ..realtime.ports import Transport
from ..realtime.refusals import count_refusal
from ..service.actor import Subscriber
from ..service.gate import Gate
from ..service.service import Service

_CLOSE_CODES: Mapping[type[ChatError], CloseCode] = MappingProxyType(
    {
        Unauthorized: CloseCode.UNAUTHORIZED,
        RateLimited: CloseCode.TOO_MANY,
        Unavailable: CloseCode.OVERLOADED,
        Internal: CloseCode.INTERNAL,
    }
)
"""Close codes for connections that a hook refuses, by error; 4403 for other errors."""


class AuthenticatingClient(Subscriber):
    """The part of a connection for tokens.

    A base class rather than an object: two objects with references to each other would be left to
    the garbage collector at the end of every connection.

    Args:
        service: runs commands.
        transport: the client's transport.
    """

    id: str
    _address: str
    _session: Session
    _rate: ConnectionRate

    # The limit that closes the connection, and its user; None if this is the rate of messages.
    _exceeded: tuple[str, str] | None = None

    def __init__(self, service: Service, transport: Transport) -> None:
        super().__init__()
        self.transport = transport
        self.codec = transport.encoder.codec
        self._service = service
        self._node = service.node

    @abstractmethod
    def on_timer(self) -> None:
        """Handle the deadlines that have passed."""

    @abstractmethod
    def close(self, code: CloseCode, reason: str, reconnect_in_ms: int) -> None:
        """See `registry.Client`."""

    @abstractmethod
    def abort(self) -> None:
        """See `registry.Client`."""

    def accept(self, claims: Claims) -> AuthOk:
        """Open the session with a verified token, or prolong the session.

        Raises:
            Unauthorized: the token belongs to another user, or was revoked after its verification.
            Blocked: the user was blocked after the verification.
        """
        self._node.denials.check(claims)
        ok = AuthOk(user=claims.sub, expires_at=claims.expires_at)
        if self.claims is None:
            try:
                self._node.arrivals.welcome(claims.sub, claims.rate_factor)
                self._node.registry.add_user(self, claims.sub)
            except RateLimited as error:
                self._turn_away(error, claims.sub)
                return ok
        elif claims.sub != self.user:
            raise Unauthorized(ANOTHER_USER)
        self.authenticate(claims)
        if self._node.presence is not None:
            self._node.presence.rename(self._session.topics, self.transport, self.sender)
        self._rate.user, self._rate.factor = claims.sub, claims.rate_factor
        now = self._node.clock.monotonic()
        self._session.open(self._welcome(claims), self._expires_in(claims), now)
        self._drop_forbidden_topics()
        self.on_timer()
        return ok

    def admit(self, claims: Claims) -> AuthOk | Coroutine[Any, Any, AuthOk]:
        """See `actor.Subscriber`."""
        gate = self._service.gate
        if gate is None or self.claims is not None or not gate.asks_on_connect:
            return self.accept(claims)
        return self._admit(gate, claims)

    async def _admit(self, gate: Gate, claims: Claims) -> AuthOk:
        try:
            await gate.ask_about(Client(claims.user, self.id, self._address))
        except ChatError as error:
            self._keep_out(error, claims.sub)
            raise
        return self.accept(claims)

    def _turn_away(self, error: RateLimited, user: str) -> None:
        """Close a connection that exceeds a limit."""
        code = CloseCode.TOO_MANY
        self._exceeded = (error.limit, user)
        count_refusal(self._node.numbers, error)
        self._session.close(code, error.message, reconnect_in_ms=error.retry_in_ms or 0)

    def _keep_out(self, error: ChatError, user: str) -> None:
        """Close a connection that a hook refuses."""
        if isinstance(error, RateLimited):
            self._exceeded = (error.limit, user)
        code = _CLOSE_CODES.get(error.__class__, CloseCode.BLOCKED)
        self._session.close(code, error.message, reconnect_in_ms=error.retry_in_ms or 0)

    def _log_too_many(self, code: CloseCode, reason: str) -> None:
        """Log that a limit closes the connection."""
        limit, user = self._exceeded or (self._rate.limit, self.user)
        self._node.closed_by_limits.log(
            *(code, limit, reason), user=user, address=self.peer, connection=self.id
        )

    def _refuse(self, error: ChatError) -> None:
        """Close a connection without a token, because its first token is refused."""
        self._node.log_refused_token(self.peer, error)
        if isinstance(error, Unavailable):
            wait = error.retry_in_ms or 0
            self._session.close(CloseCode.OVERLOADED, error.message, reconnect_in_ms=wait)
        elif isinstance(error, Blocked):
            self._session.close(CloseCode.BLOCKED, error.message)
        else:
            self._session.close(CloseCode.UNAUTHORIZED, error.message)

    def _expires_in(self, claims: Claims) -> float | None:
        if claims.expires_at is None:
            return None
        # The token must be of use as long as the server accepts it. A client that gets `ok`
        # and then at once an expiry would ask for the next token again and again.
        leeway = self._node.settings.auth.leeway_seconds
        return claims.expires_at + leeway - self._node.clock.time()

    def _welcome(self, claims: Claims) -> Welcome:
        return Welcome(
            session=self.id,
            user=claims.sub,
            server=self._node.name,
            heartbeat_seconds=self._node.settings.gateway.heartbeat_seconds,
            limits=self._node.limits,
            expires_at=claims.expires_at,
        )

    def _drop_forbidden_topics(self) -> None:
        for topic in list(self._session.topics):
            if not self._may_stay(topic):
                self._node.leave(self.transport, topic)
                self._session.drop_topic(
                    topic, Forbidden("the new token does not allow this subscription")
                )

    def _may_stay(self, topic: str) -> bool:
        """Return whether the token allows an existing subscription."""
        presence = self._node.presence
        watches = presence is not None and presence.watches(topic, self.transport)
        return self.may("subscribe", topic) and (not watches or self.may("presence", topic))
