"""The one table of close codes (docs/protocol.md, section 6)."""

from enum import IntEnum


class CloseCode(IntEnum):
    """Reasons of the server's close; RFC 6455 section 7.4, and 4000 to 4999 for our own."""

    NORMAL = 1000
    WRONG_FRAME_KIND = 1003
    BAD_UTF8 = 1007
    TOO_BIG = 1009
    INTERNAL = 1011
    RESTART = 1012
    OVERLOADED = 1013
    PROTOCOL_VIOLATION = 4400
    UNAUTHORIZED = 4401
    BLOCKED = 4403
    TIMEOUT = 4408
    TOO_MANY = 4429
    TOO_SLOW = 4490


STOP = frozenset(
    {
        CloseCode.NORMAL,
        CloseCode.WRONG_FRAME_KIND,
        CloseCode.BAD_UTF8,
        CloseCode.TOO_BIG,
        CloseCode.PROTOCOL_VIOLATION,
        CloseCode.BLOCKED,
    }
)
"""Close codes after which a client must not reconnect by itself."""

LONG_BACKOFF = frozenset({CloseCode.OVERLOADED, CloseCode.TOO_MANY})
"""Close codes after which a client waits longer before it reconnects."""


MAX_REASON_BYTES = 123
"""Bytes of a close reason: a control frame carries 125, minus two for the code (RFC 6455, 5.5)."""


def fit_reason(reason: str) -> str:
    """Return as much of `reason` as fits into a close frame."""
    return reason.encode()[:MAX_REASON_BYTES].decode(errors="ignore")
