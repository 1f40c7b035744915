"""Gives every HTTP request an id, a log line and security headers."""

import itertools
import logging
import re
import secrets
import time
from functools import partial
from typing import TypeVar

from quart import Blueprint, Quart, Request, Websocket, g, request, websocket
from quart.typing import ResponseTypes
from werkzeug.exceptions import UnsupportedMediaType

from ..logs import REQUEST
from ..metrics.numbers import Numbers
from ..realtime.refusals import count_refusal
from .handshake_log import HandshakeLog

AnyResponse = TypeVar("AnyResponse", bound=ResponseTypes)

logger = logging.getLogger(__name__)

REQUEST_ID_HEADER = "X-Request-ID"

# Random for the process and counted within it: unique, and cheaper than random each time.
_PROCESS_ID = secrets.token_hex(4)
_NUMBERS = itertools.count(secrets.randbits(16))

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)

SECURITY_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; connect-src 'self' ws: wss:; object-src 'none'; base-uri 'none'; "
        "form-action 'self'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


def register(target: Quart | Blueprint, log: HandshakeLog, numbers: Numbers) -> None:
    """Add ids, headers and log lines to every request and every refused handshake of `target`.

    Calls for an application and its blueprints may be combined: each request is handled once.

    Args:
        target: an application or a blueprint.
        log: told of refused handshakes.
        numbers: counts the responses.
    """
    target.before_request(_begin_request)
    target.after_request(partial(_end_request, log, numbers))
    target.before_websocket(_begin_handshake)
    target.after_websocket(partial(_end_handshake, log, numbers))


async def _begin_request() -> None:
    _begin(request)
    coding = request.headers.get("Content-Encoding", "").strip().lower()
    if request.method not in ("GET", "HEAD", "OPTIONS") and coding not in ("", "identity"):
        # A small compressed body could become an unbounded one.
        raise UnsupportedMediaType


async def _begin_handshake() -> None:
    _begin(websocket)


async def _end_request(
    log: HandshakeLog, numbers: Numbers, response: ResponseTypes
) -> ResponseTypes:
    if response.status_code == 426:
        _note(log, request, response)
    return _end(request, response, numbers)


async def _end_handshake(
    log: HandshakeLog, numbers: Numbers, response: ResponseTypes | None
) -> ResponseTypes | None:
    if response is None:  # it succeeded
        return None
    if 400 <= response.status_code < 500:
        _note(log, websocket, response)
    return _end(websocket, response, numbers)


def _note(log: HandshakeLog, incoming: Request | Websocket, response: ResponseTypes) -> None:
    reason = g.pop("refusal", None)
    if reason is not None:
        log.note(incoming, response.status_code, reason, g.pop("refusal_fields", {}))


def _begin(incoming: Request | Websocket) -> None:
    if "request_id" not in g:
        g.request_id = request_id_of(incoming.headers.get(REQUEST_ID_HEADER, ""))
        g.started_at = time.monotonic()
        REQUEST.set(g.request_id)


def _end(incoming: Request | Websocket, response: AnyResponse, numbers: Numbers) -> AnyResponse:
    if g.get("ended") is response:  # by the blueprint, and now by the application
        return response
    g.ended = response
    count_refusal(numbers, g.pop("refused_by", None))
    for name, value in SECURITY_HEADERS.items():
        response.headers.setdefault(name, value)
    started_at = g.pop("started_at", None)
    if started_at is not None:
        response.headers[REQUEST_ID_HEADER] = g.request_id
        status = response.status_code
        numbers.http_responses[status] += 1
        log_answer(incoming.method, incoming.path, status, started_at, g.request_id)
    return response


def request_id_of(given: str) -> str:
    """Return the id of a request: the client's id, if well-formed, else a new one."""
    return given if _REQUEST_ID.fullmatch(given) else f"{_PROCESS_ID}{next(_NUMBERS):08x}"


def log_answer(method: str, path: str, status: int, started_at: float, request_id: str) -> None:
    """Log that a request was answered.

    Args:
        method: of the request.
        path: of the request, without the query, which may hold a token.
        status: of the answer.
        started_at: when the request came, by `time.monotonic`.
        request_id: of the request.
    """
    if logger.isEnabledFor(logging.DEBUG):
        took = (time.monotonic() - started_at) * 1000
        extra = {"request_id": request_id}
        logger.debug("%s %s answered %d in %.1f ms", method, path, status, took, extra=extra)
