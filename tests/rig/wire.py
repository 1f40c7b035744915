"""WebSocket by hand, for tests that decide about every byte on the wire (RFC 6455)."""

import asyncio
import base64
import json
import os
import socket
import ssl
import struct
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from types import TracebackType
from typing import Any, NamedTuple, Self

import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidMessage
from websockets.typing import Subprotocol

SECONDS = 40.0
"""How long anything may take: the machine may be busy."""

CONT, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
MASK = b"\x37\xfa\x21\x3d"

JSON = "chat.v1.json"
MSGPACK = "chat.v1.msgpack"


class Frame(NamedTuple):
    """A frame as the server sent it."""

    opcode: int
    payload: bytes
    fin: bool = True


class Answer(NamedTuple):
    """An HTTP response; header names are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """Return the body's value."""
        return json.loads(self.body)


def frame(
    opcode: int,
    payload: bytes = b"",
    *,
    fin: bool = True,
    rsv: int = 0,
    mask: bytes | None = MASK,
    length: int | None = None,
) -> bytes:
    """Return a client's frame, by default a correct one.

    Args:
        rsv: the three reserved bits, as a number.
        mask: None leaves the frame unmasked, which no client may do.
        length: what the header says if not the truth.
    """
    size = len(payload) if length is None else length
    head = bytes([(fin << 7) | (rsv << 4) | opcode])
    masked = 0 if mask is None else 0x80
    if size < 126:
        head += bytes([masked | size])
    elif size < 65_536:
        head += struct.pack("!BH", masked | 126, size)
    else:
        head += struct.pack("!BQ", masked | 127, size)
    if mask is None:
        return head + payload
    return head + mask + _masked(payload, mask)


