"""Whose connection it is: the tokens that a client presents, and what they allow."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine
from typing import Any

from ..auth.claims import Claims
from ..auth.permissions import Action, Permissions
from ..auth.tokens import Verifier
from ..protocol.close_codes import CloseCode
from ..protocol.effects import Pending
from ..protocol.errors import (
    ANOTHER_USER,
    ChatError,
    Forbidden,
    RateLimited,
    Unauthorized,
    Unavailable,
)
from ..protocol.messages import Auth, AuthOk, ClientMessage, User, Welcome
from ..protocol.session import Session
from .limits import ConnectionRate
from .node import Node
from .ports import Transport

Work = Callable[[Pending, Any], Coroutine[Any, Any, None]]
"""The part of a command that has to wait."""


class Authenticated(ABC):
    """The part of a connection that deals with tokens.

    A base class rather than an object: two objects that refer to each other would be left to the
    garbage collector by every connection that ends.

    Args:
        node: the worker's.
        verifier: checks tokens that come by `auth`.
        transport: the client's.
    """

    id: str
    _session: Session
    _rate: ConnectionRate

    def __init__(self, node: Node, verifier: Verifier, transport: Transport) -> None:
        self._node = node
        self._verifier = verifier
        self._transport = transport
        self._claims: Claims | None = None
        self._permissions: Permissions | None = None
        self._sender: User | None = None

    @abstractmethod
    def _run(self, pending: Pending, command: ClientMessage, work: Work) -> None: ...

    @abstractmethod
    def on_timer(self) -> None:
        """Look at the deadlines that have passed."""

    @abstractmethod
    def close(self, code: CloseCode, reason: str, reconnect_in_ms: int) -> None:
        """See `registry.Client`."""

    @abstractmethod
    def abort(self) -> None:
        """See `registry.Client`."""

    @property
    def _user(self) -> str:
        """Whose connection it is; empty until that is known."""
        return "" if self._claims is None else self._claims.sub

    def _may(self, action: Action, topic: str) -> bool:
        return self._permissions is not None and self._permissions.may(action, topic)

    def _require(self, action: Action, topic: str) -> None:
        if not self._may(action, topic):
            raise Forbidden(f"topic: the token does not allow {action} here", topic=topic)

    def _auth(self, pending: Pending, command: Auth) -> None:
        try:
            claims = self._verifier.verify_now(command.token)
        except Unauthorized as error:
            self._reject(pending, error)
            return
        if claims is None:
            self._run(pending, command, self._auth_later)
        else:
            self._authenticated(pending, claims)

    async def _auth_later(self, pending: Pending, command: Auth) -> None:
        try:
            claims = await self._verifier.verify(command.token)
        except Unauthorized as error:
            self._reject(pending, error)
        else:
            self._authenticated(pending, claims)

    def _authenticated(self, pending: Pending, claims: Claims) -> None:
        self._open(claims)
        ok = AuthOk(user=claims.sub, expires_at=claims.expires_at)
        self._session.succeed(pending, ok)

    def _reject(self, pending: Pending, error: Unauthorized) -> None:
        """Answer a bad token: it ends a connection that has no better one."""
        if self._claims is None:
            self._refuse(error)
        else:
            self._session.fail(pending, error)

    def _open(self, claims: Claims) -> None:
        if self._claims is None:
            try:
                self._node.registry.add_user(self, claims.sub)
            except RateLimited as error:
                self._session.close(CloseCode.TOO_MANY, error.message)
                return
        elif claims.sub != self._claims.sub:
            raise Unauthorized(ANOTHER_USER)
        self._claims = claims
        self._permissions = Permissions(claims)
        self._sender = claims.user
        self._rate.user = claims.sub
        now = self._node.clock.monotonic()
        self._session.open(self._welcome(claims), self._expires_in(claims), now)
        self._drop_forbidden_topics()
        self.on_timer()

    def _expires_in(self, claims: Claims) -> float | None:
        if claims.expires_at is None:
            return None
        # As long as the token is taken it must be of use: a client that was told `ok` and then at
        # once that it has expired would ask for the next one again and again.
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

    def _refuse(self, refusal: ChatError) -> None:
        if isinstance(refusal, Unavailable):
            wait = refusal.retry_in_ms or 0
            self._session.close(CloseCode.OVERLOADED, refusal.message, reconnect_in_ms=wait)
        else:
            self._session.close(CloseCode.UNAUTHORIZED, refusal.message)

    def _drop_forbidden_topics(self) -> None:
        for topic in list(self._session.topics):
            if not self._may("subscribe", topic):
                self._node.hub.leave(self._transport, topic)
                self._session.drop_topic(
                    topic, Forbidden("the new token does not allow this subscription")
                )
