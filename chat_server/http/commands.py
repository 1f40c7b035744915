"""Carries out commands that come as HTTP requests.

A route names the command and the fields in its address. All checks happen here, so that no route
can forget one: token, grant, rate, size, the types and bounds of all fields, `data`.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import msgspec
from quart import Response, g, request
from werkzeug.exceptions import RequestEntityTooLarge, RequestTimeout

from ..logs import shown
from ..protocol.batch import BATCH_MESSAGES, BatchOk
from ..protocol.codecs import JsonCodec, readable
from ..protocol.commands import Call, Command, TopicCommand
from ..protocol.errors import BadRequest, TooLarge, Unavailable
from ..protocol.messages import CallOk, PublishOk
from ..service.actor import Actor
from ..service.answers import UNFINISHED_RETRY_MS, unfinished
from ..service.batch import publish_batch
from ..service.service import Service
from .callers import actor_of_request

T = TypeVar("T")
Q = TypeVar("Q", bound=msgspec.Struct)

UNANSWERED = "the answer did not come in time"

OK_HEADERS = {"Content-Type": "application/json", "Cache-Control": "no-store"}
"""The headers of a response with a command's `ok`."""

SAFE = ("GET", "HEAD")
"""Methods that store nothing, RFC 9110 section 9.2.1."""

WITHOUT_BODY = (*SAFE, "DELETE")
"""Methods with the fields in the query; all other methods have the fields in the body."""


class RequestCommands:
    """Turns requests into commands, and has a worker's service carry out the commands.

    Args:
        service: carries out the commands.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self._codec = JsonCodec(service.commands)
        self._max_bytes = service.node.settings.limits.max_message_bytes
        self._timeout = service.node.settings.http.request_timeout_seconds

    async def run(self, kind: type[TopicCommand], topic: str, **address: object) -> Any:
        """Carry out the current request's command and return its `ok`.

        Args:
            kind: the command.
            topic: the topic that the request's address names.
            address: further fields of the address, which win over fields from the client.

        Raises:
            ChatError: the request is refused, or the command has failed.
            HTTPException: the body did not come in time.
        """
        service = self._service
        actor = await self._admit(kind, topic)
        fields = {"topic": topic, **address}
        if request.method in WITHOUT_BODY:
            command = _from_query(kind, fields)
        else:
            body = await read_body(self._max_bytes)
            service.charge_request(actor, len(body))
            command = self._codec.decode_body(body, kind, fields)
        return await self._within_time(service.perform(actor, command))

    async def ask(
        self,
        kind: type[TopicCommand],
        topic: str,
        operation: Callable[[Service, Actor, str], Awaitable[T]],
    ) -> T:
        """Carry out an operation that is no command of the protocol.

        Args:
            kind: a command that needs the same permission.
            topic: the topic that the request's address names.
            operation: called with the service, the actor and the topic.

        Raises:
            ChatError: the request is refused, or the operation has failed.
        """
        actor = await self._admit(kind, topic)
        return await self._within_time(operation(self._service, actor, topic))

    async def query(
        self, kind: type[Q], operation: Callable[[Service, Actor, Q], Awaitable[T]]
    ) -> T:
        """Carry out an operation that concerns no single topic.

        Args:
            kind: the struct of the request's query.
            operation: called with the service, the actor and the query; checks the permissions.

        Raises:
            ChatError: the request is refused, or the operation has failed.
        """
        actor = await self._authenticate()
        self._service.limit_requests(actor)
        asked = read_query(kind)
        return await self._within_time(operation(self._service, actor, asked))

    async def run_batch(self) -> BatchOk:
        """Publish the messages of the current request, and return a result for each.

        Raises:
            ChatError: the request as a whole is refused.
            HTTPException: the body did not come in time.
        """
        actor = await self._authenticate()
        self._service.limit_requests(actor)
        body = await read_body(BATCH_MESSAGES * self._max_bytes)
        return await publish_batch(self._service, actor, body)

    async def run_call(self, method: str) -> CallOk:
        """Carry out the call of a method that the current request makes.

        Args:
            method: the name that the request's address holds.

        Raises:
            ChatError: the request is refused, or the call has failed.
            HTTPException: the body did not come in time.
        """
        service = self._service
        actor = await self._authenticate()
        service.limit_requests(actor)
        body = await read_body(self._max_bytes)
        service.charge_request(actor, len(body))
        command = self._codec.decode_body(body, Call, {"method": method})
        ok: CallOk = await self._within_time(service.perform(actor, command), stores=False)
        return ok

    async def _admit(self, kind: type[TopicCommand], topic: str) -> Actor:
        """Return the actor of the current request, after checks of grant and rate."""
        service = self._service
        actor = await self._authenticate()
        service.authorize(actor, kind, topic)
        service.limit_requests(actor, topic=topic)
        return actor

    async def _authenticate(self) -> Actor:
        g.actor = actor = await actor_of_request(self._service)
        return actor

    async def _within_time(self, work: Awaitable[T], *, stores: bool = True) -> T:
        try:
            async with asyncio.timeout(self._timeout):
                return await work
        except TimeoutError:
            # The publication is spooled, because the broker itself gives up sooner.
            if request.method in SAFE or not stores:
                raise Unavailable(UNANSWERED, retry_in_ms=UNFINISHED_RETRY_MS) from None
            raise unfinished() from None


def respond(ok: object, status: int = 200) -> Response:
    """Return a response with a command's `ok`."""
    return Response(msgspec.json.encode(ok), status, OK_HEADERS)


def publish_status(ok: PublishOk) -> int:
    """Return the status of a publication: 200 for a duplicate, else 201."""
    return 200 if ok.duplicate else 201


def _from_query(kind: type[TopicCommand], fields: dict[str, object]) -> Command:
    given = {**request.args.to_dict(), **fields}
    # Only messages on a WebSocket have these two fields.
    given.pop("type", None)
    given.pop("id", None)
    return _converted(given, kind)


def read_query(kind: type[Q]) -> Q:
    """Return the current request's query.

    Raises:
        BadRequest: fields are missing, malformed, repeated or unknown. Without the last, a misspelt
            filter would silently pass everything.
    """
    given = request.args.to_dict(flat=False)
    known = kind.__struct_encode_fields__
    for name, values in given.items():
        if name not in known:
            raise BadRequest(f"{shown(name)}: is no field here; there are {', '.join(known)}")
        if len(values) > 1:
            raise BadRequest(f"{name}: is given {len(values)} times; give it once")
    return _converted({name: value for name, [value] in given.items()}, kind)


def _converted(given: dict[str, Any], kind: type[Q]) -> Q:
    try:
        return msgspec.convert(given, kind, strict=False)
    except msgspec.ValidationError as error:
        raise BadRequest(readable(error, whole="query")) from None


async def read_body(max_bytes: int) -> bytes:
    """Return the current request's body.

    Raises:
        TooLarge: the body has more than `max_bytes`.
        RequestTimeout: the body did not come in time.
    """
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
