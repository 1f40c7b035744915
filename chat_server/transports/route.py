"""The route `/ws`: checks the handshake and starts a connection on one of the transports."""

import base64
from collections.abc import Callable
from contextvars import Context
from functools import partial
from typing import Any, NoReturn

from hypercorn.typing import WebsocketScope
from quart import Blueprint, Quart, request, websocket
from quart.typing import ASGIWebsocketProtocol
from quart_cors import cors_exempt
from quart_schema import hide
from websockets.utils import accept_key

from ..addresses import client_address
from ..auth.claims import Claims
from ..protocol.codecs import JSON, Codec
from ..protocol.errors import BadRequest, ChatError, Unauthorized, UpgradeRequired
from ..realtime.ports import Receiver, Transport
from ..service.service import Service
from ..sessions.connection import Connection
from .asgi import INBOX_KEY, AsgiConnection, AsgiTransport
from .deflate import negotiate_deflate
from .direct import DirectTransport
from .echo import Echo
from .encoders import ASGI_ENCODERS, DEFLATE_ENCODERS, DIRECT_ENCODERS
from .handover import STATE_KEY, Socket
from .handshake import (
    Credentials,
    Source,
    check_origin,
    find_credentials,
    negotiate,
)

PATH = "/ws"
ECHO_PATH = f"{PATH}/echo"
NONCE_BYTES = 16


