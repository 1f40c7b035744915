"""Admits clients by their handshakes, and connects them; for the route and the front door."""

import asyncio
import base64
import sys
from collections.abc import Callable, Sequence
from contextvars import Context
from functools import partial

from msgspec import Struct
from websockets.utils import accept_key

from ..addresses import client_address
from ..auth.claims import Claims
from ..auth.tokens import refusal_kind
from ..protocol.codecs import Codec
from ..protocol.errors import BadRequest, ChatError, Forbidden, RateLimited, Unauthorized
from ..realtime.ports import Receiver, Transport
from ..service.service import Service
from ..sessions.connection import Connection
from .asgi import AsgiTransport
from .deflate import negotiate_deflate
from .direct import DirectTransport
from .encoders import DEFLATE_ENCODERS, DIRECT_ENCODERS
from .handshake import Credentials, Source, check_origin, find_credentials, negotiate

NONCE_BYTES = 16

MAX_AGENT = 200
"""Characters kept of a client's User-Agent."""

Start = Callable[[DirectTransport | AsgiTransport], tuple[Receiver, Callable[[], None]]]
"""Makes the receiver of a transport's messages, and the function to call first."""


class Handshake(Struct):
    """The contents of a client's handshake, RFC 6455 section 4.1.

    Args:
        origin: the Origin header, if present.
        host: the Host header, if present.
        authorization: every Authorization header.
        subprotocols: the offered subprotocols, in order.
        token: the parameter `token` of the URL, if present.
        extensions: every Sec-WebSocket-Extensions header.
        key: the Sec-WebSocket-Key header.
        forwarded_for: every X-Forwarded-For header.
        peer: the address at the other end of the socket, if any.
        agent: the User-Agent header, if present.
    """

    origin: str | None
    host: str | None
    authorization: Sequence[str]
    subprotocols: Sequence[str]
    token: str | None
    extensions: Sequence[str]
    key: str
    forwarded_for: Sequence[str]
    peer: str | None
    agent: str | None = None

    def accept_key(self) -> str:
        """Return the answer to the key, RFC 6455 section 4.2.2.

        The server has checked the rest of the request. websockets' own handshake would check
        all of the request again, at several times the cost.

        Raises:
            BadRequest: the key is not valid.
        """
        key = self.key.strip()
        try:
            nonce = base64.b64decode(key, validate=True)
        except ValueError:
            nonce = b""
        if len(nonce) != NONCE_BYTES:
            raise BadRequest(f"Sec-WebSocket-Key: must be {NONCE_BYTES} bytes in base64")
        return accept_key(key)


class Admission(Struct):
    """The terms for a client whose handshake was accepted.

    Args:
        codec: the encoding.
        subprotocol: the subprotocol of the answer; None for none.
        start: begins the connection.
    """

    codec: Codec
    subprotocol: str | None
    start: Start


