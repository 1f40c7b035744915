"""Logs refused handshakes, because browsers hide the reason from the page."""

import logging
from collections import Counter
from collections.abc import Mapping
from types import MappingProxyType

from quart import Request, Websocket

from ..logs import LogThrottle, shown
from .callers import ORIGIN_HINT, address_of

logger = logging.getLogger(__name__)

SECONDS = 60.0
"""Seconds in which each kind of refusal is logged once."""

_HINTS = {
    "Upgrade": "is it lost in a proxy? see docs/proxies.md",
    "origin": ORIGIN_HINT,
    "Host": "the proxy must pass on Host: see docs/proxies.md",
    "subprotocol": "is the client one of chat.v1? see docs/protocol.md",
    "there is nothing at this address": "WebSockets are at /ws; does a proxy change the path?",
}

_REASONS = {
    "Authorization": "token",
    "Host": "host",
    "Sec-WebSocket-Key": "key",
    "Sec-WebSocket-Version": "version",
    "Upgrade": "upgrade",
    "origin": "origin",
    "subprotocol": "subprotocol",
    "there is nothing at this address": "path",
    "token": "token",
    "too many connects of this address": "rate",
    "too many connects of this user": "rate",
    "user": "blocked",
}
"""The label of each kind in the metrics; further kinds are `other`."""


class HandshakeLog:
    """Logs refused handshakes, one line for each kind and minute.

    Args:
        trusted_hops: number of proxies in front whose word on the client's address counts.

    Attributes:
        refused: number of refused handshakes, by reason and status.
    """

    def __init__(self, trusted_hops: int = 0) -> None:
        self._trusted_hops = trusted_hops
        self._throttle = LogThrottle(SECONDS)
        self.refused: Counter[tuple[str, int]] = Counter()

    def note(
        self,
        refused: Request | Websocket,
        status: int,
        reason: str,
        fields: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """Count and log a refused handshake.

        Args:
            refused: the handshake.
            status: of the answer.
            reason: of the answer; the text before the colon is the kind.
            fields: further fields of the log line.
        """
        headers = refused.headers
        names = {"origin": headers.get("Origin"), "host": headers.get("Host")}
        self.note_from(address_of(refused, self._trusted_hops), status, reason, fields, **names)

    def note_from(
        self,
        address: str,
        status: int,
        reason: str,
        fields: Mapping[str, str] = MappingProxyType({}),
        *,
        origin: str | None,
        host: str | None,
    ) -> None:
        """Count and log a refused handshake that Quart has not seen.

        Args:
            address: of the client.
            status: of the answer.
            reason: of the answer.
            fields: further fields of the log line.
            origin: the header `Origin`, if present.
            host: the header `Host`, if present.
        """
        kind = reason.partition(":")[0]
        self.refused[_REASONS.get(kind, "other"), status] += 1
        if not self._throttle.due(kind):
            return
        logger.warning(
            "a WebSocket handshake was refused with %d: %s%s",
            *(status, reason, f"; {_HINTS[kind]}" if kind in _HINTS else ""),
            extra={
                "status": status,
                "address": address,
                "origin": shown(origin),
                "host": shown(host),
                **fields,
            },
        )
