"""`/api/admin/…`: questions and orders of operators."""

from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta, Raw
from msgspec.structs import replace
from quart import Blueprint, Response
from quart_schema import document_querystring, document_request, document_response

from ..addresses import listed_address
from ..events import MAX_SEQ
from ..operators.commands import Disconnect, Unsubscribe
from ..operators.grants import Operator, operator_of
from ..operators.office import Office
from ..operators.questions import (
    BlocksQuery,
    ConnectionsOk,
    ConnectionsQuery,
    ConnectionView,
    DenialsOk,
    Explained,
    ExplainQuery,
    NodesOk,
    Obeyed,
    TopicsOk,
    TopicsQuery,
)
from ..protocol.codecs import JSON
from ..protocol.errors import Invalid, TooLarge
from ..protocol.messages import ChangeOk
from ..protocol.topics import TopicName
from ..service.service import Service
from . import private
from .callers import actor_of_request
from .commands import read_query, respond
from .fields import MAX_BYTES, read_fields

PATH = "/api/admin"

YEAR = 366 * 86_400

T = TypeVar("T", bound=msgspec.Struct)

Name = Annotated[str, Meta(min_length=1, max_length=255)]
Reason = Annotated[str, Meta(min_length=1, max_length=256, extra_json_schema={"pattern": r"\S"})]
Seconds = Annotated[float, Meta(ge=0.001, le=315_360_000)]
Moment = Annotated[float, Meta(gt=0, le=253_402_300_799)]


class BlockRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Either `until`, in seconds since 1970, or a number of `seconds`."""

    user: Name
    reason: Reason
    until: Moment | None = None
    seconds: Seconds | None = None


class UnblockRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The user may connect again."""

    user: Name
    reason: Reason


class RevokeRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Either a token by `jti`, all tokens of a `user`, or all tokens of a key by `kid`.

    Args:
        reason: the operator's reason.
        jti: the token's name.
        user: the user of the tokens.
        issued_before: with `user`: seconds since 1970; the present time by default.
        kid: the key's name.
        seconds: how long the order holds, a year by default; all revoked tokens must expire sooner.
    """

    reason: Reason
    jti: Name | None = None
    user: Name | None = None
    issued_before: Moment | None = None
    kid: Name | None = None
    seconds: Seconds | None = None


class DisconnectRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Either the connections of a `user` or of an `address`, or one `session`."""

    reason: Reason
    user: Name | None = None
    session: Name | None = None
    address: Name | None = None


class UnsubscribeRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The `user` may subscribe again, as far as the token allows."""

    user: Name
    topic: TopicName
    reason: Reason


class AnnounceRequest(msgspec.Struct, forbid_unknown_fields=True):
    """`data` is any JSON value."""

    data: Any
    reason: Reason


class CloseRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Subscriptions end at once. With `seconds` the topic stays closed for that long."""

    topic: TopicName
    reason: Reason
    seconds: Seconds | None = None


class DeleteRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The message `seq` of a topic."""

    topic: TopicName
    seq: Annotated[int, Meta(ge=1, le=MAX_SEQ)]
    reason: Reason


class PurgeRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The whole history of a topic, for good."""

    topic: TopicName
    reason: Reason


class OpenRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The topic may be used again."""

    topic: TopicName
    reason: Reason


class _Admin:
    """Reads the operator and the fields of the current request.

    Args:
        service: verifies tokens, and knows the time.
        office: carries out the order.

    Attributes:
        max_bytes: maximum bytes of a request with `data`.
        office: carries out the order.
    """

    def __init__(self, service: Service, office: Office) -> None:
        self._service = service
        self._clock = service.node.clock
        self._data_bytes = service.node.settings.limits.max_message_bytes
        self.max_bytes = self._data_bytes + 4_096
        self.office = office

    async def operator(self) -> Operator:
        """Return the operator who sends the current request.

        Raises:
            Unauthorized: the request has no valid token.
            Forbidden: the token has no grant `admin`.
            RateLimited: the user has sent too many messages and requests.
        """
        actor = await actor_of_request(self._service)
        self._service.limit_requests(actor)
        return operator_of(actor)

    async def order(self, kind: type[T], max_bytes: int = MAX_BYTES) -> T:
        """Return the fields of the current request, an order with a reason.

        Raises:
            BadRequest, TooLarge, RequestTimeout: as `read_fields`.
            Invalid: as `read_fields`, or the reason is blank.
        """
        given = await read_fields(kind, max_bytes)
        reason: str = given.reason  # type: ignore[attr-defined]
        if not reason.strip():
            raise Invalid({"reason": "must not be blank"})
        return given

    def now(self) -> float:
        """Return seconds since 1970."""
        return self._clock.time()

    def until(self, until: float | None, seconds: float | None) -> float:
        """Return the end of an order, in seconds since 1970.

        Raises:
            Invalid: neither is given, or both are, or the end is in the past.
        """
        if (until is None) == (seconds is None):
            raise Invalid({"until": "give either this or seconds"})
        ends = until if until is not None else self.now() + (seconds or 0.0)
        if ends <= self.now():
            raise Invalid({"until": "is in the past"})
        return ends

    def data(self, value: object) -> Raw:
        """Return the JSON text of an announcement.

        Raises:
            BadRequest: some clients could not read the JSON.
            TooLarge: the JSON has more bytes than a message may have.
        """
        encoded = msgspec.json.encode(value)
        JSON.check_data(encoded)
        if len(encoded) > self._data_bytes:
            raise TooLarge(f"data: may have {self._data_bytes} bytes of JSON")
        return Raw(encoded)


def admin_blueprint(service: Service, office: Office) -> Blueprint:
    """Return the routes, for a worker.

    Args:
        service: the worker's service.
        office: the worker's office.
    """
    blueprint = Blueprint("chat_admin", __name__, url_prefix=PATH)
    private.register(blueprint, service.node.settings.operators)
    admin = _Admin(service, office)
    for add_routes in (
        _add_questions,
        _add_orders_about_users,
        _add_orders_about_topics,
        _add_orders_about_messages,
    ):
        add_routes(blueprint, admin)
    return blueprint


def _add_questions(blueprint: Blueprint, admin: _Admin) -> None:
    office = admin.office

    @blueprint.get("/nodes")
    @document_response(NodesOk, 200)
    async def nodes() -> Response:
        """List the workers."""
        return respond(await office.nodes(await admin.operator()))

    @blueprint.get("/connections")
    @document_querystring(ConnectionsQuery)
    @document_response(ConnectionsOk, 200)
    async def connections() -> Response:
        """List connections of all workers."""
        operator, query = await admin.operator(), read_query(ConnectionsQuery)
        query = replace(query, address=_address(query.address))
        return respond(await office.connections(operator, query))

    @blueprint.get("/explain")
    @document_querystring(ExplainQuery)
    @document_response(Explained, 200)
    async def explain() -> Response:
        """Explain the fate of an event on each worker, and for the connections of a user."""
        operator = await admin.operator()
        return respond(await office.explain(operator, read_query(ExplainQuery)))

    @blueprint.get("/connections/<session>")
    @document_response(ConnectionView, 200)
    async def connection(session: str) -> Response:
        """Read everything about a connection."""
        return respond(await office.connection(await admin.operator(), session))

    @blueprint.get("/topics")
    @document_querystring(TopicsQuery)
    @document_response(TopicsOk, 200)
    async def topics() -> Response:
        """List topics with subscribers on any worker."""
        return respond(await office.topics(await admin.operator(), read_query(TopicsQuery)))

    @blueprint.get("/blocks")
    @document_querystring(BlocksQuery)
    @document_response(DenialsOk, 200)
    async def blocks() -> Response:
        """List the denials of one kind."""
        return respond(office.denials(await admin.operator(), read_query(BlocksQuery)))


def _add_orders_about_users(blueprint: Blueprint, admin: _Admin) -> None:
    office = admin.office

    @blueprint.post("/block")
    @document_request(BlockRequest)
    @document_response(Obeyed, 200)
    async def block() -> Response:
        """Keep a user out, and close the user's connections."""
        operator = await admin.operator()
        given = await admin.order(BlockRequest)
        until = admin.until(given.until, given.seconds)
        return respond(await office.block(operator, given.user, until, given.reason))

    @blueprint.post("/unblock")
    @document_request(UnblockRequest)
    @document_response(Obeyed, 200)
    async def unblock() -> Response:
        """Let a user in again."""
        operator = await admin.operator()
        given = await admin.order(UnblockRequest)
        return respond(await office.allow(operator, "users", given.user, given.reason))

    @blueprint.post("/revoke")
    @document_request(RevokeRequest)
    @document_response(Obeyed, 200)
    async def revoke() -> Response:
        """Revoke tokens, and close their connections."""
        operator = await admin.operator()
        given = await admin.order(RevokeRequest)
        until = admin.now() + (given.seconds or YEAR)
        revoking = (operator, until, given)
        return respond(await _revoke(office, *revoking, now=admin.now()))

    @blueprint.post("/disconnect")
    @document_request(DisconnectRequest)
    @document_response(Obeyed, 200)
    async def disconnect() -> Response:
        """Close connections."""
        operator = await admin.operator()
        given = await admin.order(DisconnectRequest)
        _exactly_one(user=given.user, session=given.session, address=given.address)
        order = Disconnect(
            by=operator.name,
            reason=given.reason,
            until=office.once(),
            user=given.user,
            session=given.session,
            address=_address(given.address),
        )
        return respond(await office.disconnect(operator, order))


