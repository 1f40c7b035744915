"""Checks `data` beyond well-formedness: its depth, and values that JSON cannot express.

Neither check recurses, and the check of MessagePack builds no values. To build a map its keys must
be hashed, and keys other than text can be chosen so that all of them collide. One message with such
keys would keep the event loop busy for half a second.
"""

import math
import struct
from itertools import chain
from typing import Any, Final

from .formats import (
    BINARY,
    FLOATS,
    INT64,
    LENGTH_WIDTHS,
    MAPS,
    MAX_SAFE,
    NIL,
    SIZES,
    TEXT,
)

MAX_DEPTH: Final = 100
"""Maximum nesting levels of `data`, far below the limits of CPython's and browsers' decoders."""

TOO_DEEP: Final = f"data: must not be nested deeper than {MAX_DEPTH} levels"

PROTOTYPE: Final = "__proto__"
"""A key that names an object's prototype. `@msgpack/msgpack` and `msgpack5` refuse a whole message
with this key, so that one publication would disconnect its subscribers."""


class BadData(ValueError):
    """A value that cannot be published; the message names the rule."""


def check_depth(value: object) -> None:
    """Check that a decoded JSON value is not nested too deeply.

    Raises:
        BadData: the value is nested too deeply.
    """
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        level = _inside(level)
        if level is _NOTHING:
            return
    raise BadData(TOO_DEEP)


def check_keys(value: object) -> None:
    """Check a decoded JSON value for map keys that decoders refuse.

    Raises:
        BadData: a map has such a key.
    """
    level = [value]
    while level is not _NOTHING:
        if any(isinstance(item, dict) and PROTOTYPE in item for item in level):
            raise BadData(f"data: must not have the key {PROTOTYPE}, which some decoders refuse")
        level = _inside(level)


_NOTHING: Final[list[Any]] = []


def _inside(level: list[Any]) -> list[Any]:
    """Return the members of all maps and lists among the values; `_NOTHING` if there are none."""
    maps = [item.values() for item in level if isinstance(item, dict)]
    lists = [item for item in level if isinstance(item, list)]
    return list(chain(*maps, *lists)) if maps or lists else _NOTHING


def check_msgpack(data: bytes) -> bytes:
    """Check that JSON can express every part of one whole MessagePack value.

    Args:
        data: a value that a decoder has found complete; its text may not be UTF-8.

    Returns:
        `data` with integral doubles written as integers, because JavaScript has only doubles.

    Raises:
        BadData: JSON cannot express a part of the value, or the value is nested too deeply.
    """
    around: list[tuple[int, bool]] = []
    parts: list[bytes] = []
    at, left, in_map, copied = 0, 1, False, 0
    while True:
        while not left:
            if not around:
                return b"".join([*parts, data[copied:]]) if parts else data
            left, in_map = around.pop()
        left -= 1
        kind = data[at]
        if in_map and left % 2 and kind not in TEXT:
            raise BadData(_bad_key(kind))
        if size := SIZES[kind]:
            if kind in FLOATS and (whole := _whole(data[at : at + size])):
                parts += data[copied:at], whole
                copied = at + size
            at += size
            continue
        width = LENGTH_WIDTHS.get(kind)
        if width is None:
            raise BadData(_bad_value(kind))
        length = int.from_bytes(data[at + 1 : at + 1 + width]) if width else kind & 0x0F
        at += 1 + width
        if kind in TEXT:
            at += length
            continue
        around.append((left, in_map))
        if len(around) > MAX_DEPTH:
            raise BadData(TOO_DEEP)
        in_map = kind in MAPS
        left = 2 * length if in_map else length


def _whole(encoded: bytes) -> bytes:
    """Return an integral float as an encoded integer, and b"" for other floats and -0.0."""
    (value,) = struct.unpack(">f" if len(encoded) == 5 else ">d", encoded[1:])
    if not math.isfinite(value):
        raise BadData("data: NaN and infinity have no JSON form")
    if not value.is_integer() or abs(value) > MAX_SAFE or math.copysign(1, value) < 0 == value:
        return b""
    return struct.pack(">Bq", INT64, int(value))


def _bad_key(kind: int) -> str:
    if kind == NIL:
        return f"data: map keys must be strings, {NIL_KEY}"
    return "data: map keys must be strings"


def _bad_value(kind: int) -> str:
    if kind in BINARY:
        return "data: must not hold binary values; text is sent as str, bytes are sent as base64"
    return "data: must not hold timestamp or extension values"


NIL_KEY: Final = "not nil (PHP writes one for an object; send an array)"
