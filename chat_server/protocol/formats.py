"""MessagePack read byte by byte, for input that a decoder refuses or turns into large objects.

No function here recurses or builds a value. The numbers come from the specification, "Formats".
"""

import struct
from itertools import pairwise
from typing import Final

TEXT: Final = frozenset((*range(0xA0, 0xC0), 0xD9, 0xDA, 0xDB))
BINARY: Final = frozenset((0xC4, 0xC5, 0xC6))
MAPS: Final = frozenset((*range(0x80, 0x90), 0xDE, 0xDF))
LISTS: Final = frozenset((*range(0x90, 0xA0), 0xDC, 0xDD))
NIL: Final = 0xC0
FLOATS: Final = frozenset((0xCA, 0xCB))
FLOAT64: Final = 0xCB
UINT64: Final = 0xCF
INT64: Final = 0xD3
_WIDE_INTEGERS: Final = frozenset((UINT64, INT64))

LENGTH_WIDTHS: Final = dict.fromkeys(range(0x80, 0xA0), 0) | dict(
    zip(range(0xD9, 0xE0), (1, 2, 4, 2, 4, 2, 4), strict=True)
)
"""Bytes that hold the length of a text, list or map; 0 if the first byte holds the length."""

_WIDE: Final = {0xCA: 5, 0xCB: 9} | {0xCC + n: 1 + (1 << n % 4) for n in range(8)}
_BLOB_WIDTHS: Final = dict(zip(range(0xC4, 0xCA), (1, 2, 4) * 2, strict=True))
_FIXED_EXTENSIONS: Final = {0xD4 + n: 2 + (1 << n) for n in range(5)}


def _size(kind: int) -> int:
    if kind < 0x80 or kind >= 0xE0 or kind in (NIL, 0xC2, 0xC3):
        return 1
    if 0xA0 <= kind < 0xC0:
        return 1 + (kind & 0x1F)
    return _WIDE.get(kind, 0)


SIZES: Final = tuple(_size(kind) for kind in range(256))
"""Bytes of a value that JSON can express, by the value's first byte; 0 if that is not enough."""

MAX_SAFE: Final = 2**53
"""A double holds every integer from -MAX_SAFE to MAX_SAFE."""


class Truncated(ValueError):
    """The bytes end too soon, or have a byte that begins no value."""


def value_end(data: bytes, at: int = 0) -> int:
    """Return where the value at `at` ends, for a value of any kind.

    Raises:
        Truncated: the value has no end.
    """
    left = 1
    while left:
        if at >= len(data):
            raise Truncated
        at, children = _step(data, at)
        left += children - 1
    if at > len(data):
        raise Truncated
    return at


def _step(data: bytes, at: int) -> tuple[int, int]:
    """Return the end of a value's own bytes, and the number of values inside it that follow."""
    kind = data[at]
    if size := SIZES[kind] or _FIXED_EXTENSIONS.get(kind, 0):
        return at + size, 0
    width = LENGTH_WIDTHS.get(kind)
    blob = _BLOB_WIDTHS.get(kind) if width is None else width
    if blob is None:
        raise Truncated
    length = int.from_bytes(data[at + 1 : at + 1 + blob]) if blob else kind & 0x0F
    at += 1 + blob
    if width is None:
        return at + length + (kind not in BINARY), 0
    if kind in TEXT:
        return at + length, 0
    return at, 2 * length if kind in MAPS else length


def map_entries(data: bytes) -> list[tuple[bytes, bytes]]:
    """Return the encoded keys and values of a map.

    Raises:
        Truncated: `data` is not one whole map.
    """
    if data[:1] not in _MAP_STARTS:
        raise Truncated
    end = value_end(data)
    at, children = _step(data, 0)
    places = [at]
    for _ in range(children):
        places.append(value_end(data, places[-1]))
    if end != len(data):
        raise Truncated
    values = [data[start:stop] for start, stop in pairwise(places)]
    return list(zip(values[::2], values[1::2], strict=True))


_MAP_STARTS: Final = frozenset(bytes((kind,)) for kind in MAPS)


def with_safe_integers(data: bytes) -> bytes:
    """Return valid MessagePack with every 64-bit integer up to 2^53 written as a double.

    Decoders in JavaScript read other 64-bit integers as a BigInt, which `new Date` and arithmetic
    refuse.
    """
    if UINT64 not in data and INT64 not in data:
        return data
    changed = bytearray(data)
    at = 0
    while at < len(data):
        kind = data[at]
        if kind in _WIDE_INTEGERS:
            value = int.from_bytes(data[at + 1 : at + 9], signed=kind == INT64)
            if -MAX_SAFE <= value <= MAX_SAFE:
                struct.pack_into(">Bd", changed, at, FLOAT64, value)
        # The members of a list or map simply follow.
        at = at + SIZES[kind] if SIZES[kind] else _step(data, at)[0]
    return bytes(changed)
