"""WebSocket frames, RFC 6455 section 5.2: all that we write, and the kind that most clients send.

websockets' parser reads every frame, in steps that each may have to wait for more bytes. Nearly all
messages have arrived whole and need no such steps. To read one here costs a fifth.
"""

import struct

from websockets.frames import Opcode

try:
    from websockets.speedups import apply_mask
except ImportError:  # without a compiler, websockets installs itself without
    from websockets.utils import apply_mask

FINAL = 0x80
MASKED = 0x80

_TEXT = FINAL | Opcode.TEXT
_BINARY = FINAL | Opcode.BINARY
_MASK_BYTES = 4


def frame(first: int, payload: bytes) -> bytes:
    """Return an unmasked frame with this first byte."""
    size = len(payload)
    if size < 126:
        return bytes((first, size)) + payload
    if size < 65_536:
        return struct.pack("!BBH", first, 126, size) + payload
    return struct.pack("!BBQ", first, 127, size) + payload


def whole_message(data: bytes, at: int, max_bytes: int) -> tuple[bytes, bool, int] | None:
    """Read a message that is one whole masked frame.

    Args:
        data: bytes from a client.
        at: the index where a frame begins.
        max_bytes: the largest payload read.

    Returns:
        The payload, whether it is binary, and the index of the next frame. None for anything else:
        an incomplete frame, a fragment, a control frame or an error.
    """
    if len(data) - at < 2 + _MASK_BYTES:
        return None
    first, size, mask = data[at], data[at + 1] - MASKED, at + 2
    if (first != _TEXT and first != _BINARY) or not 0 <= size <= 126:
        return None
    if size == 126:
        size = data[mask] << 8 | data[mask + 1]
        mask += 2
    start = mask + _MASK_BYTES
    end = start + size
    if size > max_bytes or end > len(data):
        return None
    return apply_mask(data[start:end], data[mask:start]), first == _BINARY, end
