"""A client from the node's side, which reads only what a test allows."""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from chat_server.protocol.codecs import JSON, Codec
from chat_server.protocol.messages import Ok, ServerMessage
from chat_server.realtime.encoding import encode_push
from chat_server.realtime.ports import Encoder, Push, Receiver, Transport


def as_client(codec: Codec, payload: bytes) -> Any:
    """Return a frame's payload as a client of this encoding decodes it."""
    return msgspec.msgpack.decode(payload) if codec.binary else msgspec.json.decode(payload)


class FakeEncoder:
    """Keeps messages unframed, and counts encoded pushes and writes."""

    def __init__(self, codec: Codec = JSON) -> None:
        self.codec = codec
        self.encoded = 0
        self.writes = 0

    def encode(self, push: Push) -> bytes | None:
        self.encoded += 1
        return encode_push(self.codec, push)

    def encode_message(self, message: ServerMessage) -> bytes:
        return self.codec.encode(message)

    def encode_ok(self, id: int, ok: Ok) -> bytes:
        return self.codec.encode_ok(id, ok)

    def write(self, transports: Iterable[Transport], packets: Sequence[bytes]) -> None:
        self.writes += 1
        for transport in transports:
            for packet in packets:
                transport.write(packet)


class FakeTransport:
    """A client that reads only what a test allows.

    As the contract requires, nothing is written after `close` or `abort`; `lose` ends the
    connection. With `room` packets queued the transport is full until `drain`.

    Args:
        encoder: the encoder of the transport; by default a new one.
        room: packets until the transport is full; None for any number.
    """

    can_ping = True

    def __init__(self, encoder: Encoder | None = None, room: int | None = None) -> None:
        self.encoder: Encoder = encoder or FakeEncoder()
        self.room = room
        self.writable = True
        self.written: list[bytes] = []
        self.pings = 0
        self.flow: list[str] = []
        self.closed: tuple[int, str] | None = None
        self.aborted = False
        self.lost = False
        self.receiver: Receiver | None = None
        self._queued = 0

    @property
    def messages(self) -> list[dict[str, Any]]:
        """All written messages, as the client decodes them."""
        return [as_client(self.encoder.codec, packet) for packet in self.written]

    def of_type(self, *types: str) -> list[dict[str, Any]]:
        """The messages of these types."""
        return [message for message in self.messages if message["type"] in types]

    def say(self, **command: Any) -> None:
        """Let the client send a command."""
        assert self.receiver is not None
        codec = self.encoder.codec
        encode = msgspec.msgpack.encode if codec.binary else msgspec.json.encode
        self.receiver.on_message(encode(command), binary=codec.binary)

    def fill(self) -> None:
        """Let the client read too slowly."""
        self.writable = False
        if self.receiver is not None:
            self.receiver.on_full()

    def drain(self, room: int | None = None) -> None:
        """Let the client catch up, and then accept `room` further packets."""
        self.room, self._queued = room, 0
        self.writable = True
        if self.receiver is not None and not self.lost:
            self.receiver.on_drained()

    def lose(self) -> None:
        """End the connection; may be repeated."""
        if not self.lost:
            self.lost = True
            if self.receiver is not None:
                self.receiver.on_closed()

    # realtime.ports.Transport ----------------------------------------------------------------

    def write(self, packet: bytes) -> None:
        if self.closed is not None or self.aborted or self.lost:
            return
        self.written.append(packet)
        self._queued += 1
        if self.writable and self.room is not None and self._queued >= self.room:
            self.writable = False
            if self.receiver is not None:
                # As the contract has it: not before this returned.
                asyncio.get_running_loop().call_soon(self._report_full)

    def ping(self) -> None:
        self.pings += 1

    def pause(self) -> None:
        self.flow.append("pause")

    def resume(self) -> None:
        self.flow.append("resume")

    def stop_reading(self) -> None:
        # As the contract has it: not before this returned.
        asyncio.get_running_loop().call_soon(self._report_end)

    def close(self, code: int, reason: str) -> None:
        assert self.closed is None, "closed twice"
        self.closed = (code, reason)

    def abort(self) -> None:
        self.aborted = True

    def _report_end(self) -> None:
        if self.receiver is not None and not (self.lost or self.closed):
            self.receiver.on_remote_close()

    def _report_full(self) -> None:
        if not self.writable and not self.lost and self.receiver is not None:
            self.receiver.on_full()
