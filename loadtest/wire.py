"""The cheapest correct WebSocket client, RFC 6455.

A load test shares its machine with the measured server, so receiving must be as cheap as possible:
no task, queue, stream or decoded message per connection. The client only finds the ends of frames;
the `Dialect`'s regular expressions count the messages in all bytes of one read.
"""

import asyncio
import struct
from typing import Protocol, cast

_UPGRADE = (
    "GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{headers}\r\n"
)
_CLOSE, _PING = 0x8, 0x9
_GOODBYE = b"\x88\x82\0\0\0\0\x03\xe8"
"""A close frame with code 1000."""
_PONG = b"\x8a\x80\0\0\0\0"


class LoadError(Exception):
    """The load test cannot continue; the text has the reason."""


class InputError(LoadError):
    """The request makes no sense; nothing was run."""


class Handler(Protocol):
    """The callbacks of a connection."""

    def on_open(self) -> None:
        """Handle the server's acceptance of the handshake."""
        ...

    def on_frames(self, data: bytes) -> None:
        """Handle complete frames, one after the other, including their headers."""
        ...

    def on_lost(self, reason: str) -> None:
        """Handle an unexpected end of the connection."""
        ...


def frame(payload: bytes, *, binary: bool = False) -> bytes:
    """Return a masked frame with `payload`; the mask is zero and costs nothing."""
    first, size = 0x82 if binary else 0x81, len(payload)
    if size < 126:
        return struct.pack("!BBI", first, 0x80 | size, 0) + payload
    return struct.pack("!BBHI", first, 0x80 | 126, size, 0) + payload


def unmask(data: bytes) -> tuple[bytes, bytes] | None:
    """Return the payload of the first masked frame in `data`, and the rest; None if incomplete."""
    if len(data) < 6:
        return None
    size, head = data[1] & 0x7F, 2
    if size == 126:
        size, head = int.from_bytes(data[2:4], "big"), 4
    end = head + 4 + size
    if len(data) < end:
        return None
    mask = data[head : head + 4] * (size // 4 + 1)
    payload = bytes(byte ^ key for byte, key in zip(data[head + 4 : end], mask, strict=False))
    return payload, data[end:]


class Link(asyncio.Protocol):
    """The base class of the load test's connections.

    Args:
        handler: gets the events of the connection.
    """

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self._transport: asyncio.Transport
        self._ended = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Not isinstance: uvloop's transports do not derive from asyncio's.
        self._transport = cast("asyncio.Transport", transport)

    def stall(self) -> None:
        """Stop reading."""
        self._transport.pause_reading()

    def resume(self) -> None:
        """Read again."""
        if not self._transport.is_closing():
            self._transport.resume_reading()

    def close(self) -> None:
        """Abort the connection."""
        self._ended = True
        if hasattr(self, "_transport"):
            self._transport.abort()

    def fail(self, reason: str) -> None:
        """End the connection, and report the reason, unless it has ended already."""
        if not self._ended:
            self.close()
            self._handler.on_lost(reason)


class Socket(Link):
    """One connection; pings are answered automatically.

    Args:
        host, port, path: the server's WebSocket endpoint.
        headers: more lines of the request, each with its end of line.
        handler: gets the events of the connection.
    """

    def __init__(self, host: str, port: int, path: str, headers: str, handler: Handler) -> None:
        super().__init__(handler)
        self._request = _UPGRADE.format(host=host, port=port, path=path, headers=headers).encode()
        self._upgraded = False
        self._rest = b""

    def write(self, data: bytes) -> None:
        """Write frames."""
        self._transport.write(data)

    def leave(self) -> None:
        """Send a close frame; the server then ends the connection."""
        self._ended = True
        self.write(_GOODBYE)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.write(self._request)

    def data_received(self, data: bytes) -> None:
        if self._rest:
            data = self._rest + data
        if not self._upgraded:
            head, end, data = data.partition(b"\r\n\r\n")
            if not end:
                self._rest = head
                return
            self._on_response(head)
        whole = self._walk(data)
        self._rest = data[whole:]
        if whole:
            self._handler.on_frames(data if whole == len(data) else data[:whole])

    def connection_lost(self, exc: Exception | None) -> None:
        self.fail(str(exc) if exc else "closed without a close frame")

    def _on_response(self, head: bytes) -> None:
        self._upgraded = True
        status = head.partition(b"\r\n")[0].decode("latin-1")
        if " 101 " in f"{status} ":
            self._handler.on_open()
        else:
            self.fail(f"the server refuses the connection: {status}")

    def _walk(self, data: bytes) -> int:
        """Return the end of the last complete frame; react to control frames."""
        at, end_of_data = 0, len(data)
        while at + 2 <= end_of_data:
            size, head = data[at + 1], 2
            if size == 126:
                head = 4
                size = int.from_bytes(data[at + 2 : at + 4], "big")
            elif size == 127:
                head = 10
                size = int.from_bytes(data[at + 2 : at + 10], "big")
            end = at + head + size
            if end > end_of_data or at + head > end_of_data:
                break
            if data[at] & 0x08:
                self._on_control(data[at] & 0x0F, data[at + head : end])
            at = end
        return at

    def _on_control(self, opcode: int, payload: bytes) -> None:
        if opcode == _PING and not self._ended:
            size = 0x80 | len(payload)
            self.write(bytes((0x8A, size, 0, 0, 0, 0)) + payload if payload else _PONG)
        elif opcode == _CLOSE:
            code = int.from_bytes(payload[:2], "big")
            self.fail(f"closed with {code} {payload[2:].decode(errors='replace')}".rstrip())
