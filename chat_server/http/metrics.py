"""`/metrics` for Prometheus: each worker answers with the numbers of all workers."""

import asyncio
import hmac
import math
import os
import platform
import time
from collections.abc import Awaitable, Callable

from quart import Blueprint, Response, request
from quart_schema import hide, security_scheme_blueprint
from werkzeug.datastructures import MIMEAccept

from ..auth.bearer import bearer_token
from ..metrics import process
from ..metrics.samples import Samples, labelled, observed, single
from ..protocol.errors import Unauthorized
from ..realtime.node import Node
from ..version import __version__
from .handshake_log import HandshakeLog

SHARED_SECONDS = 0.25
"""Seconds for which scrapes share one collection, because collecting asks all workers and no other
limit bounds scrapes. Plots have no more points."""


class Metrics:
    """The numbers of a worker, and access to the numbers of all workers.

    Args:
        node: the worker's node.
        handshakes: counts refused handshakes.

    Attributes:
        watch: measures the running process.
        totals: returns the samples of all workers; of this worker only, without a supervisor.
    """

    def __init__(self, node: Node, handshakes: HandshakeLog) -> None:
        self._node = node
        self._handshakes = handshakes
        self._started_at = time.time()
        self.watch = process.ProcessWatch(node.numbers)
        self.totals: Callable[[], Awaitable[Samples]] = self.own
        self._collecting = asyncio.Lock()
        self._collected_at = -math.inf
        self._recent: Samples = {}

    async def recent(self) -> Samples:
        """Return the samples of all workers, shared by scrapes within `SHARED_SECONDS`."""
        # Scrapes during a collection wait. If the collecting one is cancelled, the next collects.
        async with self._collecting:
            if time.monotonic() - self._collected_at >= SHARED_SECONDS:
                self._recent = await self.totals()
                self._collected_at = time.monotonic()
            return self._recent

    async def own(self) -> Samples:
        """Return the samples of this worker."""
        return {
            **self._connections(),
            **self._topics(),
            **self._messages(),
            **await self._store(),
            **await self._process(),
        }

    def _connections(self) -> Samples:
        numbers, registry = self._node.numbers, self._node.registry
        return {
            "chat_connections": labelled(numbers.connections.items()),
            "chat_connections_opened": labelled(numbers.opened.items()),
            "chat_connections_closed": labelled(numbers.closed.items()),
            "chat_handshakes_refused": labelled(self._handshakes.refused.items()),
            "chat_sockets_refused": single(numbers.sockets_refused),
            "chat_tokens_refused": labelled(numbers.tokens_refused.items()),
            "chat_users": single(registry.user_count),
            "chat_slow_readers": single(numbers.slow_readers),
            "chat_rate_limited": labelled(numbers.rate_limited.items()),
        }

    def _topics(self) -> Samples:
        numbers, node = self._node.numbers, self._node
        return {
            "chat_topics": single(node.hub.topic_count),
            "chat_subscriptions": single(node.hub.subscription_count),
            "chat_resumes": labelled(numbers.resumes.items()),
            "chat_replayed_events": single(numbers.replayed_events),
            "chat_gaps": labelled(numbers.gaps.items()),
        }

    def _messages(self) -> Samples:
        numbers = self._node.numbers
        commands = (
            ((str(kind.__struct_config__.tag), outcome), count)
            for (kind, outcome), count in numbers.commands.items()
        )
        return {
            "chat_messages_received": single(numbers.messages_received),
            "chat_received_bytes": single(numbers.received_bytes),
            "chat_messages_sent": single(numbers.messages_sent),
            "chat_sent_bytes": single(numbers.sent_bytes),
            "chat_deliveries": single(numbers.deliveries),
            "chat_delivered_bytes": single(numbers.delivered_bytes),
            "chat_publish_seconds": observed(numbers.publish_seconds),
            "chat_delivery_seconds": observed(numbers.delivery_seconds),
            "chat_commands": labelled(commands),
            "chat_hooks": labelled(numbers.hooks.items()),
            "chat_webhooks": labelled(numbers.webhooks.items()),
            "chat_errors": labelled(numbers.errors.items()),
            "chat_http_responses": labelled(numbers.http_responses.items()),
        }

    async def _store(self) -> Samples:
        numbers, outbox = self._node.numbers.store, self._node.outbox
        health = await self._node.broker.health(ping=False)
        return {
            "chat_store_up": single(health.status == "ok"),
            "chat_store_commands": single(numbers.commands),
            "chat_store_errors": labelled(numbers.errors.items()),
            "chat_store_seconds": observed(numbers.seconds),
            "chat_store_deaf_seconds": single(health.deaf_seconds),
            "chat_spooled": single(0 if outbox is None else outbox.spooled),
        }

    async def _process(self) -> Samples:
        numbers = self._node.numbers
        times = os.times()
        return {
            "chat_build_info": labelled([((__version__, platform.python_version()), 1)]),
            "chat_workers": single(1),
            "chat_loop_lag_seconds": observed(numbers.loop_lag_seconds),
            "chat_gc_seconds": labelled(enumerate(numbers.gc_seconds)),
            "chat_process_cpu_seconds": single(times.user + times.system),
            "chat_process_resident_bytes": single(process.resident_bytes()),
            "chat_process_open_files": single(await asyncio.to_thread(process.open_files)),
            "chat_process_start_seconds": labelled([(self._node.name, self._started_at)]),
        }


def metrics_blueprint(metrics: Metrics, token: str) -> Blueprint:
    """Return the route of the numbers.

    Args:
        metrics: the worker's metrics.
        token: the bearer token that requests need; empty for none.
    """
    # Imported here, because only servers with metrics need prometheus-client. An import at the
    # first scrape would hold the loop for 100 ms.
    from ..metrics.exposition import Pages

    pages = Pages()
    blueprint = Blueprint("chat_metrics", __name__)
    security_scheme_blueprint(blueprint, [])

    @blueprint.get("/metrics")
    @hide
    async def show() -> Response:
        """Return the numbers of all workers, in the text format of Prometheus or OpenMetrics."""
        if token:
            given = bearer_token(request.headers.getlist("Authorization"))
            if not hmac.compare_digest(given.encode(), token.encode()):
                raise Unauthorized("token: is not metrics.token")
        text, content_type = pages.of(await metrics.recent(), _preferred(request.accept_mimetypes))
        response = Response(text)
        # Quart would add its own charset.
        response.headers["Content-Type"] = content_type
        response.headers["Cache-Control"] = "no-store"
        return response

    return blueprint


def _preferred(accepted: MIMEAccept) -> str:
    """Return the formats of the highest weight as a header `Accept`.

    prometheus-client itself ignores weights, and sends OpenMetrics to clients that refuse it.
    """
    most = max((weight for _, weight in accepted), default=0)
    return ", ".join(kind for kind, weight in accepted if weight == most > 0)
