"""`/health` for operators, `/health/live` and `/health/ready` for what supervises the process."""

import msgspec
from msgspec import UNSET, UnsetType
from quart import Blueprint, Response
from quart_schema import document_response, security_scheme_blueprint

from ..auth.tokens import Verifier
from ..realtime.node import Node
from ..version import __version__


class Check(msgspec.Struct):
    """The state of one part that the server depends on.

    `latency_ms` is null if the part did not answer. `deaf_seconds` adds up the time in which the
    part stored publications and this worker did not receive them. `spooled` counts the publications
    that wait for the part, if some namespace spools.
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
    """One word: ok, draining, no_keys, deaf, unavailable, full, readonly or misconfigured."""

    status: str


def health_blueprint(node: Node, verifier: Verifier) -> Blueprint:
    """Return the routes for a worker's node and what verifies its tokens."""
    blueprint = Blueprint("chat_health", __name__)
    security_scheme_blueprint(blueprint, [])  # open to all

    @blueprint.get("/health")
    @document_response(Health, 200)
    @document_response(Health, 503)
    async def health() -> Response:
        """Return the state of the worker; 503 if the worker does not accept work."""
        broker = await _check_broker(node)
        status = _status(node, verifier, broker.status)
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
        """Return ok: the process answers."""
        return _answer(Status("ok"), "ok")

    @blueprint.get("/health/ready")
    @document_response(Status, 200)
    @document_response(Status, 503)
    async def ready() -> Response:
        """Return 200 if the worker accepts work, 503 while it drains, or cannot store or verify."""
        broker = await node.broker.health(ping=False)
        status = _status(node, verifier, broker.status)
        return _answer(Status(status), status)

    return blueprint


def _status(node: Node, verifier: Verifier, broker: str) -> str:
    if node.drain.announced:
        return "draining"
    if broker == "ok" and not verifier.has_keys:
        return "no_keys"
    return broker


async def _check_broker(node: Node) -> Check:
    health = await node.broker.health()
    latency = health.latency_seconds
    return Check(
        status=health.status,
        latency_ms=None if latency is None else round(latency * 1000, 3),
        deaf_seconds=round(health.deaf_seconds, 3),
        spooled=UNSET if node.outbox is None else node.outbox.spooled,
    )


def _answer(value: object, status: str) -> Response:
    response = Response(
        msgspec.json.encode(value),
        200 if status == "ok" else 503,
        content_type="application/json",
    )
    response.headers["Cache-Control"] = "no-store"
    return response
