"""Reads a token without verifying it, to show the contents to people and in the log."""

import binascii
from base64 import urlsafe_b64decode
from typing import Any

import msgspec

from ..logs import shown
from .verified import MAX_TOKEN_BYTES


def read_unverified(token: str) -> tuple[Any, Any]:
    """Return the header and the payload of a JWT as sent; None for a part that cannot be decoded.

    No decision may depend on these values, because any sender can write them.
    """
    header, _, rest = token.partition(".")
    return _decoded(header), _decoded(rest.partition(".")[0])


def names_in(token: str, user: str = "") -> dict[str, str]:
    """Return the issuer and the key id that a token claims, for a log line about its refusal.

    Args:
        token: the token.
        user: the token's user, if verified; a field of its own.
    """
    header, payload = read_unverified(token) if len(token) <= MAX_TOKEN_BYTES else (None, None)
    names = {"user": shown(user)} if user else {}
    return {**names, "issuer": _name(payload, "iss"), "kid": _name(header, "kid")}


def _name(part: Any, key: str) -> str:
    name = part.get(key) if isinstance(part, dict) else None
    return shown(name) if name is None or isinstance(name, str) else "not text"


def _decoded(part: str) -> Any:
    try:
        text = urlsafe_b64decode(part.encode("ascii") + b"=" * (-len(part) % 4))
        return msgspec.json.decode(text)
    except (ValueError, binascii.Error, RecursionError):
        return None
