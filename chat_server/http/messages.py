"""`/api/topics/{topic}/…`: messages and their changes, and presence."""

from functools import partial
from typing import Annotated, Any, Literal

import msgspec
from quart import Blueprint, Response, g, request
from quart.typing import ResponseTypes
from quart_schema import document_querystring, document_request, document_response

from ..events import Seq
from ..protocol.batch import BATCH_PATH, MAX_BATCH, BatchOk
from ..protocol.commands import (
    DEFAULT_HISTORY,
    DEFAULT_PRESENCE,
    History,
    HistoryLimit,
    Key,
    Presence,
    PresenceLimit,
    Publish,
    Subscribe,
    UserName,
)
from ..protocol.messages import (
    HistoryOk,
    PositionOk,
    PresenceOk,
    PublishOk,
)
from ..realtime.node import Node
from ..service.actor import Actor
from ..service.history import position as read_position
from ..service.service import Service
from .calling import add_call_route
from .changes import add_change_routes
from .commands import RequestCommands, publish_status, respond
from .quota import quota_headers
from .searching import add_search_route

PATH = "/api/topics/<path:topic>/messages"
PRESENCE_PATH = "/api/topics/<path:topic>/presence"


class PublishRequest(msgspec.Struct):
    """`data` is any JSON value; `key` makes a repetition within five minutes a duplicate."""

    data: Any
    key: Key | None = None
    state: Literal["streaming"] | None = None


class BatchItem(PublishRequest, kw_only=True):
    """A message for `topic`; the other fields are as in a publication."""

    topic: str


class BatchRequest(msgspec.Struct):
    """Messages for one or several topics."""

    messages: Annotated[list[BatchItem], msgspec.Meta(min_length=1, max_length=MAX_BATCH)]


class HistoryQuery(msgspec.Struct):
    """Messages before or after a seq, or the newest.

    Args:
        before: only messages with a smaller seq, the newest of them; not together with `after`.
        after: only messages with a larger seq, the oldest of them.
        limit: maximum number of messages.
    """

    before: Seq | None = None
    after: Seq | None = None
    limit: HistoryLimit = DEFAULT_HISTORY


class PresenceQuery(msgspec.Struct):
    """Users who are there, in the order of their names.

    Args:
        after: the user before the page.
        limit: maximum number of users.
    """

    after: UserName | None = None
    limit: PresenceLimit = DEFAULT_PRESENCE


def messages_blueprint(service: Service) -> Blueprint:
    """Return the routes, for a worker's service."""
    blueprint = Blueprint("chat_messages", __name__)
    commands = RequestCommands(service)

    @blueprint.post(PATH)
    @document_request(PublishRequest)
    @document_response(PublishOk, 201)
    @document_response(PublishOk, 200)
    async def publish(topic: str) -> Response:
        """Publish a message.

        201 for a newly stored message; 200 for a duplicate, whose `key` repeats an earlier one.
        """
        ok: PublishOk = await commands.run(Publish, topic)
        return respond(ok, publish_status(ok))

    @blueprint.post(BATCH_PATH)
    @document_request(BatchRequest)
    @document_response(BatchOk, 200)
    async def publish_many() -> Response:
        """Publish up to 1,000 messages; each is stored or fails alone.

        `results` has one entry for each message, in the same order: a position or an error.
        """
        return respond(await commands.run_batch())

    @blueprint.get(PATH)
    @document_querystring(HistoryQuery)
    @document_response(HistoryOk, 200)
    async def history(topic: str) -> Response:
        """Read stored messages."""
        return respond(await commands.run(History, topic))

    @blueprint.get(PRESENCE_PATH)
    @document_querystring(PresenceQuery)
    @document_response(PresenceOk, 200)
    async def presence(topic: str) -> Response:
        """Read the users present in a topic, if the namespace has presence."""
        return respond(await commands.run(Presence, topic))

    @blueprint.get("/api/topics/<path:topic>/position")
    @document_response(PositionOk, 200)
    async def position(topic: str) -> Response:
        """Read the last seq of a topic, to subscribe from there."""
        return respond(await commands.ask(Subscribe, topic, read_position))

    for add_routes in (add_change_routes, add_call_route, add_search_route):
        add_routes(blueprint, commands)
    blueprint.after_request(partial(_add_headers, service.node))
    return blueprint


async def _add_headers(node: Node, response: ResponseTypes) -> ResponseTypes:
    actor: Actor | None = g.get("actor")
    if actor is not None:
        response.headers.extend(quota_headers(node.message_rates, actor, node.clock.monotonic()))
    if node.drain.announced and request.http_version.startswith("1"):
        # The next request might find the connection closed.
        response.headers["Connection"] = "close"
    return response
