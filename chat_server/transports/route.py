"""The route `/ws`: checks the handshake and starts a connection on one of the transports."""

import asyncio
from collections.abc import Callable
from typing import Any, NoReturn

from hypercorn.typing import WebsocketScope
from quart import Blueprint, Quart, request, websocket
from quart.typing import ASGIWebsocketProtocol
from quart_cors import cors_exempt
from quart_schema import hide

from ..protocol.codecs import JSON
from ..protocol.errors import BadRequest, UpgradeRequired
from ..service.service import Service
from .asgi import INBOX_KEY, AsgiConnection, AsgiTransport
from .direct import DirectTransport
from .echo import Echo
from .encoders import ASGI_ENCODERS
from .handover import STATE_KEY, Socket
from .opening import NONCE_BYTES, Admission, Handshake, Opening

PATH = "/ws"
ECHO_PATH = f"{PATH}/echo"


class WebSocketRoute:
    """Makes connections of a node from handshakes.

    Args:
        service: runs the clients' commands.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self._node = node = service.node
        self._settings = node.settings
        self._opening = Opening(service)
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
        """Make `app` carry our WebSockets by `AsgiConnection`, and other WebSockets as before."""
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
        handshake = _handshake()
        await self._carry(handshake, await self._opening.admit(handshake))

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
        await self._carry(_handshake(), Admission(JSON, None, self._start_echo))

    def _start_echo(
        self, transport: DirectTransport | AsgiTransport
    ) -> tuple[Echo, Callable[[], None]]:
        echo = Echo(self._node, transport)
        return echo, echo.start

    async def _carry(self, handshake: Handshake, admission: Admission) -> None:
        """Accept the handshake, and connect the client to the receiver of its messages."""
        socket = _socket()
        if socket is not None and socket.is_over:
            socket.abort()
        elif (taken := self._take_socket(handshake)) is not None:
            self._opening.connect(*taken, admission)
        else:
            await self._serve_by_asgi(socket, admission)

    def _take_socket(self, handshake: Handshake) -> tuple[asyncio.Transport, Handshake, str] | None:
        """Take the socket away from the HTTP server, if possible.

        The route then ends and leaves nothing behind.

        Returns:
            The socket, its handshake, and the answer to the handshake's key.
        """
        socket = _socket()
        # A handshake by HTTP/2 has no key, and its socket also carries other requests.
        if (
            socket is None
            or self._settings.gateway.leaves_sockets
            or websocket.http_version != "1.1"
        ):
            return None
        accept = handshake.accept_key()
        handed_over = socket.hand_over()
        return None if handed_over is None else (handed_over, handshake, accept)

    async def _serve_by_asgi(self, socket: Socket | None, admission: Admission) -> None:
        if socket is not None:
            # Hypercorn inflates a message before checking its size: 64 KB become 64 MB.
            socket.forgo_compression()
        await websocket.accept(subprotocol=admission.subprotocol)
        limits = self._settings.limits
        transport = AsgiTransport(
            ASGI_ENCODERS[admission.codec.subprotocol],
            websocket,
            _state()[INBOX_KEY],
            max_message_bytes=limits.max_message_bytes,
            slow_buffer_bytes=limits.slow_buffer_bytes,
            close_timeout_seconds=self._settings.gateway.close_timeout_seconds,
            abort_socket=None if socket is None else socket.abort,
        )
        receiver, begin = admission.start(transport)
        try:
            await transport.serve(receiver, begin)
        finally:
            if socket is not None:
                # Hypercorn may hold messages of the client, and wait until we take them.
                socket.limit_end()


def _socket() -> Socket | None:
    """Return the current request's socket, or None if the server does not hand over sockets."""
    return _state().get(STATE_KEY)


def _state() -> dict[str, Any]:
    return dict(websocket.scope.get("state") or {})


def _handshake() -> Handshake:
    """Return the contents of the current handshake."""
    headers = websocket.headers
    peer = websocket.scope.get("client")
    return Handshake(
        origin=headers.get("Origin"),
        host=headers.get("Host"),
        authorization=headers.getlist("Authorization"),
        subprotocols=websocket.requested_subprotocols,
        token=websocket.args.get("token"),
        extensions=headers.getlist("Sec-WebSocket-Extensions"),
        key=headers.get("Sec-WebSocket-Key", ""),
        forwarded_for=headers.getlist("X-Forwarded-For"),
        peer=peer[0] if peer else None,
        agent=headers.get("User-Agent"),
    )
