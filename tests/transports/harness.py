"""The direct transport between a fake socket and a recording receiver."""

import struct
from collections.abc import Iterator
from functools import partial

from chat_server.protocol.codecs import JSON
from chat_server.transports.direct import DirectTransport
from chat_server.transports.encoders import DIRECT_ENCODERS

from .doubles import FakeSocket, RecordingReceiver, turns

MAX_MESSAGE = 1000
SLOW_BUFFER = 10_000


class Harness:
    """A transport between a fake socket and a recording receiver."""

    def __init__(self, *, tls: bool = False, close_timeout: float = 60.0) -> None:
        self.socket = FakeSocket(tls=tls)
        self.receiver = RecordingReceiver()
        self.transport = DirectTransport(
            self.socket,
            DIRECT_ENCODERS[JSON.subprotocol],
            max_message_bytes=MAX_MESSAGE,
            slow_buffer_bytes=SLOW_BUFFER,
            close_timeout_seconds=close_timeout,
        )
        self.receiver.remote_close = partial(self.transport.close, 1000, "")
        self.transport.serve(self.receiver, lambda: None)

    def feed(self, *parts: bytes) -> None:
        self.transport.data_received(b"".join(parts))

    @property
    def told(self) -> list[object]:
        return self.receiver.told

    def frames(self) -> list[tuple[int, bytes]]:
        """Return what was written, as frames."""
        return list(_parse(bytes(self.socket.written)))

    def close_codes(self) -> list[int]:
        return [struct.unpack("!H", p[:2])[0] for opcode, p in self.frames() if opcode == 8]


def _parse(data: bytes) -> Iterator[tuple[int, bytes]]:
    while data:
        size, start = data[1], 2
        if size == 126:
            size, start = struct.unpack("!H", data[2:4])[0], 4
        elif size == 127:
            size, start = struct.unpack("!Q", data[2:10])[0], 10
        yield data[0] & 0x0F, data[start : start + size]
        data = data[start + size :]


async def end(harness: Harness) -> None:
    """Let the other side hang up, so that no timer is left."""
    harness.socket.lose()
    await turns()
