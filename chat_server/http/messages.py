"""`/api/topics/{topic}/messages`: publish to a topic, and read what it keeps."""

import asyncio
from typing import Any

import msgspec
from quart import Blueprint, Response, request
from quart.typing import ResponseTypes
from quart_schema import document_querystring, document_request, document_response
from werkzeug.exceptions import RequestEntityTooLarge, RequestTimeout

from ..auth.bearer import bearer_token
from ..auth.claims import Claims
from ..auth.permissions import Action, Permissions
from ..auth.tokens import Verifier
from ..events import PublishResult, Seq
from ..protocol.codecs import JSON, readable
from ..protocol.errors import BadRequest, Forbidden, TooLarge, Unavailable
from ..protocol.messages import DEFAULT_HISTORY, HistoryLimit, Key, Message
from ..protocol.session import BYTES_PER_COUNT
from ..protocol.topics import check_topic
from ..realtime.node import Node

PATH = "/api/topics/<path:topic>/messages"

SPOOLED_RETRY_MS = 1_000
"""What a publisher is told to wait whose message is still spooled when its request has to end."""


class PublishRequest(msgspec.Struct):
    """`data` is any JSON value; `key` makes a repetition within five minutes a duplicate."""

    data: Any
    key: Key | None = None


class PublishResponse(msgspec.Struct):
    """Where the message stands in its topic's order; `at` in milliseconds since 1970."""

    topic: str
    seq: int
    epoch: str
    at: int
    duplicate: bool


class HistoryQuery(msgspec.Struct):
    """Messages before or after a seq (not both), or the newest; at most `limit` of them."""

    before: Seq | None = None
    after: Seq | None = None
    limit: HistoryLimit = DEFAULT_HISTORY


class HistoryResponse(msgspec.Struct):
    """Stored messages in ascending order; `more` tells whether the limit left some out."""

    topic: str
    epoch: str
    messages: list[Message]
    more: bool


def messages_blueprint(node: Node, verifier: Verifier) -> Blueprint:
    """Return the routes, for a worker's node and what checks its tokens."""
    blueprint = Blueprint("chat_messages", __name__)
    limits = node.settings.limits

    async def authorize(action: Action, topic: str) -> Claims:
        claims = await verifier.verify(bearer_token(request.headers.getlist("Authorization")))
        check_topic(topic)
        if not Permissions(claims).may(action, topic):
            raise Forbidden(f"topic: the token does not allow {action} here", topic=topic)
        return claims

    @blueprint.post(PATH)
    @document_request(PublishRequest)
    @document_response(PublishResponse, 201)
    @document_response(PublishResponse, 200)
    async def publish(topic: str) -> Response:
        """Publish a message.

        201 when it is stored and on its way; 200 when it repeats a `key` and was stored before.
        """
        claims = await authorize("publish", topic)
        node.messages.take(claims.sub, node.clock.monotonic())
        body = await _body(limits.max_message_bytes)
        node.messages.owe(claims.sub, node.clock.monotonic(), len(body) // BYTES_PER_COUNT)
        publication = JSON.decode_body(body)
        future = node.publish(topic, bytes(publication.data), claims.user, publication.key)
        place = await _stored(future, node.settings.http.request_timeout_seconds)
        answer = PublishResponse(topic, place.seq, place.epoch, place.at, place.duplicate)
        return _json(answer, 200 if place.duplicate else 201)

    @blueprint.get(PATH)
    @document_querystring(HistoryQuery)
    @document_response(HistoryResponse, 200)
    async def history(topic: str) -> Response:
        """Read stored messages."""
        claims = await authorize("history", topic)
        node.messages.take(claims.sub, node.clock.monotonic())
        await node.reads.begin(claims.sub, node.clock.monotonic())
        try:
            query = msgspec.convert(request.args.to_dict(), HistoryQuery, strict=False)
        except msgspec.ValidationError as error:
            raise BadRequest(readable(error)) from None
        page, messages = await node.history(
            topic, JSON, before=query.before, after=query.after, limit=query.limit
        )
        node.reads.charge(claims.sub, node.clock.monotonic(), page.size)
        return _json(
            {"topic": topic, "epoch": page.epoch, "messages": messages, "more": page.more}, 200
        )

    @blueprint.after_request
    async def part(response: ResponseTypes) -> ResponseTypes:
        if node.drain.announced and request.http_version.startswith("1"):
            # A next request on this connection might find it closed.
            response.headers["Connection"] = "close"
        return response

    return blueprint


async def _stored(future: "asyncio.Future[PublishResult]", seconds: float) -> PublishResult:
    try:
        async with asyncio.timeout(seconds):
            return await future
    except TimeoutError:
        # Spooled, that is: the broker itself gives up sooner.
        raise Unavailable(
            "it may yet be stored: only with the same `key` is another try no second message",
            retry_in_ms=SPOOLED_RETRY_MS,
        ) from None


async def _body(max_bytes: int) -> bytes:
    body = bytearray()
    try:
        async with asyncio.timeout(request.body_timeout):
            async for chunk in request.body:
                body += chunk
                if len(body) > max_bytes:
                    break
    except TimeoutError:
        raise RequestTimeout("The request's body did not come in time.") from None
    except RequestEntityTooLarge:
        body += bytes(max_bytes + 1)
    if len(body) > max_bytes:
        raise TooLarge(f"body: may have {max_bytes} bytes at most")
    return bytes(body)


def _json(value: object, status: int) -> Response:
    response = Response(msgspec.json.encode(value), status, content_type="application/json")
    response.headers["Cache-Control"] = "no-store"
    return response
