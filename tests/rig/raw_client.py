"""A raw TCP client for HTTP and WebSocket: the test controls every byte."""

import asyncio
import json
import socket
import struct
from collections.abc import Mapping
from contextlib import suppress
from types import TracebackType
from typing import Any, NamedTuple, Self

import msgspec

from .rfc6455 import BINARY, CLOSE, PING, PONG, TEXT, Frame, frame, upgrade
from .sockets import connected_socket
from .waiting import SECONDS


class Answer(NamedTuple):
    """An HTTP response; header names are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """Return the body's value."""
        return json.loads(self.body)


class RawClient:
    """A TCP connection to 127.0.0.1 that reads only on demand."""

    def __init__(self, connected: socket.socket) -> None:
        self.socket = connected
        self.buffer = bytearray()
        self.ended = False

    @classmethod
    async def connect(cls, port: int, *, receive_buffer: int | None = None) -> Self:
        """Connect, with a receive buffer of the given bytes if any."""
        async with asyncio.timeout(SECONDS):
            connected = await connected_socket("127.0.0.1", port, receive_buffer=receive_buffer)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return cls(connected)

    @classmethod
    async def open(
        cls,
        port: int,
        *,
        path: str = "/ws",
        token: str | None = None,
        headers: Mapping[str, str] | None = None,
        receive_buffer: int | None = None,
    ) -> Self:
        """Connect and upgrade; the welcome, if any, stays unread."""
        wire = await cls.connect(port, receive_buffer=receive_buffer)
        await wire.send(upgrade(path=path, token=token, headers=headers))
        answer = await wire.read_answer()
        assert answer.status == 101, answer
        return wire

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.socket.close()

    # Writing -------------------------------------------------------------------------------

    async def send(self, *parts: bytes, size: int | None = None) -> None:
        """Send bytes, with `size` in pieces of that size, each in its own packet."""
        data = b"".join(parts)
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(SECONDS):
            for start in range(0, len(data), size or len(data) or 1):
                await loop.sock_sendall(self.socket, data[start : start + (size or len(data))])
                if size is not None:
                    await asyncio.sleep(0)

    async def send_what_fits(self, data: bytes, patience: float) -> int:
        """Send until the other side has accepted nothing for `patience` seconds; return the sent
        bytes.
        """
        sent = 0
        loop = asyncio.get_running_loop()
        last = loop.time()
        while sent < len(data) and loop.time() - last < patience:
            try:
                sent += self.socket.send(data[sent : sent + 65_536])
                last = loop.time()
            except BlockingIOError:
                await asyncio.sleep(0.01)
        return sent

    def half_close(self) -> None:
        """Send the end of our stream, and keep reading."""
        self.socket.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Break the connection with a RST."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    # Reading -------------------------------------------------------------------------------

    async def read_answer(self, *, head_only: bool = False) -> Answer:
        """Read one HTTP response."""
        while b"\r\n\r\n" not in self.buffer:
            assert await self._more(), f"the connection ended: {bytes(self.buffer)!r}"
        head, _, rest = bytes(self.buffer).partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        status = int(lines[0].split(" ")[1])
        headers = dict(_header(line) for line in lines[1:])
        self.buffer[:] = rest
        if head_only or status < 200 or status in (204, 304):
            return Answer(status, headers, b"")
        if headers.get("transfer-encoding") == "chunked":
            return Answer(status, headers, await self._chunks())
        return Answer(status, headers, await self.take(int(headers.get("content-length", "0"))))

    async def read_frame(self) -> Frame | None:
        """Read one frame; None if the connection ended instead."""
        head = await self.take(2)
        if len(head) < 2:
            return None
        assert not head[0] & 0x70, "reserved bits are set"
        assert not head[1] & 0x80, "a server must not mask"
        size = head[1]
        if size == 126:
            (size,) = struct.unpack("!H", await self.take(2))
        elif size == 127:
            (size,) = struct.unpack("!Q", await self.take(8))
        payload = await self.take(size)
        if len(payload) < size:
            return None
        return Frame(head[0] & 0x0F, payload, bool(head[0] & 0x80))

    async def read_message(self) -> Any:
        """Read the next data frame as JSON, passing over pings and pongs."""
        while True:
            got = await self.read_frame()
            assert got is not None, "the connection ended"
            if got.opcode in (TEXT, BINARY):
                assert got.fin
                return msgspec.json.decode(got.payload)
            assert got.opcode in (PING, PONG), f"the server closed: {got}"

    async def read_to_close(self) -> tuple[int, list[Any]]:
        """Read until the connection ends; return the close code and the messages before it.

        The client answers a close frame. The code is 1006 without a close frame, and 1005 for an
        empty one.
        """
        messages = []
        code = 1006
        while (got := await self.read_frame()) is not None:
            assert code == 1006, f"a frame after the close frame: {got}"
            if got.opcode == CLOSE:
                code = int.from_bytes(got.payload[:2], "big") or 1005
                with suppress(OSError):
                    await self.send(frame(CLOSE, got.payload))
            elif got.opcode in (TEXT, BINARY):
                messages.append(msgspec.json.decode(got.payload))
        return code, messages

    async def read_to_end(self) -> bytes:
        """Read everything until the connection ends."""
        while await self._more():
            pass
        rest, self.buffer[:] = bytes(self.buffer), b""
        return rest

    async def take(self, size: int) -> bytes:
        """Read this number of bytes, or fewer if the connection ends."""
        while len(self.buffer) < size and await self._more():
            pass
        taken = bytes(self.buffer[:size])
        del self.buffer[:size]
        return taken

    async def _chunks(self) -> bytes:
        body = b""
        while True:
            while b"\r\n" not in self.buffer:
                assert await self._more(), "the connection ended"
            line, _, rest = bytes(self.buffer).partition(b"\r\n")
            self.buffer[:] = rest
            size = int(line, 16)
            body += (await self.take(size + 2))[:size]
            if size == 0:
                return body

    async def _more(self) -> bool:
        if self.ended:
            return False
        try:
            async with asyncio.timeout(SECONDS):
                data = await asyncio.get_running_loop().sock_recv(self.socket, 262_144)
        except ConnectionError:
            data = b""
        self.ended = not data
        self.buffer += data
        return bool(data)


def _header(line: str) -> tuple[str, str]:
    name, _, value = line.partition(":")
    return name.lower(), value.strip()


async def request(
    port: int,
    method: str,
    target: str,
    *,
    headers: Mapping[str, str] | None = None,
    body: bytes = b"",
) -> Answer:
    """Make one HTTP request exactly as given; `target` is sent unchanged."""
    fields = {"Host": "127.0.0.1", "Connection": "close", **(headers or {})}
    if body or method in ("POST", "PUT", "PATCH"):
        fields.setdefault("Content-Length", str(len(body)))
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {v}" for name, v in fields.items())]
    async with await RawClient.connect(port) as wire:
        await wire.send(("\r\n".join(lines) + "\r\n\r\n").encode(), body)
        return await wire.read_answer(head_only=method == "HEAD")
