"""`/health` for operators, `/health/live` and `/health/ready` for supervisors."""

import os
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime

import msgspec
from msgspec import UNSET, Struct, UnsetType
from quart import Blueprint, Response, request
from quart_schema import document_response, security_scheme_blueprint

from ..auth.tokens import Verifier
from ..protocol.errors import BadRequest, NotFound
from ..realtime.node import Node
from ..version import __version__

CLOCK_SECONDS = 1.0
"""Seconds by which the worker's clock and the store's may differ. The worker's judges tokens, the
store's dates messages."""

CERTIFICATE_DAYS = 14.0
"""Days before the end of a certificate at which warnings begin."""

SILENT = "silent"
"""The status of a worker that does not answer its supervisor."""

DRAINING = "draining"

NO_KEYS = "no_keys"


class BrokerCheck(Struct):
    """The store.

    `reason` says what an operator can do if the store accepts nothing. `latency_ms` is null without
    an answer. `deaf_seconds` adds up the time in which the store accepted publications and this
    worker did not receive them. `spooled` counts the publications that wait for the store, if some
    namespace spools.
    """

    status: str
    latency_ms: float | None
    deaf_seconds: float
    spooled: int | UnsetType = UNSET
    reason: str | UnsetType = UNSET


class ClockCheck(Struct):
    """The worker's clock beside the store's: ok or apart. `ahead_ms` may be below 0."""

    status: str
    ahead_ms: float


class CertificateCheck(Struct):
    """The server's own certificate: ok, ends_soon or ended."""

    status: str
    ends_at: str


class Checks(Struct):
    """The dependencies of a worker; absent ones are left out."""

    broker: BrokerCheck
    clock: ClockCheck | UnsetType = UNSET
    certificate: CertificateCheck | UnsetType = UNSET


class WorkerHealth(Struct):
    """The state of a worker; a worker that does not answer (`silent`) has no further fields."""

    worker: int
    status: str
    node: str | UnsetType = UNSET
    pid: int | UnsetType = UNSET
    uptime_seconds: float | UnsetType = UNSET
    connections: int | UnsetType = UNSET
    topics: int | UnsetType = UNSET
    checks: Checks | UnsetType = UNSET


class Health(Struct):
    """The state of the server.

    `status` comes from the first worker that is not ok; draining workers count once all drain.
    `node`, `uptime_seconds` and `checks` come from the worker that answered. `connections` and
    `topics` are sums: a topic counts in each worker with subscribers. `warnings` has sentences for
    an operator.
    """

    status: str
    version: str
    uptime_seconds: float
    node: str
    connections: int
    topics: int
    checks: Checks
    warnings: list[str]
    workers: list[WorkerHealth]


class Status(Struct):
    """One word: ok, draining, no_keys, deaf, unavailable, full, readonly or misconfigured."""

    status: str


class Vitals:
    """The state of a worker, and access to the state of all workers.

    Args:
        node: the worker's node.
        verifier: the verifier of tokens.

    Attributes:
        number: the worker's number in its server.
        certificate_ends_at: seconds since 1970, if the server has a certificate of its own.
        others: returns the state of the server's other workers, by way of the supervisor.
    """

    def __init__(self, node: Node, verifier: Verifier) -> None:
        self._node = node
        self._verifier = verifier
        self.number = 1
        self.certificate_ends_at: float | None = None
        self.others: Callable[[], Awaitable[Sequence[WorkerHealth]]] = _nobody

    def status(self, broker: str) -> str:
        """Return the worker's status, given the status of its broker."""
        if self._node.drain.announced:
            return DRAINING
        if broker == "ok" and not self._verifier.has_keys:
            return NO_KEYS
        return broker

    async def ready(self) -> str:
        """Return the worker's status without asking the store."""
        return self.status((await self._node.broker.health(ping=False)).status)

    async def own(self) -> WorkerHealth:
        """Return the state of this worker; asks the store."""
        checks = await self._checks()
        return WorkerHealth(
            worker=self.number,
            status=self.status(checks.broker.status),
            node=self._node.name,
            pid=os.getpid(),
            uptime_seconds=round(self._node.clock.monotonic() - self._node.started_at, 3),
            connections=len(self._node.registry),
            topics=self._node.hub.topic_count,
            checks=checks,
        )

    async def _checks(self) -> Checks:
        node = self._node
        health = await node.broker.health()
        latency, ahead = health.latency_seconds, health.clock_ahead_seconds
        broker = BrokerCheck(
            status=health.status,
            latency_ms=None if latency is None else round(latency * 1000, 3),
            deaf_seconds=round(health.deaf_seconds, 3),
            spooled=UNSET if node.outbox is None else node.outbox.spooled,
            reason=health.reason or UNSET,
        )
        clock: ClockCheck | UnsetType = UNSET
        if ahead is not None:
            apart = abs(ahead) > CLOCK_SECONDS + (latency or 0.0) / 2
            clock = ClockCheck("apart" if apart else "ok", round(ahead * 1000, 1))
        return Checks(broker, clock, self._certificate())

    def _certificate(self) -> CertificateCheck | UnsetType:
        if self.certificate_ends_at is None:
            return UNSET
        days = (self.certificate_ends_at - self._node.clock.time()) / 86_400
        word = "ok" if days > CERTIFICATE_DAYS else "ends_soon" if days > 0 else "ended"
        moment = datetime.fromtimestamp(self.certificate_ends_at, UTC)
        return CertificateCheck(word, f"{moment:%Y-%m-%dT%H:%M:%SZ}")


