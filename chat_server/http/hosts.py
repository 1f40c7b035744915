"""Restricts a server with the public development secret to names of this machine (DNS rebinding).

A foreign page can let its own name resolve to 127.0.0.1; the browser then takes our answers for
those of the page's server. With a secret that everybody knows the page could sign any token.
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
    # Tests go by many names, on a port that nobody can guess.
    return settings.auth.uses_public_secret and settings.environment != "testing"


def register(target: Quart | Blueprint) -> None:
    """Refuse every request and handshake of `target` that names another host than this machine."""
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
        # The whole address, whose host then stands for the header: RFC 9112, section 3.2.2.
        return target.partition("://")[2].partition("/")[0]
    return incoming.headers.get("Host", "localhost")


def is_this_machine(host: str) -> bool:
    """Return whether a Host header names a loopback address or `localhost`."""
    match = _HOST.fullmatch(host)
    return match is not None and is_loopback(match[1] or match[2])
