"""The consumers of the log (the archive and the webhooks), in one process at a time."""

from typing import TYPE_CHECKING, Final

from .archive.archive import Archive
from .clock import Clock
from .consumers.ports import Consumer
from .consumers.runner import LEASE_SECONDS, Consumers
from .database.database import Database
from .database.leases import Lease
from .metrics.numbers import Numbers
from .realtime.ports import Broker, Feed
from .settings import Settings, SettingsError

if TYPE_CHECKING:
    from .webhooks.webhooks import Webhooks

DRAIN_SECONDS: Final = 5.0
"""Maximum seconds to archive and send stored events when the process ends."""


class Following:
    """The archive and the webhooks of a server, if its settings have any.

    Args:
        settings: the server's settings.
        database: keeps the position of each consumer.
        broker: has the log.
        clock: the clock for times of day.
        name: this worker's name for other workers.
        numbers: the worker's counters.

    Raises:
        SettingsError: the broker has no feed.

    Attributes:
        archive: keeps stored events in the database; None if no namespace is archived.
    """

    def __init__(
        self,
        settings: Settings,
        database: Database,
        broker: Broker,
        clock: Clock,
        name: str,
        numbers: Numbers,
    ) -> None:
        if not isinstance(broker, Feed):
            raise SettingsError("namespaces: archive and webhooks need a broker with a feed")
        self.archive = Archive(settings, database, broker) if settings.has_archive else None
        self._webhooks = _make_webhooks(settings, database, clock, numbers)
        consumers: list[Consumer] = [] if self.archive is None else [self.archive.writer]
        if self._webhooks is not None:
            consumers += self._webhooks.consumers
        lease = Lease(database, "consumers", name, LEASE_SECONDS)
        deep = None if self.archive is None else self.archive.log
        shared = bool(settings.redis.url)
        self._consumers = Consumers(broker, broker.feed, lease, consumers, deep, is_shared=shared)

    def start(self) -> None:
        """Begin to follow, unless another worker does."""
        self._consumers.start()
        if self.archive is not None:
            self.archive.start(lambda: self._consumers.is_leading)

    async def stop(self) -> None:
        """Let consumers take the stored events, and another worker go on; store no more events."""
        drained = await self._consumers.stop(DRAIN_SECONDS)
        if self._webhooks is not None:
            await self._webhooks.stop()
        if self.archive is not None:
            await self.archive.stop(whole=self.archive.writer in drained)


def _make_webhooks(
    settings: Settings, database: Database, clock: Clock, numbers: Numbers
) -> "Webhooks | None":
    if not settings.webhooks:
        return None
    # Imported here, because a server without webhooks neither waits for httpcore nor holds it.
    from .webhooks.webhooks import Webhooks

    return Webhooks(settings, database, clock, numbers.webhooks)
