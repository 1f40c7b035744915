"""Errors as problem documents, RFC 9457."""

import logging
from typing import Any

import msgspec
from quart import Blueprint, Quart, Response, g, has_app_context
from werkzeug.exceptions import BadHost, HTTPException

from ..protocol.errors import ERRORS, ChatError, Internal, Invalid

logger = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"

_SENTENCES = {
    400: "the request cannot be understood",
    404: "there is nothing at this address",
    405: "the address does not take this method; Allow names those it takes",
    408: "the request did not come in time",
    413: "the request is larger than the server takes",
    415: "Content-Encoding: the body must not be compressed or otherwise encoded",
}
"""Details by status, in place of Werkzeug's details, which address browser users."""

_CODES = {error.status: error.code for error in ERRORS if error.status not in (409, 429)}


class Problem(msgspec.Struct, omit_defaults=True):
    """A problem document; docs/protocol.md, section 5, lists the values of `code`.

    Args:
        title: the kind of problem.
        status: the HTTP status.
        detail: what is wrong with this request.
        code: the error code, for programs.
        request_id: the request's id in the server's log.
        topic: the topic concerned, if any.
        retry_in_ms: milliseconds after which another try makes sense, if ever.
        fields: the fault of each field, if `code` is `invalid`.
    """

    title: str
    status: int
    detail: str
    code: str
    request_id: str | None = None
    topic: str | None = None
    retry_in_ms: int | None = None
    fields: dict[str, str] | None = None


def encode(problem: Problem) -> bytes:
    """Return the JSON of a problem document."""
    return msgspec.json.encode(problem)


def problem_of(error: BaseException, request_id: str | None) -> Problem:
    """Return the problem document of an error, and log errors other than `ChatError`.

    Args:
        error: the error that ended a request.
        request_id: of the request.
    """
    if not isinstance(error, ChatError):
        logger.error("request %s failed", request_id, exc_info=error)
        error = Internal("something went wrong; it has been logged")
    return Problem(
        error.title,
        error.status,
        error.message,
        error.code,
        request_id=request_id,
        topic=error.topic,
        retry_in_ms=error.retry_in_ms,
        fields=error.fields if isinstance(error, Invalid) else None,
    )


def headers_of(problem: Problem) -> dict[str, str]:
    """Return the headers of a response with `problem`."""
    headers = {"Content-Type": MEDIA_TYPE}
    if problem.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if problem.status == 426:
        headers["Upgrade"] = "websocket"
        headers["Connection"] = "Upgrade"
        headers["Sec-WebSocket-Version"] = "13"
    if problem.retry_in_ms is not None:
        headers["Retry-After"] = str(max(1, -(-problem.retry_in_ms // 1000)))
    return headers


def respond(problem: Problem) -> Response:
    """Return a response with `problem`."""
    return Response(encode(problem), problem.status, headers_of(problem))


def register(target: Quart | Blueprint) -> None:
    """Let every error raised under `target` answer with a problem document."""
    target.register_error_handler(ChatError, _on_chat_error)
    target.register_error_handler(HTTPException, _on_http_error)
    target.register_error_handler(Exception, _on_fault)


async def _on_chat_error(error: ChatError) -> Response:
    g.refusal, g.refusal_fields, g.refused_by = error.message, error.log_fields, error
    return respond(problem_of(error, _request_id()))


async def _on_http_error(error: HTTPException) -> Response:
    original: Any = error.get_response()
    if original.status_code < 400:
        return Response(status=original.status_code, headers=original.headers)
    status = original.status_code
    fallback = "internal" if status >= 500 else "bad_request"
    detail = _SENTENCES.get(status, "the server does not do this")
    if isinstance(error, BadHost):
        detail = "Host: must be a name or an address, with a port or without"
    g.refusal = detail
    code = _CODES.get(status, fallback)
    response = respond(Problem(error.name, status, detail, code, request_id=_request_id()))
    if "Allow" in original.headers:
        response.headers["Allow"] = original.headers["Allow"]
    if status == 415:
        response.headers["Accept-Encoding"] = "identity"  # RFC 9110, section 15.5.16
    return response


async def _on_fault(error: Exception) -> Response:
    problem = problem_of(error, _request_id())
    g.refusal = problem.detail
    return respond(problem)


def _request_id() -> str | None:
    request_id: str | None = g.get("request_id") if has_app_context() else None
    return request_id
