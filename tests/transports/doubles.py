"""What stands on both sides of a transport in its unit tests."""

import asyncio
from collections.abc import Callable
from typing import Any


class RecordingReceiver:
    """Notes what a transport tells, and may answer from within a call as a session does."""

    is_subscribed = False

    def __init__(self) -> None:
        self.told: list[Any] = []
        self.ended = False
        self.remote_close: Callable[[], None] = lambda: None
        self.react: Callable[[Any], None] = lambda _: None

    def on_message(self, payload: bytes, *, binary: bool) -> None:
        self._note((payload, binary))

    def on_sign_of_life(self) -> None:
        self._note("sign of life")

    def on_full(self) -> None:
        self._note("full")

    def on_drained(self) -> None:
        self._note("drained")

    def on_remote_close(self) -> None:
        assert not self.ended, "hung up after the end"
        self.remote_close()

    def on_closed(self) -> None:
        self._note("closed")
        self.ended = True

    def _note(self, event: Any) -> None:
        assert not self.ended, f"{event} after the end"
        self.told.append(event)
        self.react(event)

    @property
    def payloads(self) -> list[bytes]:
        """The messages taken."""
        return [event[0] for event in self.told if isinstance(event, tuple)]


class FakeSocket(asyncio.Transport):
    """An asyncio transport whose peer reads only when the test says so."""

    def __init__(self, *, tls: bool = False) -> None:
        super().__init__()
        self.written = bytearray()
        self.writes = 0
        self.reading = True
        self.ended = False
        self.aborted = False
        self.high = 65_536
        self._tls = tls
        self._unsent = 0
        self._congested = False
        self._closing = False
        self._protocol: asyncio.BaseProtocol | None = None

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self.high = high or self.high

    def write(self, data: bytes | bytearray | memoryview) -> None:
        # uvloop raises in both cases.
        assert not self.ended, "written behind the end of the stream"
        assert self._protocol is not None, "written to a connection that is gone"
        self.written += data
        self.writes += 1
        self._unsent += len(data)
        if self._unsent > self.high and not self._congested:
            self._congested = True
            self._asyncio_protocol.pause_writing()

    def drain(self) -> None:
        """Let the peer read everything."""
        self._unsent = 0
        if self._congested:
            self._congested = False
            self._asyncio_protocol.resume_writing()

    def can_write_eof(self) -> bool:
        return not self._tls

    def write_eof(self) -> None:
        assert not self._tls
        self.ended = True

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        self._closing = True
        asyncio.get_running_loop().call_soon(self.lose)

    def abort(self) -> None:
        self.aborted = True
        self.close()

    def lose(self) -> None:
        """Tell the protocol that the connection is gone, once."""
        self._closing = True
        protocol, self._protocol = self._protocol, None
        if protocol is not None:
            protocol.connection_lost(None)

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    @property
    def _asyncio_protocol(self) -> asyncio.Protocol:
        assert isinstance(self._protocol, asyncio.Protocol)
        return self._protocol


async def turns(count: int = 5) -> None:
    """Let the loop run what is due."""
    for _ in range(count):
        await asyncio.sleep(0)