class Opening:
    """Admits clients to a node.

    Args:
        service: runs the clients' commands.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self._settings = service.node.settings
        self._arrivals = service.node.arrivals

    async def admit(self, handshake: Handshake) -> Admission:
        """Admit a client; fetch the issuer's keys first if needed and due.

        Raises:
            ChatError: the handshake is refused.
        """
        try:
            return self.admit_now(handshake) or await self._admit_later(handshake)
        except RateLimited:
            raise
        except ChatError as error:
            # Not in `admit_now`: a handshake that the front door refuses comes here for its answer.
            if isinstance(error, Unauthorized):
                self._service.node.numbers.tokens_refused[refusal_kind(error)] += 1
            foreign = type(error) is Forbidden
            self._arrivals.knock(self.address_of(handshake), error.user, foreign=foreign)
            raise

    async def _admit_later(self, handshake: Handshake) -> Admission:
        credentials = _credentials(handshake)
        try:
            claims = await self._service.verifier.verify(credentials.token)
        except ChatError as error:
            return self._refused(handshake, credentials, error)
        return self._admission(handshake, claims)

    def admit_now(self, handshake: Handshake) -> Admission | None:
        """Admit a client, or return None if the issuer's keys must be fetched first.

        Raises:
            RateLimited: the address or the user has too many handshakes.
            ChatError: the handshake is refused.
        """
        address = self.address_of(handshake)
        try:
            check_origin(handshake.origin, handshake.host, self._settings.http.allowed_origins)
        except Forbidden as error:
            raise self._arrivals.find(address, foreign=True) or error from None
        negotiate(handshake.subprotocols)  # refuses before the token is checked
        credentials = _credentials(handshake)
        if (limited := self._arrivals.find(address)) is not None:
            return self._refused(handshake, credentials, limited)
        claims = None
        try:
            if credentials.source is Source.QUERY and not self._settings.auth.query_token:
                raise Unauthorized("token: is not taken from the URL here")
            if credentials.source is not Source.NONE:
                claims = self._service.verifier.verify_now(credentials.token)
                if claims is None:
                    return None
        except ChatError as error:
            return self._refused(handshake, credentials, error)
        return self._admission(handshake, claims)

    def _refused(
        self, handshake: Handshake, credentials: Credentials, error: ChatError
    ) -> Admission:
        # A browser cannot read an HTTP status, and cannot send the header.
        if credentials.source is Source.HEADER:
            raise self._arrivals.find_user(error.user) or error
        return self._admission(handshake, None, error)

    def _admission(
        self, handshake: Handshake, claims: Claims | None, refusal: ChatError | None = None
    ) -> Admission:
        codec, subprotocol = negotiate(handshake.subprotocols)
        address = self.address_of(handshake)
        # Shown to operators. Interned, because thousands of clients send the same text.
        agent = sys.intern((handshake.agent or "")[:MAX_AGENT])
        start = partial(self._start, address=address, agent=agent, claims=claims, refusal=refusal)
        return Admission(codec, subprotocol, start)

    def address_of(self, handshake: Handshake) -> str:
        """Return the client address of a handshake, for limits."""
        hops = self._settings.server.trusted_proxy_hops
        return client_address(handshake.peer, handshake.forwarded_for, hops)

    def _start(
        self,
        transport: Transport,
        *,
        address: str,
        agent: str,
        claims: Claims | None,
        refusal: ChatError | None,
    ) -> tuple[Connection, Callable[[], None]]:
        connection = Connection(self._service, transport, address, agent)
        return connection, partial(connection.start, claims, refusal)

    def connect(
        self, socket: asyncio.Transport, handshake: Handshake, accept: str, admission: Admission
    ) -> None:
        """Answer the handshake, and serve the socket with the direct transport from now on.

        Args:
            socket: the transport of the socket.
            handshake: the client's handshake.
            accept: the answer to the handshake's key.
            admission: the terms for the client.
        """
        deflate = None
        if self._settings.gateway.compression:
            deflate = negotiate_deflate(list(handshake.extensions))
        encoders = DEFLATE_ENCODERS if deflate else DIRECT_ENCODERS
        limits = self._settings.limits
        direct = DirectTransport(
            socket,
            encoders[admission.codec.subprotocol],
            max_message_bytes=limits.max_message_bytes,
            slow_buffer_bytes=limits.slow_buffer_bytes,
            close_timeout_seconds=self._settings.gateway.close_timeout_seconds,
            extensions=[deflate[1]] if deflate else [],
        )
        upgrade = _upgrade_response(accept, admission.subprotocol, deflate and deflate[0])
        receiver, begin = admission.start(direct)
        # A separate context: the timers and tasks that begin here outlive the request, and would
        # keep all objects of the request's context alive.
        Context().run(direct.serve, receiver, begin, upgrade)


def _credentials(handshake: Handshake) -> Credentials:
    return find_credentials(handshake.authorization, handshake.subprotocols, handshake.token)


def _upgrade_response(accept: str, subprotocol: str | None, extensions: str | None) -> bytes:
    lines = [
        "HTTP/1.1 101 Switching Protocols",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Accept: {accept}",
    ]
    if subprotocol is not None:
        lines.append(f"Sec-WebSocket-Protocol: {subprotocol}")
    if extensions is not None:
        lines.append(f"Sec-WebSocket-Extensions: {extensions}")
    return "\r\n".join([*lines, "", ""]).encode()
