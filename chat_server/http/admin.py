"""`/api/admin/…`: what operators ask and order."""

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
    """Until when, in seconds since 1970, or for how many seconds: one of the two."""

    user: Name
    reason: Reason
    until: Moment | None = None
    seconds: Seconds | None = None


class UnblockRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The user may come back."""

    user: Name
    reason: Reason


class RevokeRequest(msgspec.Struct, forbid_unknown_fields=True):
    """A token by its `jti`, all of a `user` or all of a key by its `kid`: one of the three.

    Args:
        reason: why.
        jti: the token's name.
        user: whose tokens.
        issued_before: with `user`: seconds since 1970; up to now if it is left out.
        kid: the key's name.
        seconds: how long that is remembered: by then all such tokens must have expired. A year, if
            it is left out.
    """

    reason: Reason
    jti: Name | None = None
    user: Name | None = None
    issued_before: Moment | None = None
    kid: Name | None = None
    seconds: Seconds | None = None


class DisconnectRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The connections of a `user`, of an `address`, or of one `session`: one of the three."""

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
    """Subscriptions end at once; nobody may use the topic for so many `seconds`, if it is given."""

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
    """Who sends the current request, and what the request says.

    Args:
        service: verifies tokens, and knows the time.
        office: carries it out.

    Attributes:
        max_bytes: how long a request with `data` may be.
        office: carries it out.
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
            Unauthorized: there is no valid token.
            Forbidden: it has no grant `admin`.
            RateLimited: the user has sent too many messages and requests.
        """
        actor = await actor_of_request(self._service)
        self._service.limit_requests(actor)
        return operator_of(actor)

    async def order(self, kind: type[T], max_bytes: int = MAX_BYTES) -> T:
        """Return what the current request orders, which has a reason.

        Raises:
            BadRequest, TooLarge, RequestTimeout: as of `read_fields`.
            Invalid: likewise, or the reason says nothing.
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
        """Return when something ends.

        Raises:
            Invalid: neither is given, or both, or it is over.
        """
        if (until is None) == (seconds is None):
            raise Invalid({"until": "give either this or seconds"})
        ends = until if until is not None else self.now() + (seconds or 0.0)
        if ends <= self.now():
            raise Invalid({"until": "is in the past"})
        return ends

    def data(self, value: object) -> Raw:
        """Return the JSON text of what is announced.

        Raises:
            BadRequest: it has no JSON form that all clients can read.
            TooLarge: it has more bytes than a message may have.
        """
        encoded = msgspec.json.encode(value)
        JSON.check_data(encoded)
        if len(encoded) > self._data_bytes:
            raise TooLarge(f"data: may have {self._data_bytes} bytes of JSON")
        return Raw(encoded)


def admin_blueprint(service: Service, office: Office) -> Blueprint:
    """Return the routes, for a worker.

    Args:
        service: the worker's.
        office: the worker's.
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
        """Say what became of an event: who heard it, and what a user's connections were sent."""
        operator = await admin.operator()
        return respond(await office.explain(operator, read_query(ExplainQuery)))

    @blueprint.get("/connections/<session>")
    @document_response(ConnectionView, 200)
    async def connection(session: str) -> Response:
        """Read all there is to know of a connection."""
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
        """List who or what is kept out."""
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
        """Accept tokens no more, and close their connections."""
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
        """Send something to everybody who is connected."""
        operator = await admin.operator()
        given = await admin.order(AnnounceRequest, admin.max_bytes)
        return respond(await office.announce(operator, admin.data(given.data), given.reason))


def _add_orders_about_messages(blueprint: Blueprint, admin: _Admin) -> None:
    office = admin.office

    @blueprint.post("/delete")
    @document_request(DeleteRequest)
    @document_response(ChangeOk, 200)
    async def delete() -> Response:
        """Take a message's data away, whoever published it."""
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