async def _nobody() -> Sequence[WorkerHealth]:
    return ()


def health_blueprint(vitals: Vitals) -> Blueprint:
    """Return the routes for a worker."""
    blueprint = Blueprint("chat_health", __name__)
    security_scheme_blueprint(blueprint, [])  # open to all

    @blueprint.get("/health")
    @document_response(Health, 200)
    @document_response(Health, 503)
    async def health() -> Response:
        """Return the state of all workers, or of `?worker=N`; 503 if one does not accept work."""
        asked = _asked_worker(request.args.get("worker"))
        own = await vitals.own()
        workers = [own]
        if asked != own.worker:
            workers = sorted([own, *await vitals.others()], key=lambda worker: worker.worker)
        if asked is not None:
            workers = [worker for worker in workers if worker.worker == asked]
            if not workers:
                raise NotFound(f"worker: there is no worker {asked}")
        told = _summary(own, workers)
        return _answer(told, told.status)

    @blueprint.get("/health/live")
    @document_response(Status, 200)
    async def live() -> Response:
        """Return ok: the process answers."""
        return _answer(Status("ok"), "ok")

    @blueprint.get("/health/ready")
    @document_response(Status, 200)
    @document_response(Status, 503)
    async def ready() -> Response:
        """Return 200 if the worker accepts work, 503 if draining or unable to store or verify."""
        status = await vitals.ready()
        return _answer(Status(status), status)

    return blueprint


def _asked_worker(text: str | None) -> int | None:
    if text is None:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) < 10):
        raise BadRequest("worker: must be the number of a worker")
    return int(text)


def _summary(own: WorkerHealth, workers: Sequence[WorkerHealth]) -> Health:
    # With `?worker=` the asked worker speaks, if it answers.
    speaker = next((each for each in workers if each.worker == own.worker), workers[0])
    if speaker.checks is UNSET:
        speaker = own
    assert not isinstance(speaker.checks, UnsetType)  # noqa: S101 - it answers
    words = [each.status for each in workers if each.status != DRAINING] or [DRAINING]
    return Health(
        status=next((word for word in words if word != "ok"), "ok"),
        version=__version__,
        uptime_seconds=speaker.uptime_seconds or 0.0,
        node=speaker.node or "",
        connections=sum(each.connections or 0 for each in workers),
        topics=sum(each.topics or 0 for each in workers),
        checks=speaker.checks,
        warnings=[line for each in workers for line in _warnings(each)],
        workers=list(workers),
    )


def _warnings(worker: WorkerHealth) -> list[str]:
    name = f"worker {worker.worker}"
    if worker.status == SILENT:
        return [f"{name} does not answer"]
    checks = worker.checks
    if isinstance(checks, UnsetType):
        return []
    lines = []
    if worker.status == NO_KEYS:
        lines.append(f"{name}: no keys of auth.jwks_url have come yet, and no token is accepted")
    if checks.broker.status == "deaf":
        lines.append(f"{name}: what is published does not come back from the store")
    elif checks.broker.status != "ok":
        reason = f": {checks.broker.reason}" if checks.broker.reason else ""
        lines.append(f"{name}: the store is {checks.broker.status}{reason}")
    if checks.clock and checks.clock.status != "ok":
        seconds = checks.clock.ahead_ms / 1000
        side = "ahead of" if seconds > 0 else "behind"
        lines.append(f"{name}: the clock is {abs(seconds):.1f} s {side} the store's")
    if checks.certificate and checks.certificate.status != "ok":
        ends = "ended" if checks.certificate.status == "ended" else "ends"
        lines.append(f"{name}: the certificate {ends} on {checks.certificate.ends_at}")
    return lines


def _answer(value: object, status: str) -> Response:
    response = Response(
        msgspec.json.encode(value),
        200 if status == "ok" else 503,
        content_type="application/json",
    )
    response.headers["Cache-Control"] = "no-store"
    return response
