"""As much of an HTTP/2 client as RFC 8441 (WebSockets over HTTP/2) needs, without TLS."""

import asyncio
import json
from types import TracebackType
from typing import Any, Self

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, Event, ResponseReceived, StreamEnded
from h2.settings import SettingCodes

from tests.support.wire import SECONDS, TEXT


class Http2:
    """A connection by prior knowledge."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._h2 = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
        self._streams: dict[int, Stream] = {}

    @classmethod
    async def connect(cls, port: int) -> Self:
        """Connect and learn that the server takes WebSockets."""
        connection = cls(*await asyncio.open_connection("127.0.0.1", port))
        connection._h2.initiate_connection()
        await connection.flush()
        while not connection._h2.remote_settings.get(SettingCodes.ENABLE_CONNECT_PROTOCOL):
            await connection.read()
        return connection

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._writer.close()
        await self._writer.wait_closed()

    async def get(self, path: str) -> int:
        """Make a request and return its status."""
        stream = await self._open([(":method", "GET"), (":path", path)], end=True)
        while not stream.ended:
            await self.read()
        return stream.status

    async def websocket(self, path: str, token: str) -> "Stream":
        """Open a WebSocket."""
        stream = await self._open(
            [
                (":method", "CONNECT"),
                (":protocol", "websocket"),
                (":path", path),
                ("sec-websocket-version", "13"),
                ("authorization", f"Bearer {token}"),
            ]
        )
        while not stream.status:
            await self.read()
        assert stream.status == 200, stream.status
        return stream

    async def _open(self, headers: list[tuple[str, str]], *, end: bool = False) -> "Stream":
        number = self._h2.get_next_available_stream_id()
        stream = self._streams[number] = Stream(self, number)
        common = [(":scheme", "http"), (":authority", "127.0.0.1")]
        pseudo = [header for header in headers if header[0].startswith(":")]
        plain = [header for header in headers if not header[0].startswith(":")]
        self._h2.send_headers(number, [*pseudo, *common, *plain], end_stream=end)
        await self.flush()
        return stream

    async def write(self, number: int, data: bytes) -> None:
        """Send data on a stream."""
        self._h2.send_data(number, data)
        await self.flush()

    async def flush(self) -> None:
        """Send what waits."""
        self._writer.write(self._h2.data_to_send())
        await self._writer.drain()

    async def read(self) -> None:
        """Read once, and tell the streams."""
        async with asyncio.timeout(SECONDS):
            data = await self._reader.read(65_536)
        assert data, "the connection ended"
        for event in self._h2.receive_data(data):
            self._tell(event)
        await self.flush()

    def _tell(self, event: Event) -> None:
        stream = self._streams.get(getattr(event, "stream_id", 0) or 0)
        if stream is None:
            return
        if isinstance(event, ResponseReceived):
            headers = {str(name): str(value) for name, value in event.headers or ()}
            stream.status = int(headers[":status"])
        elif isinstance(event, DataReceived):
            stream.buffer += event.data or b""
            self._h2.acknowledge_received_data(event.flow_controlled_length or 0, stream.number)
        elif isinstance(event, StreamEnded):
            stream.ended = True


class Stream:
    """One request, or one WebSocket."""

    def __init__(self, connection: Http2, number: int) -> None:
        self.number = number
        self.status = 0
        self.buffer = bytearray()
        self.ended = False
        self._connection = connection

    async def send(self, frame: bytes) -> None:
        """Send a WebSocket frame."""
        await self._connection.write(self.number, frame)

    async def message(self) -> Any:
        """Read the next text message, of less than 64 KiB."""
        head = await self._take(2)
        size = head[1]
        if size == 126:
            size = int.from_bytes(await self._take(2), "big")
        payload = await self._take(size)
        return json.loads(payload) if head[0] == 0x80 | TEXT else await self.message()

    async def _take(self, size: int) -> bytes:
        while len(self.buffer) < size:
            await self._connection.read()
        taken = bytes(self.buffer[:size])
        del self.buffer[:size]
        return taken
