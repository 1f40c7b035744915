"""`/api/topics/{topic}/messages`: publish to a topic, and read what it keeps."""

import asyncio
from typing import Any

import msgspec
from quart import Blueprint, Response, request
from quart.typing import ResponseTypes
from quart_schema import document_querystring, document_request, document_response
from werkzeug.exceptions import RequestEntityTooLarge, RequestTimeout

from ..auth.bearer import bearer_token
from ..events import Seq
from ..protocol.codecs import JSON, readable
from ..protocol.commands import DEFAULT_HISTORY, Command, History, HistoryLimit, Key, Publish
from ..protocol.errors import BadRequest, TooLarge, Unavailable
from ..protocol.messages import HistoryOk, PublishOk
from ..service.actor import Actor
from ..service.service import Service

PATH = "/api/topics/<path:topic>/messages"

SPOOLED_RETRY_MS = 1_000
"""What a publisher is told to wait whose message is still spooled when its request has to end."""


class PublishRequest(msgspec.Struct):
    """`data` is any JSON value; `key` makes a repetition within five minutes a duplicate."""

    data: Any
    key: Key | None = None


class HistoryQuery(msgspec.Struct):
    """Messages before or after a seq (not both), or the newest; at most `limit` of them."""

    before: Seq | None = None
    after: Seq | None = None
    limit: HistoryLimit = DEFAULT_HISTORY


def messages_blueprint(service: Service) -> Blueprint:
    """Return the routes, for a worker's service."""
    blueprint = Blueprint("chat_messages", __name__)
    node = service.node

    async def begin(kind: type[Command], topic: str) -> Actor:
        token = bearer_token(request.headers.getlist("Authorization"))
        actor = await service.authenticate(token)
        service.authorize(actor, kind, topic)
        service.limit_requests(actor)
        return actor

    @blueprint.post(PATH)
    @document_request(PublishRequest)
    @document_response(PublishOk, 201)
    @document_response(PublishOk, 200)
    async def publish(topic: str) -> Response:
        """Publish a message.

        201 when it is stored and on its way; 200 when it repeats a `key` and was stored before.
        """
        actor = await begin(Publish, topic)
        body = await _body(node.settings.limits.max_message_bytes)
        service.charge_request(actor, len(body))
        publication = JSON.decode_body(body)
        command = Publish(topic=topic, data=publication.data, key=publication.key)
        try:
            async with asyncio.timeout(node.settings.http.request_timeout_seconds):
                ok: PublishOk = await service.perform(actor, command)
        except TimeoutError:
            # Spooled, that is: the broker itself gives up sooner.
            raise Unavailable(
                "it may yet be stored: only with the same `key` is another try no second message",
                retry_in_ms=SPOOLED_RETRY_MS,
            ) from None
        return _json(ok, 200 if ok.duplicate else 201)

    @blueprint.get(PATH)
    @document_querystring(HistoryQuery)
    @document_response(HistoryOk, 200)
    async def history(topic: str) -> Response:
        """Read stored messages."""
        actor = await begin(History, topic)
        try:
            query = msgspec.convert(request.args.to_dict(), HistoryQuery, strict=False)
        except msgspec.ValidationError as error:
            raise BadRequest(readable(error)) from None
        command = History(topic=topic, before=query.before, after=query.after, limit=query.limit)
        return _json(await service.perform(actor, command), 200)

    @blueprint.after_request
    async def close_when_draining(response: ResponseTypes) -> ResponseTypes:
        if node.drain.announced and request.http_version.startswith("1"):
            # A next request on this connection might find it closed.
            response.headers["Connection"] = "close"
        return response

    return blueprint


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