def _add_orders_about_topics(blueprint: Blueprint, admin: _Admin) -> None:
    office = admin.office

    @blueprint.post("/unsubscribe")
    @document_request(UnsubscribeRequest)
    @document_response(Obeyed, 200)
    async def unsubscribe() -> Response:
        """End a user's subscriptions to a topic."""
        operator = await admin.operator()
        given = await admin.order(UnsubscribeRequest)
        order = _ending(operator, office, given.topic, given.reason, given.user)
        return respond(await office.unsubscribe(operator, order))

    @blueprint.post("/close")
    @document_request(CloseRequest)
    @document_response(Obeyed, 200)
    async def close() -> Response:
        """End all subscriptions to a topic, and keep it closed for a while."""
        operator = await admin.operator()
        given = await admin.order(CloseRequest)
        if given.seconds is None:
            order = _ending(operator, office, given.topic, given.reason)
            return respond(await office.unsubscribe(operator, order))
        until = admin.now() + given.seconds
        return respond(await office.close_topic(operator, given.topic, until, given.reason))

    @blueprint.post("/open")
    @document_request(OpenRequest)
    @document_response(Obeyed, 200)
    async def open() -> Response:
        """Let a closed topic be used again."""
        operator = await admin.operator()
        given = await admin.order(OpenRequest)
        return respond(await office.allow(operator, "topics", given.topic, given.reason))

    @blueprint.post("/announce")
    @document_request(AnnounceRequest)
    @document_response(Obeyed, 200)
    async def announce() -> Response:
        """Send data to every connection."""
        operator = await admin.operator()
        given = await admin.order(AnnounceRequest, admin.max_bytes)
        return respond(await office.announce(operator, admin.data(given.data), given.reason))


def _add_orders_about_messages(blueprint: Blueprint, admin: _Admin) -> None:
    office = admin.office

    @blueprint.post("/delete")
    @document_request(DeleteRequest)
    @document_response(ChangeOk, 200)
    async def delete() -> Response:
        """Delete a message's data, whatever the publisher."""
        operator = await admin.operator()
        given = await admin.order(DeleteRequest)
        return respond(await office.delete(operator, given.topic, given.seq, given.reason))

    @blueprint.post("/purge")
    @document_request(PurgeRequest)
    @document_response(Obeyed, 200)
    async def purge() -> Response:
        """Forget a topic's history for good, in the store and in the archive."""
        operator = await admin.operator()
        given = await admin.order(PurgeRequest)
        return respond(await office.purge(operator, given.topic, given.reason))


async def _revoke(
    office: Office, operator: Operator, until: float, given: RevokeRequest, *, now: float
) -> Obeyed:
    _exactly_one(jti=given.jti, user=given.user, kid=given.kid)
    if given.issued_before is not None and given.user is None:
        raise Invalid({"issued_before": "is for user only"})
    if given.jti is not None:
        return await office.revoke(operator, "tokens", given.jti, until, given.reason)
    if given.kid is not None:
        return await office.revoke(operator, "keys", given.kid, until, given.reason)
    at = int(now if given.issued_before is None else given.issued_before)
    return await office.revoke(operator, "issued", given.user or "", until, given.reason, at)


def _exactly_one(**fields: str | None) -> None:
    if sum(value is not None for value in fields.values()) != 1:
        raise Invalid({next(iter(fields)): f"give exactly one of {', '.join(fields)}"})


def _address(text: str | None) -> str | None:
    try:
        return text if text is None else listed_address(text)
    except ValueError as error:
        raise Invalid({"address": str(error)}) from None


def _ending(
    operator: Operator, office: Office, topic: str, reason: str, user: str | None = None
) -> Unsubscribe:
    return Unsubscribe(by=operator.name, reason=reason, until=office.once(), topic=topic, user=user)
