"""WebSocket frames, RFC 6455 section 5.2: writes all frames, and reads the most common ones.

websockets' parser reads every frame in steps, each of which may have to wait for more bytes. Nearly
all messages arrive whole and need no steps, so that reading costs a fifth here. The answers to our
pings are read here too, so that a silent connection needs no parser.
"""

import struct

from websockets.frames import Opcode

try:
    from websockets.speedups import apply_mask
except ImportError:  # without a compiler websockets is installed without speedups
    from websockets.utils import apply_mask

FINAL = 0x80
MASKED = 0x80

_USUAL = {FINAL | opcode: opcode for opcode in (Opcode.TEXT, Opcode.BINARY)}
_EMPTY_PONG = bytes((FINAL | Opcode.PONG, MASKED))
_MASK_BYTES = 4


def frame(first: int, payload: bytes) -> bytes:
    """Return an unmasked frame with this first byte."""
    size = len(payload)
    if size < 126:
        return bytes((first, size)) + payload
    if size < 65_536:
        return struct.pack("!BBH", first, 126, size) + payload
    return struct.pack("!BBQ", first, 127, size) + payload


def whole_frame(data: bytes, at: int, max_bytes: int) -> tuple[Opcode, bytes, int] | None:
    """Read a masked frame that is a whole message, or the answer to one of our pings.

    Args:
        data: bytes from a client.
        at: the index where a frame begins.
        max_bytes: the largest accepted payload.

    Returns:
        TEXT, BINARY or PONG, the payload, and the index of the next frame. None for any other
        frame: incomplete, a fragment, another control frame or an error.
    """
    if len(data) - at < 2 + _MASK_BYTES:
        return None
    opcode, size, mask = _USUAL.get(data[at]), data[at + 1] - MASKED, at + 2
    if opcode is None:
        if data.startswith(_EMPTY_PONG, at):
            return Opcode.PONG, b"", mask + _MASK_BYTES
        return None
    if not 0 <= size <= 126:
        return None
    if size == 126:
        size = data[mask] << 8 | data[mask + 1]
        mask += 2
    start = mask + _MASK_BYTES
    end = start + size
    if size > max_bytes or end > len(data):
        return None
    return opcode, apply_mask(data[start:end], data[mask:start]), end