class WebSocketRoute:
    """Makes connections of a node from handshakes.

    Args:
        service: carries out the clients' commands.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self._node = node = service.node
        self._settings = node.settings
        self._echoes = self._settings.environment == "development"

    def blueprint(self) -> Blueprint:
        """Return the routes."""
        blueprint = Blueprint("chat_websocket", __name__)
        blueprint.add_websocket(PATH, "connect", self.connect)
        blueprint.add_url_rule(PATH, "upgrade", self.explain_upgrade)
        if self._echoes:
            blueprint.add_websocket(ECHO_PATH, "echo", self.echo)
        return blueprint

    def adapt(self, app: Quart) -> None:
        """Make `app` carry our WebSockets by `AsgiConnection`, and others as before."""
        others = app.asgi_websocket_class
        paths = (PATH, ECHO_PATH) if self._echoes else (PATH,)

        def choose(app: Quart, scope: WebsocketScope) -> ASGIWebsocketProtocol:
            ours = scope["path"].removeprefix(scope.get("root_path", "")) in paths
            return AsgiConnection(app, scope) if ours else others(app, scope)

        app.asgi_websocket_class = choose  # type: ignore[assignment]  # called like a class

    # quart-cors would refuse clients without an origin, and pages of this very host.
    @cors_exempt
    async def connect(self) -> None:
        """Serve one handshake, and on the ASGI transport the whole connection.

        Raises:
            ChatError: the handshake is refused; becomes a problem document.
        """
        headers = websocket.headers
        offered = websocket.requested_subprotocols
        check_origin(
            headers.get("Origin"), headers.get("Host"), self._settings.http.allowed_origins
        )
        codec, subprotocol = negotiate(offered)
        credentials = find_credentials(
            headers.getlist("Authorization"), offered, websocket.args.get("token")
        )
        claims: Claims | None = None
        refusal: ChatError | None = None
        try:
            claims = await self._verify(credentials)
        except ChatError as error:
            if credentials.source is Source.HEADER:
                raise
            refusal = error
        peer = websocket.scope.get("client")
        address = client_address(
            peer[0] if peer else None,
            headers.getlist("X-Forwarded-For"),
            self._settings.server.trusted_proxy_hops,
        )
        start = partial(self._start, address=address, claims=claims, refusal=refusal)
        await self._carry(codec, subprotocol, start)

    @hide
    async def explain_upgrade(self) -> NoReturn:
        """Answer a plain HTTP request, or an incomplete handshake.

        Raises:
            ChatError: names the missing part.
        """
        headers = request.headers
        upgrade = headers.get("Upgrade", "").strip().lower() == "websocket"
        tokens = headers.get("Connection", "").lower().split(",")
        if not upgrade or "upgrade" not in (token.strip() for token in tokens):
            missing = "Connection: Upgrade" if upgrade else "websocket"
            raise UpgradeRequired(
                f"Upgrade: {missing} is missing; is it lost in a proxy? see docs/proxies.md"
            )
        if headers.get("Sec-WebSocket-Version") != "13":
            raise UpgradeRequired("Sec-WebSocket-Version: must be 13")
        raise BadRequest(f"Sec-WebSocket-Key: must be {NONCE_BYTES} bytes in base64")

    @cors_exempt
    async def echo(self) -> None:
        """Echo text and binary messages, for connectivity checks and conformance suites."""
        await self._carry(JSON, None, self._start_echo)

    async def _verify(self, credentials: Credentials) -> Claims | None:
        if credentials.source is Source.NONE:
            return None
        if credentials.source is Source.QUERY and not self._settings.auth.query_token:
            raise Unauthorized("token: is not taken from the URL here")
        return await self._service.verifier.verify(credentials.token)

    def _start(
        self,
        transport: Transport,
        *,
        address: str,
        claims: Claims | None,
        refusal: ChatError | None,
    ) -> tuple[Connection, Callable[[], None]]:
        connection = Connection(self._service, transport, address)
        return connection, partial(connection.start, claims, refusal)

    def _start_echo(
        self, transport: DirectTransport | AsgiTransport
    ) -> tuple[Echo, Callable[[], None]]:
        echo = Echo(self._node, transport)
        return echo, echo.start

    async def _carry(self, codec: Codec, subprotocol: str | None, start: "Start") -> None:
        """Accept the handshake, and connect the client to the receiver that `start` makes."""
        socket = _socket()
        if socket is not None and socket.is_over:
            socket.abort()
        elif (taken := self._take_socket(codec, subprotocol)) is not None:
            direct, upgrade = taken
            receiver, begin = start(direct)
            # In a context of its own: the timers and tasks that begin here outlive the request, and
            # would keep everything in the request's context alive.
            Context().run(direct.serve, receiver, begin, upgrade)
        else:
            await self._serve_by_asgi(socket, codec, subprotocol, start)

    def _take_socket(
        self, codec: Codec, subprotocol: str | None
    ) -> tuple[DirectTransport, bytes] | None:
        """Take the socket away from the HTTP server, where that is possible.

        The route then ends and leaves nothing behind.

        Returns:
            The transport that serves the socket from now on, and its answer to the handshake.
        """
        socket = _socket()
        # A handshake by HTTP/2 has no key, and its socket carries other requests as well.
        if (
            socket is None
            or self._settings.gateway.leaves_sockets
            or websocket.http_version != "1.1"
        ):
            return None
        accept = _accept_key()
        handed_over = socket.hand_over()
        if handed_over is None:
            return None
        deflate = None
        if self._settings.gateway.compression:
            deflate = negotiate_deflate(websocket.headers.getlist("Sec-WebSocket-Extensions"))
        encoders = DEFLATE_ENCODERS if deflate else DIRECT_ENCODERS
        limits = self._settings.limits
        direct = DirectTransport(
            handed_over,
            encoders[codec.subprotocol],
            max_message_bytes=limits.max_message_bytes,
            slow_buffer_bytes=limits.slow_buffer_bytes,
            close_timeout_seconds=self._settings.gateway.close_timeout_seconds,
            extensions=[deflate[1]] if deflate else [],
        )
        return direct, _upgrade_response(accept, subprotocol, deflate and deflate[0])

    async def _serve_by_asgi(
        self, socket: Socket | None, codec: Codec, subprotocol: str | None, start: "Start"
    ) -> None:
        if socket is not None:
            # Hypercorn inflates a message before it looks at the size: 64 KB become 64 MB.
            socket.forgo_compression()
        await websocket.accept(subprotocol=subprotocol)
        limits = self._settings.limits
        transport = AsgiTransport(
            ASGI_ENCODERS[codec.subprotocol],
            websocket,
            _state()[INBOX_KEY],
            max_message_bytes=limits.max_message_bytes,
            slow_buffer_bytes=limits.slow_buffer_bytes,
            close_timeout_seconds=self._settings.gateway.close_timeout_seconds,
            abort_socket=None if socket is None else socket.abort,
        )
        receiver, begin = start(transport)
        try:
            await transport.serve(receiver, begin)
        finally:
            if socket is not None:
                # Hypercorn may hold messages of the client, and wait for us to take them.
                socket.limit_end()


Start = Callable[[DirectTransport | AsgiTransport], tuple[Receiver, Callable[[], None]]]


def _socket() -> Socket | None:
    """Return the current request's socket, if the server lets us have it."""
    return _state().get(STATE_KEY)


def _state() -> dict[str, Any]:
    return dict(websocket.scope.get("state") or {})


def _accept_key() -> str:
    """Return the answer to the handshake's key, RFC 6455 section 4.2.2.

    The server has checked the rest of the request. websockets' own handshake would check everything
    again, at several times the cost.

    Raises:
        BadRequest: the key is not one.
    """
    key = websocket.headers.get("Sec-WebSocket-Key", "").strip()
    try:
        nonce = base64.b64decode(key, validate=True)
    except ValueError:
        nonce = b""
    if len(nonce) != NONCE_BYTES:
        raise BadRequest(f"Sec-WebSocket-Key: must be {NONCE_BYTES} bytes in base64")
    return accept_key(key)


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