def _masked(payload: bytes, mask: bytes) -> bytes:
    key = (mask * (len(payload) // 4 + 1))[: len(payload)]
    whole = int.from_bytes(payload, "big") ^ int.from_bytes(key, "big")
    return whole.to_bytes(len(payload), "big")


def text(value: object) -> bytes:
    """Return a text frame holding `value` as JSON, or the very text or bytes it is."""
    return frame(TEXT, raw(value))


def raw(value: object) -> bytes:
    """Return `value` as JSON, or the very text or bytes it is."""
    if isinstance(value, bytes):
        return value
    return (value if isinstance(value, str) else json.dumps(value)).encode()


def closing(code: int | None = 1000, reason: str = "") -> bytes:
    """Return a close frame."""
    return frame(CLOSE, b"" if code is None else struct.pack("!H", code) + reason.encode())


def upgrade(
    *, path: str = "/ws", token: str | None = None, headers: Mapping[str, str] | None = None
) -> bytes:
    """Return the request of an opening handshake; a header given replaces ours, "" removes it."""
    fields = {
        "Host": "127.0.0.1",
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode(),
    }
    if token is not None:
        fields["Authorization"] = f"Bearer {token}"
    fields |= headers or {}
    lines = [f"GET {path} HTTP/1.1", *(f"{name}: {v}" for name, v in fields.items() if v)]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


class Wire:
    """A TCP connection to 127.0.0.1 that reads nothing unless it is told to."""

    def __init__(self, connected: socket.socket) -> None:
        self.socket = connected
        self.buffer = bytearray()
        self.ended = False

    @classmethod
    async def connect(cls, port: int, *, receive_buffer: int | None = None) -> Self:
        """Connect, with a receive buffer of the given bytes if any."""
        connected = socket.socket()
        connected.setblocking(False)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if receive_buffer is not None:
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        try:
            async with asyncio.timeout(SECONDS):
                await asyncio.get_running_loop().sock_connect(connected, ("127.0.0.1", port))
        except BaseException:
            connected.close()
            raise
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
        """Connect and upgrade; the welcome, if any, is left to be read."""
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
        """Send bytes, `size` at a time if given, each in a packet of its own."""
        data = b"".join(parts)
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(SECONDS):
            for start in range(0, len(data), size or len(data) or 1):
                await loop.sock_sendall(self.socket, data[start : start + (size or len(data))])
                if size is not None:
                    await asyncio.sleep(0)

    async def send_what_fits(self, data: bytes, patience: float) -> int:
        """Send until the other side has taken nothing for `patience` seconds; return how much."""
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
        """Send the end of our stream, and go on reading."""
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

        A close frame is answered. The code is 1006 if there was none, and 1005 if it was empty.
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
        """Read that many bytes, or less if the connection ends."""
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
    """Make one HTTP request exactly as given; `target` is sent as it is."""
    fields = {"Host": "127.0.0.1", "Connection": "close", **(headers or {})}
    if body or method in ("POST", "PUT", "PATCH"):
        fields.setdefault("Content-Length", str(len(body)))
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {v}" for name, v in fields.items())]
    async with await Wire.connect(port) as wire:
        await wire.send(("\r\n".join(lines) + "\r\n\r\n").encode(), body)
        return await wire.read_answer(head_only=method == "HEAD")


async def until(condition: Callable[[], object], seconds: float = SECONDS) -> None:
    """Wait until `condition` holds."""
    async with asyncio.timeout(seconds):
        while True:
            if condition():
                return
            await asyncio.sleep(0.01)


async def until_async(condition: Callable[[], Awaitable[object]]) -> None:
    """Wait until what `condition` returns, once awaited, holds."""
    async with asyncio.timeout(SECONDS):
        while True:
            if await condition():
                return
            await asyncio.sleep(0.05)


class Closed(Exception):
    """The server closed the connection; the code tells why."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class Chat:
    """A client of `chat.v1` that keeps what it got in order; made by `chat`.

    It has no task of its own: it reads when it is asked for something.
    """

    def __init__(self, websocket: ClientConnection) -> None:
        self.websocket = websocket
        self.binary = websocket.subprotocol == MSGPACK
        self.welcome: dict[str, Any] = {}
        self._inbox: deque[dict[str, Any]] = deque()
        self._last_id = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.websocket.close()

    async def send(self, **command: Any) -> None:
        """Send a command."""
        data = msgspec.msgpack.encode(command) if self.binary else json.dumps(command)
        try:
            await self.websocket.send(data)
        except ConnectionClosed as error:
            raise _closed(error) from None

    async def call(self, **command: Any) -> dict[str, Any]:
        """Send a command with an id and return its answer; pushes before it are kept."""
        self._last_id += 1
        await self.send(id=self._last_id, **command)
        while True:
            message = await self._receive()
            if message.get("id") == self._last_id:
                return message
            self._inbox.append(message)

    async def ok(self, **command: Any) -> dict[str, Any]:
        """Send a command that must succeed."""
        answer = await self.call(**command)
        assert answer["type"] == "ok", answer
        return answer

    async def next(self) -> dict[str, Any]:
        """Return the next message that answers nothing."""
        return self._inbox.popleft() if self._inbox else await self._receive()

    async def closed(self) -> int:
        """Read until the server closes; return the code."""
        try:
            while True:
                self._inbox.append(await self._receive())
        except Closed as closed:
            return closed.code

    @property
    def unread(self) -> list[dict[str, Any]]:
        """What came while something else was waited for."""
        return list(self._inbox)

    async def _receive(self) -> dict[str, Any]:
        try:
            async with asyncio.timeout(SECONDS):
                data = await self.websocket.recv()
        except ConnectionClosed as error:
            raise _closed(error) from None
        if isinstance(data, bytes):
            value = msgspec.msgpack.decode(data)
        else:
            value = msgspec.json.decode(data)
        assert isinstance(value, dict)
        return value


def _closed(error: ConnectionClosed) -> Closed:
    return Closed(error.rcvd.code if error.rcvd else 1006)


async def chat(
    url: str,
    token: str | None = None,
    *,
    encoding: str = JSON,
    bearer: bool = False,
    query: bool = False,
    tls: ssl.SSLContext | None = None,
) -> Chat:
    """Connect to `url` and, if a token is given, take the welcome.

    Args:
        token: presented in the Authorization header unless one of the next two is set.
        bearer: present it as a subprotocol.
        query: present it in the address.
        tls: for a wss:// address.
    """
    subprotocols = [encoding]
    headers = {}
    if token is not None and bearer:
        subprotocols.append(f"bearer.{token}")
    elif token is not None and query:
        url = f"{url}?token={token}"
    elif token is not None:
        headers["Authorization"] = f"Bearer {token}"
    client = Chat(await open_websocket(url, subprotocols, headers, tls))
    if token is not None:
        client.welcome = await client.next()
        assert client.welcome["type"] == "welcome", client.welcome
    return client


async def open_websocket(
    url: str,
    subprotocols: Iterable[str] = (),
    headers: Mapping[str, str] | None = None,
    tls: ssl.SSLContext | None = None,
) -> ClientConnection:
    """Connect by the `websockets` library, directly and with room for large messages."""
    try:
        return await connect(
            url,
            subprotocols=[Subprotocol(name) for name in subprotocols] or None,
            additional_headers=dict(headers or {}),
            open_timeout=SECONDS,
            close_timeout=SECONDS,
            max_size=2**24,
            proxy=None,
            ssl=tls,
        )
    except InvalidMessage:
        # The connection ended before there was an answer.
        raise Closed(1006) from None
