"""Restricts a server with the public development secret to names of this machine (DNS rebinding).

A foreign page can let its own name resolve to 127.0.0.1. The browser then takes our answers for
answers of the page's server, and with the public secret the page could sign any token.
"""

import logging
import re

from quart import Blueprint, Quart, Request, Websocket, request, websocket

from ..logs import LogThrottle
from ..protocol.errors import Forbidden
from ..settings import Settings, is_loopback

logger = logging.getLogger(__name__)

_HOST = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^\[\]:@/?#\s]+))(?::[0-9]*)?", re.ASCII)
_RULE = (
    "Host: a development server, whose secret is public, answers to localhost and 127.0.0.1 only;"
    " set CHAT_AUTH__SECRET to serve other names"
)


def restricts(settings: Settings) -> bool:
    """Return whether a server with these settings answers to names of this machine only."""
    # Tests use many names, on ports that foreign pages cannot guess.
    return settings.auth.uses_public_secret and settings.environment != "testing"


def register(target: Quart | Blueprint) -> None:
    """Refuse every request and handshake of `target` for a host other than this machine."""
    throttle = LogThrottle()

    def check(incoming: Request | Websocket) -> None:
        host = _host(incoming)
        if not is_this_machine(host):
            # `handshake_log` has a line for refused handshakes.
            if isinstance(incoming, Request) and throttle.due("host"):
                logger.warning("refused a request for the host %.80r: %s", host, _RULE)
            raise Forbidden(_RULE)

    async def check_request() -> None:
        check(request)

    async def check_handshake() -> None:
        check(websocket)

    target.before_request(check_request)
    target.before_websocket(check_handshake)


def _host(incoming: Request | Websocket) -> str:
    target: str = incoming.scope["path"]
    if not target.startswith("/"):
        # An absolute address replaces the header: RFC 9112, section 3.2.2.
        return target.partition("://")[2].partition("/")[0]
    return incoming.headers.get("Host", "localhost")


def is_this_machine(host: str) -> bool:
    """Return whether a Host header names a loopback address or `localhost`."""
    match = _HOST.fullmatch(host)
    return match is not None and is_loopback(match[1] or match[2])
