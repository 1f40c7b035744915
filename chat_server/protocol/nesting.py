"""Checks of what `data` holds, beyond being well-formed: depth, and what JSON can express.

Neither check recurses, and that of MessagePack builds nothing: to build a map is to hash its keys,
and keys that are not text can be chosen so that all of them collide. One message of such keys would
keep the event loop busy for half a second.
"""

import math
import struct
from itertools import chain
from typing import Final

MAX_DEPTH: Final = 100
"""Levels of nesting `data` may have: far below where CPython's or a browser's decoder gives up."""

TOO_DEEP: Final = f"data: must not be nested deeper than {MAX_DEPTH} levels"


class BadData(ValueError):
    """A value that cannot be passed on; the message names the rule."""


def check_depth(value: object) -> None:
    """Check that a decoded JSON value is not nested too deeply.

    Raises:
        BadData: it is.
    """
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        maps = [item.values() for item in level if isinstance(item, dict)]
        lists = [item for item in level if isinstance(item, list)]
        if not maps and not lists:
            return
        level = list(chain(*maps, *lists))
    raise BadData(TOO_DEEP)


def check_msgpack(data: bytes) -> None:
    """Check that one whole MessagePack value holds only what JSON can express.

    Args:
        data: what a decoder has found to be complete; text need not be UTF-8 yet.

    Raises:
        BadData: it holds more, or is nested too deeply.
    """
    around: list[tuple[int, bool]] = []
    at, left, in_map = 0, 1, False
    while True:
        while not left:
            if not around:
                return
            left, in_map = around.pop()
        left -= 1
        kind = data[at]
        if in_map and left % 2 and kind not in _TEXT:
            raise BadData("data: map keys must be strings")
        if size := _SIZES[kind]:
            if kind in _FLOATS:
                _check_float(data[at : at + size])
            at += size
            continue
        width = _LENGTH_WIDTHS.get(kind)
        if width is None:
            raise BadData("data: must not hold binary, timestamp or extension values")
        length = int.from_bytes(data[at + 1 : at + 1 + width]) if width else kind & 0x0F
        at += 1 + width
        if kind in _TEXT:
            at += length
            continue
        around.append((left, in_map))
        if len(around) > MAX_DEPTH:
            raise BadData(TOO_DEEP)
        in_map = kind in _MAPS
        left = 2 * length if in_map else length


def _check_float(encoded: bytes) -> None:
    (value,) = struct.unpack(">f" if len(encoded) == 5 else ">d", encoded[1:])
    if not math.isfinite(value):
        raise BadData("data: NaN and infinity have no JSON form")


# The formats of MessagePack by their first byte; see its specification, "Formats".

_FLOATS: Final = frozenset((0xCA, 0xCB))
_TEXT: Final = frozenset((*range(0xA0, 0xC0), 0xD9, 0xDA, 0xDB))
_MAPS: Final = frozenset((*range(0x80, 0x90), 0xDE, 0xDF))


_LENGTH_WIDTHS: Final = dict.fromkeys(range(0x80, 0xA0), 0) | dict(
    zip(range(0xD9, 0xE0), (1, 2, 4, 2, 4, 2, 4), strict=True)
)
"""How many bytes tell the length of text, a list or a map; 0 if the first byte itself does."""

_WIDE: Final = {0xCA: 5, 0xCB: 9} | {0xCC + n: 1 + (1 << n % 4) for n in range(8)}


def _size(kind: int) -> int:
    if kind < 0x80 or kind >= 0xE0 or kind in (0xC0, 0xC2, 0xC3):
        return 1
    if 0xA0 <= kind < 0xC0:
        return 1 + (kind & 0x1F)
    return _WIDE.get(kind, 0)


_SIZES: Final = tuple(_size(kind) for kind in range(256))
"""How many bytes a value has, where its first byte tells; else 0."""
