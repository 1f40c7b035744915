"""The content of a probe: publications that run every command of the scripts."""

import asyncio
import secrets
from asyncio import Future
from collections.abc import Callable
from typing import Any, Final

from ...changes import Change, Reaction
from ...events import Kind, Retention
from ...protocol.errors import Unavailable
from .pipeline import Pipeline, pack
from .refusals import StoreRefuses
from .storage import Keyspace, Storage
from .subscriber import PubSubConnection

KEPT: Final = Retention(1, 60.0, 1)
"""Retention of the first two publications: the second replaces the first."""

NOT_KEPT: Final = Retention(0, 60.0)
"""Retention of the last publication: without history the script deletes the log."""

SCATTERED: Final = 64
"""Number of keys read to recognise a node of a cluster. A node with nine tenths of the slots is
missed one time in 800."""


class WriteProbe:
    """Publishes to keys of its own.

    Args:
        names: the names of keys and channels.
        storage: runs the scripts.
        publisher: the pipeline of all publications.
        reader: returns a pipeline for reads.
        subscriber: subscribes to the channel of the probe.
        sharded: True for a shard of a cluster, which serves only some slots.
    """

    def __init__(
        self,
        names: Keyspace,
        storage: Storage,
        publisher: Pipeline,
        reader: Callable[[], Pipeline],
        subscriber: PubSubConnection,
        *,
        sharded: bool,
    ) -> None:
        self._names = names
        self._storage = storage
        self._publisher = publisher
        self._reader = reader
        self._subscriber = subscriber
        self._sharded = sharded
        self.set_hash_tag("")

    def set_hash_tag(self, home: str) -> None:
        """Use `home` as the hash tag of the keys and the channel; "" for a tag of their own."""
        self.keys = self._names.own(home, f"probe:{secrets.token_hex(8)}")
        self._subscriber.set_probe_channel(self.keys.channel)

    def signal(self) -> "Future[bool]":
        """Send to the channel without storing anything."""
        command = pack(self._subscriber.publish, self.keys.channel, b"")
        return self._publisher.send(command, bool)

    async def publish(self) -> None:
        """Publish, and change the message, so that every command of the scripts runs.

        Raises:
            Unavailable: Redis is unavailable, or refuses (`StoreRefuses`).
        """
        for _ in range(2):
            place = await self._storage.publish_probe(self._publisher, self.keys, KEPT)
        for change in probe_changes(place.seq, KEPT):
            await self._storage.change(self._publisher, self.keys, change)
        await self._storage.publish_probe(self._publisher, self.keys, NOT_KEPT)

    async def publish_and_read(self) -> None:
        """Publish and read, and look for keys that another node of a cluster serves.

        Raises:
            Unavailable: Redis is unavailable, or refuses (`StoreRefuses`).
        """
        await self.publish()
        try:
            for newest in (False, True):
                await self._storage.history(self._reader(), "", self.keys, limit=1, newest=newest)
        except StoreRefuses:
            raise
        except Unavailable:
            pass  # one reading connection may be lost; the next probe uses another
        if not self._sharded:
            # One node of a cluster redirects some of these keys.
            keys = (self._names.keys(str(number)).once for number in range(SCATTERED))
            await asyncio.gather(*(self._publisher.send(pack("GET", key), bool) for key in keys))


def probe_changes(target: int, retention: Retention) -> tuple[Change, Change]:
    """Return a reaction to a message of a probe, and a deletion of the message."""
    common: dict[str, Any] = {
        "topic": "",
        "head": b"",
        "tail": b"",
        "retention": retention,
        "target": target,
        "author": None,
    }
    return (
        Reaction(kind=Kind.REACTION, user=b'""', emoji="+", **common),
        Change(kind=Kind.DELETED, **common),
    )
