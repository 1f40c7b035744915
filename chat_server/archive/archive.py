"""The archive of a server: writer, reader, search, and the steps at start and stop."""

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from ..database.database import Database
from ..events import Position, Retention
from ..protocol.errors import Unavailable
from ..realtime.ports import Broker
from ..settings import Settings
from .deep_log import DeepLog
from .keeping import expire
from .keeping_cursors import CursorKeeper
from .purging import purge
from .reader import ArchiveReader
from .restoring import Restorable, note_end, restore
from .search import ArchiveSearch
from .writer import ArchiveWriter

logger = logging.getLogger(__name__)

EXPIRE_SECONDS: Final = 600.0
"""Seconds between two deletions of messages older than `archive_seconds`."""

RESTORED_CURSORS: Final = 100_000
"""Read cursors restored into the memory broker, as many as the broker keeps."""


class Archive:
    """Every stored event of namespaces with `archive`, in the database.

    Args:
        settings: the server's settings.
        database: the database.
        broker: stores events.

    Attributes:
        reader: reads the archive.
        log: the log with the archive below.
        search: finds messages.
        writer: consumes the log.
    """

    def __init__(self, settings: Settings, database: Database, broker: Broker) -> None:
        self._settings = settings
        self._database = database
        self._broker = broker
        self.reader = ArchiveReader(database)
        self.search = ArchiveSearch(database)
        self.log = DeepLog(broker, self.reader, self.covers)
        self.writer = ArchiveWriter(database, self.covers)
        self._restored = False
        self._keeper: CursorKeeper | None = None
        self._expiring: asyncio.Task[None] | None = None

    def covers(self, topic: str) -> bool:
        """Return True if a topic is archived."""
        return self._settings.namespace(topic).archive

    async def restore(self, retention: Callable[[str], Retention]) -> None:
        """Restore topics and cursors into the memory broker, before any event is stored."""
        if not isinstance(self._broker, Restorable):
            return
        most = self._settings.broker.memory_max_topics
        try:
            await restore(self._database, self._broker, retention, max_topics=most)
            keeper = CursorKeeper(
                *(self._database, self._broker.cursors, self.covers, RESTORED_CURSORS)
            )
            await keeper.restore()
            self._keeper, self._restored = keeper, True
        except Unavailable:
            logger.warning("topics begin anew: the database has not been reached")

    async def purge(self, topic: str, place: Position) -> None:
        """Delete a topic's events up to a position that begins an epoch.

        Raises:
            Unavailable: the database cannot be used; a part may be deleted.
        """
        await purge(self._database, topic, place, create=self.covers(topic))

    def start(self, is_leading: Callable[[], bool]) -> None:
        """Begin to delete old messages and to write cursors.

        Args:
            is_leading: returns True if this process runs the consumers of the log.
        """
        if self._keeper is not None:
            self._keeper.start()
        if any(each.archive_seconds for each in self._settings.namespaces.values()):
            self._expiring = asyncio.create_task(self._expire(is_leading), name="archive retention")

    async def _expire(self, is_leading: Callable[[], bool]) -> None:
        """Delete old messages periodically, in the process that runs the consumers."""
        while True:
            await asyncio.sleep(EXPIRE_SECONDS)
            if not is_leading():
                continue
            with suppress(Unavailable):
                await expire(self._database, self._lifetime, time.time())

    def _lifetime(self, topic: str) -> float:
        return self._settings.namespace(topic).archive_seconds

    async def stop(self, *, whole: bool) -> None:
        """Note the end of the process, after the last event is stored.

        Args:
            whole: True if every stored event is archived.
        """
        if self._expiring is not None:
            self._expiring.cancel()
            await asyncio.wait([self._expiring])
        if self._keeper is not None:
            await self._keeper.stop()
        if whole and self._restored:
            with suppress(Unavailable):  # Then the next start begins new epochs.
                await note_end(self._database)
