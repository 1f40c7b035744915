"""`/health` for operators, `/health/live` and `/health/ready` for what supervises the process."""

from typing import Protocol

import msgspec
from msgspec import UNSET, UnsetType
from quart import Blueprint, Response
from quart_schema import document_response, security_scheme_blueprint

from ..protocol.errors import ChatError
from ..realtime.node import Node
from ..version import __version__


class Check(msgspec.Struct):
    """One part the server depends on.

    `latency_ms` is null when it did not answer; `deaf_seconds` is how long, in all, it took what
    was published and this worker did not hear it; `spooled` counts the publications that are kept
    until it is back, where some namespace has that.
    """

    status: str
    latency_ms: float | None
    deaf_seconds: float
    spooled: int | UnsetType = UNSET


class Health(msgspec.Struct):
    """The state of the worker that answered."""

    status: str
    version: str
    uptime_seconds: float
    node: str
    connections: int
    topics: int
    checks: dict[str, Check]


class Status(msgspec.Struct):
    """One word: ok, draining, deaf, unavailable, full, readonly or misconfigured."""

    status: str


class Spool(Protocol):
    """What keeps publications while the broker is away."""

    @property
    def spooled(self) -> int:
        """How many there are."""
        ...


def health_blueprint(node: Node, spool: Spool | None = None) -> Blueprint:
    """Return the routes for a worker's node."""
    blueprint = Blueprint("chat_health", __name__)
    security_scheme_blueprint(blueprint, [])  # open to all

    @blueprint.get("/health")
    @document_response(Health, 200)
    @document_response(Health, 503)
    async def health() -> Response:
        """Tell how the worker is doing; 503 when it does not accept work."""
        broker = await _check_broker(node)
        if spool is not None:
            broker.spooled = spool.spooled
        status = "draining" if node.drain.announced else broker.status
        return _answer(
            Health(
                status=status,
                version=__version__,
                uptime_seconds=round(node.clock.monotonic() - node.started_at, 3),
                node=node.name,
                connections=len(node.registry),
                topics=node.hub.topic_count,
                checks={"broker": broker},
            ),
            status,
        )

    @blueprint.get("/health/live")
    @document_response(Status, 200)
    async def live() -> Response:
        """Tell that the process answers."""
        return _answer(Status("ok"), "ok")

    @blueprint.get("/health/ready")
    @document_response(Status, 200)
    @document_response(Status, 503)
    async def ready() -> Response:
        """Tell whether the worker accepts work: not while it drains or nothing can be stored."""
        status = "draining" if node.drain.announced else node.broker.status
        return _answer(Status(status), status)

    return blueprint


async def _check_broker(node: Node) -> Check:
    deaf_seconds = round(node.broker.deaf_seconds, 3)
    try:
        latency = await node.broker.ping()
    except ChatError:
        status = node.broker.status
        return Check("unavailable" if status == "ok" else status, None, deaf_seconds)
    return Check(node.broker.status, round(latency * 1000, 3), deaf_seconds)


def _answer(value: object, status: str) -> Response:
    response = Response(
        msgspec.json.encode(value),
        200 if status == "ok" else 503,
        content_type="application/json",
    )
    response.headers["Cache-Control"] = "no-store"
    return response
