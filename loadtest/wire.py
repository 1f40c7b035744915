"""The cheapest WebSocket client that is still a correct one.

A load test shares its machine with the server it measures, so receiving must cost as little as it
can: no task, queue or stream for a connection, and a plain call for each message.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Protocol, cast

import msgspec
from msgspec import Struct
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.typing import Subprotocol
from websockets.uri import parse_uri


class Stamp(Struct):
    """What the publisher puts into `data`: when the message was due, in ns of the monotonic clock.

    All processes of one machine share that clock.
    """

    due: int


class Inbound(Struct):
    """As much of any server message as the load test looks at."""

    type: str
    id: int | None = None
    seq: int = 0
    data: Stamp | None = None
    code: str | int = ""
    message: str = ""
    reason: str = ""


class LoadError(Exception):
    """The load test cannot go on; the text says why."""


decode: Callable[[bytes], Inbound] = msgspec.json.Decoder(Inbound).decode


class Handler(Protocol):
    """What a connection's messages are handed to."""

    def on_message(self, message: Inbound, now: int) -> None:
        """Take a message that was read at `now`, in ns of the monotonic clock."""
        ...

    def on_lost(self, reason: str) -> None:
        """The connection ended, though nobody asked it to."""
        ...


class Socket(asyncio.Protocol):
    """One connection that speaks `chat.v1.json`.

    Args:
        url: where the server's WebSocket endpoint is.
        token: the JWT to present.
        handler: what takes its messages, once `connect` has returned.
    """

    def __init__(self, url: str, token: str, handler: Handler) -> None:
        self._uri = parse_uri(url)
        self._websocket = ClientProtocol(
            self._uri, subprotocols=[Subprotocol("chat.v1.json")], max_size=None
        )
        self._token = token
        self._handler = handler
        self._ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._transport: asyncio.WriteTransport | None = None
        self._ended = False

    async def connect(self) -> None:
        """Open the connection and return once the server's `welcome` came.

        Raises:
            LoadError: the server cannot be reached or refuses.
        """
        host, port = self._uri.host, self._uri.port
        try:
            await asyncio.get_running_loop().create_connection(lambda: self, host, port)
        except OSError as error:
            raise LoadError(f"cannot reach {host}:{port}: {error}") from None
        await self._ready

    def send(self, text: bytes) -> None:
        """Send one message."""
        self._websocket.send_text(text)
        self._flush()

    def close(self) -> None:
        """End the connection without ceremony."""
        self._ended = True
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Not isinstance: uvloop's transports do not derive from asyncio's.
        self._transport = cast("asyncio.WriteTransport", transport)
        request = self._websocket.connect()
        request.headers["Authorization"] = f"Bearer {self._token}"
        self._websocket.send_request(request)
        self._flush()

    def data_received(self, data: bytes) -> None:
        now = time.monotonic_ns()
        self._websocket.receive_data(data)
        for event in self._websocket.events_received():
            # The server sends each message in one frame; the rest is control frames.
            if isinstance(event, Frame) and event.opcode is Opcode.TEXT:
                self._on_message(decode(bytes(event.data)), now)
        if self._websocket.handshake_exc is not None:
            self._fail(f"the server refuses the connection: {self._websocket.handshake_exc}")
        self._flush()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._ended:
            self._websocket.receive_eof()
            reason = exc or self._websocket.handshake_exc or self._websocket.close_exc
            self._fail(f"the server closed a connection: {reason}")

    def _on_message(self, message: Inbound, now: int) -> None:
        if message.type == "goodbye":
            self._fail(f"the server closes a connection: {message.code} {message.reason}")
        elif self._ready.done():
            self._handler.on_message(message, now)
        elif message.type == "welcome":
            self._ready.set_result(None)

    def _fail(self, reason: str) -> None:
        if self._ended:
            return
        if self._ready.done():
            self._handler.on_lost(reason)
        else:
            self._ready.set_exception(LoadError(reason))
        self.close()

    def _flush(self) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        data = b"".join(self._websocket.data_to_send())
        if data:
            self._transport.write(data)
