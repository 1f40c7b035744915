"""Read cursors in Redis: calls of the script, and the decoding of its replies."""

import asyncio
import math
import re
from asyncio import Future
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from typing import Any, Final, TypeVar

import msgspec

from ...cursors import KEPT_READERS, MAX_READERS, Reader, Unread
from ...settings import BrokerSettings
from ..common import failed, unavailable
from .feed import SCAN_COUNT, scanned
from .members import decode_message
from .pipeline import Pipeline, Script, pack
from .refusals import StoreRefuses
from .storage import Keyspace

T = TypeVar("T")

UNREAD: Final = Script("topic", "unread")

AT_ONCE: Final = 25
"""Topics per script: the call itself costs as much as reading a topic or two."""

_SPECIAL: Final = re.compile(r"[\\*?\[\]^-]")
_ESCAPED: Final = r"\\\g<0>"
"""Escapes the characters that SCAN would take for a pattern."""


class RedisCursors:
    """Keeps `realtime.ports.CursorStore` over one Redis server.

    Args:
        pipeline: the pipeline of publications, so that earlier publications are counted.
        names: names of keys.
        settings: lifetime of a cursor.
        reaches: returns whether the topic's server is believed to be reachable.
        reader: returns a pipeline other than that of publications.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        names: Keyspace,
        settings: BrokerSettings,
        reaches: Callable[[str], bool],
        reader: Callable[[], Pipeline],
    ) -> None:
        self._pipeline = pipeline
        self._names = names
        self._kept_ms = math.ceil(settings.position_seconds * 1_000)
        self._reaches = reaches
        self._reader = reader

    def move(
        self, topic: str, user: str, seq: int, epoch: str | None = None, *, shown: bool = False
    ) -> "Future[Unread]":
        """Move a user's cursor, in one script."""
        topics, decode = (topic,), partial(_first, topic)
        return self._call(topics, user, topics if shown else (), decode, seq, epoch or "")

    async def unread(
        self, topics: Sequence[str], user: str, shown: Collection[str] = ()
    ) -> list[Unread]:
        """Read a user's unread state; all topics leave in one pipeline."""
        found: dict[str, Unread] = {}
        left = list(topics)
        while left:
            chunks = [left[start : start + AT_ONCE] for start in range(0, len(left), AT_ONCE)]
            for chunk, answers in zip(
                chunks,
                await asyncio.gather(*(self.read(each, user, shown) for each in chunks)),
                strict=True,
            ):
                found.update(zip(chunk, answers, strict=False))
            # A script that has read many bytes leaves topics for the next call.
            left = [topic for topic in left if topic not in found]
        return [found[topic] for topic in topics]

    def read(
        self, topics: Sequence[str], user: str, shown: Collection[str] = ()
    ) -> "Future[list[Unread]]":
        """Read a user's unread state in topics of one hash slot, or of a server without slots.

        Args:
            topics: at most `AT_ONCE` topics.
            user: the reader.
            shown: the topics whose readers are read too.

        Returns:
            A future of the unread states, of the first of the topics or of all.
        """
        return self._call(topics, user, shown, partial(_all, topics))

    async def forget(self, user: str) -> None:
        """Scan the keys for cursors of a user, and delete all of them."""
        names = self._names
        front, end = f"{names.prefix}:{{", f"}}:read:{user}"
        pattern = f"{front}*{_SPECIAL.sub(_ESCAPED, end)}"
        step = b"0"
        while True:
            command = pack("SCAN", step, "MATCH", pattern, "COUNT", SCAN_COUNT)
            try:
                step, keys = await self._reader().send(command, scanned)
            except StoreRefuses as error:
                if error.refusal.status != "misconfigured":
                    raise
                return  # an ACL without SCAN, already logged: the cursors end by expiry
            for key in keys:
                name = key[len(front) : -len(end)]
                if "}" in name:
                    continue  # a key of another user or an idempotency key, with the same ending
                topic = names.keys(name)
                await asyncio.gather(
                    self._reader().send(pack("DEL", key), bool),
                    self._reader().send(pack("ZREM", topic.readers, user), bool),
                    self._reader().send(pack("ZREM", topic.read_at, user), bool),
                )
            if step == b"0":
                return

    def _call(
        self,
        topics: Sequence[str],
        user: str,
        shown: Collection[str],
        decode: Callable[[Any], T],
        seq: int | str = "",
        epoch: str = "",
    ) -> "Future[T]":
        if not all(map(self._reaches, topics)):
            return failed(unavailable())
        # The names are not sent unless readers are shown.
        whose = "".join("01"[topic in shown] for topic in topics)
        whose = whose if "1" in whose else ""
        keys: list[str] = []
        for topic in topics:
            of = self._names.keys(topic)
            keys += of.meta, of.messages, of.state, of.authors, self._names.cursor_key(topic, user)
            if whose:
                keys += of.readers, of.read_at
        newest = int(seq == "")
        arguments = (
            *(msgspec.json.encode(user), seq, self._kept_ms, newest, epoch),
            *(whose, user, MAX_READERS, KEPT_READERS),
        )
        return self._pipeline.call(UNREAD, keys, arguments, decode)


def _all(topics: Sequence[str], replies: list[Any]) -> list[Unread]:
    return [_unread(topic, reply) for topic, reply in zip(topics, replies, strict=False)]


def _first(topic: str, replies: list[Any]) -> Unread:
    return _unread(topic, replies[0])


def _unread(topic: str, reply: Any) -> Unread:
    cursor, seq, count, more, moved, epoch, newest, others = reply
    last = None if newest is None else decode_message(topic, epoch.decode(), newest)
    readers = None if others is None else tuple(_readers(others))
    return Unread(cursor, seq, count, more == 1, moved == 1, moved == 2, last, readers)


def _readers(others: list[Any]) -> Iterator[Reader]:
    places = iter(others)
    return (Reader(user.decode(), seq) for user, seq in zip(places, places, strict=True))
