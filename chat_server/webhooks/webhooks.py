"""All endpoints of a server."""

import asyncio
from collections import Counter

import httpcore

from ..clock import Clock
from ..consumers.ports import Consumer
from ..database.database import Database
from ..settings import Settings
from .endpoint import Endpoint
from .lane import Lane
from .sending import Sender
from .store import WebhookStore


class Webhooks:
    """The endpoints of a server, as consumers of the log.

    Args:
        settings: the server's settings.
        database: has the cursors of each endpoint.
        clock: for times of day.
        counts: counts requests by the name of the webhook and their outcome.

    Attributes:
        consumers: the lanes; one for each concurrent request.
    """

    def __init__(
        self,
        settings: Settings,
        database: Database,
        clock: Clock,
        counts: Counter[tuple[str, str]],
    ) -> None:
        # Reads the files of trusted certificate authorities. SSL_CERT_FILE names further
        # authorities.
        tls = httpcore.default_ssl_context()
        store = WebhookStore(database)
        self._endpoints = [
            Endpoint(
                name,
                each,
                store,
                Sender(each, tls),
                clock,
                keep_seconds=settings.broker.position_seconds,
                counts=counts,
            )
            for name, each in settings.webhooks.items()
        ]

        def keeps(topic: str) -> bool:
            return settings.namespace(topic).history_size > 0

        self.consumers: list[Consumer] = [
            Lane(endpoint, number, endpoint.settings.max_requests, keeps)
            for endpoint in self._endpoints
            for number in range(endpoint.settings.max_requests)
        ]

    async def stop(self) -> None:
        """Close the connections after the end of the consumers."""
        await asyncio.gather(*(endpoint.close() for endpoint in self._endpoints))
