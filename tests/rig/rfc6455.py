"""Client frames of RFC 6455, byte by byte, correct or not."""

import base64
import json
import os
import struct
from collections.abc import Mapping
from typing import NamedTuple

CONT, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10


MASK = b"\x37\xfa\x21\x3d"


class Frame(NamedTuple):
    """A frame from the server."""

    opcode: int
    payload: bytes
    fin: bool = True


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
        mask: None leaves the frame unmasked, a violation by a client.
        length: a false length for the header; None for the true one.
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
    """Return a text frame with `value` as JSON; text and bytes are sent unchanged."""
    return frame(TEXT, raw(value))


def raw(value: object) -> bytes:
    """Return `value` as JSON; text and bytes are returned unchanged."""
    if isinstance(value, bytes):
        return value
    return (value if isinstance(value, str) else json.dumps(value)).encode()


def closing(code: int | None = 1000, reason: str = "") -> bytes:
    """Return a close frame."""
    return frame(CLOSE, b"" if code is None else struct.pack("!H", code) + reason.encode())


def upgrade(
    *, path: str = "/ws", token: str | None = None, headers: Mapping[str, str] | None = None
) -> bytes:
    """Return the request of an opening handshake; `headers` replace defaults, "" removes one."""
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
