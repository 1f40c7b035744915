"""Checks values before publication: refuses a value that the encoding would change."""

import math
from typing import Any

from ..protocol.nesting import MAX_DEPTH, TOO_DEEP

MIN_INTEGER = -(2**63)
MAX_INTEGER = 2**64 - 1
"""The integers in both encodings. JavaScript clients lose digits beyond 2**53."""

MAX_SHOWN = 40


def check_data(value: object) -> None:
    """Check that JSON can express `value` unchanged.

    An encoder would silently write NaN as null and bytes as base64.

    Raises:
        TypeError: a part of `value` has a type without a JSON form; the message names the place.
        ValueError: a number or a text in `value` cannot be sent; the message names the place.
    """
    _check(value, "data", 0)


def _check(value: object, place: str, depth: int) -> None:
    if isinstance(value, dict):
        _check_map(value, place, depth)
    elif isinstance(value, list | tuple):
        _check_depth(depth)
        for number, item in enumerate(value):
            _check(item, f"{place}[{number}]", depth + 1)
    else:
        _check_scalar(value, place)


def _check_map(value: dict[Any, Any], place: str, depth: int) -> None:
    _check_depth(depth)
    for key, item in value.items():
        if not isinstance(key, str):
            raise TypeError(f"{place}: keys must be text, not {_named(key)}")
        _check_text(key, f"{place}: a key")
        _check(item, f"{place}.{key[:MAX_SHOWN]}", depth + 1)


def _check_scalar(value: object, place: str) -> None:
    match value:
        case None | bool():
            return
        case str():
            _check_text(value, place)
        case int():
            if not MIN_INTEGER <= value <= MAX_INTEGER:
                raise ValueError(f"{place}: must be an integer of at most 64 bits; send it as text")
        case float():
            if not math.isfinite(value):
                raise ValueError(f"{place}: {value} has no form in JSON")
        case _:
            raise TypeError(f"{place}: {type(value).__name__} has no form in JSON")


def _check_depth(depth: int) -> None:
    if depth >= MAX_DEPTH:
        raise ValueError(TOO_DEEP)


def _check_text(text: str, place: str) -> None:
    if text.isascii():
        return
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{place}: holds half a surrogate pair, which is no text") from None


def _named(key: object) -> str:
    return f"{type(key).__name__} ({repr(key)[:MAX_SHOWN]})"
