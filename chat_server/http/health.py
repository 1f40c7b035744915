"""`/health` for operators, `/health/live` and `/health/ready` for what supervises the process."""

import msgspec
from quart import Blueprint, Response
from quart_schema import document_response, security_scheme_blueprint

from .. import __version__
from ..protocol.errors import ChatError
from ..realtime.node import Node


class Check(msgspec.Struct):
    """One part the server depends on; `latency_ms` is null when it did not answer."""

    status: str
    latency_ms: float | None


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
    """One word: ok, draining or unavailable."""

    status: str


def health_blueprint(node: Node) -> Blueprint:
    """Return the routes for a worker's node."""
    blueprint = Blueprint("chat_health", __name__)
    security_scheme_blueprint(blueprint, [])  # open to all

    @blueprint.get("/health")
    @document_response(Health, 200)
    @document_response(Health, 503)
    async def health() -> Response:
        """Tell how the worker is doing; 503 when it does not accept work."""
        broker = await _check_broker(node)
        status = "draining" if node.draining else broker.status
        return _answer(
            Health(
                status=status,
                version=__version__,
                uptime_seconds=round(node.clock.monotonic() - node.started_at, 3),
                node=node.name,
                connections=node.connection_count,
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
        """Tell whether the worker accepts work: not while it drains or cannot reach the broker."""
        status = _readiness(node)
        return _answer(Status(status), status)

    return blueprint


async def _check_broker(node: Node) -> Check:
    try:
        latency = await node.broker.ping()
    except ChatError:
        return Check("unavailable", None)
    return Check("ok" if node.broker.available else "unavailable", round(latency * 1000, 3))


def _readiness(node: Node) -> str:
    if node.draining:
        return "draining"
    return "ok" if node.broker.available else "unavailable"


def _answer(value: object, status: str) -> Response:
    response = Response(
        msgspec.json.encode(value),
        200 if status == "ok" else 503,
        content_type="application/json",
    )
    response.headers["Cache-Control"] = "no-store"
    return response
