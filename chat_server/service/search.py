"""Search for messages by words, in topics that the actor may read."""

import asyncio
from typing import Any, Final

import msgspec

from ..events import Event, Kind
from ..protocol.codecs import JSON
from ..protocol.errors import BadRequest, ChatError, Internal, Unavailable
from ..protocol.searching import SearchHit, SearchOk, SearchQuery
from ..protocol.topics import check_topic
from ..realtime.encoding import encode_push
from ..realtime.searching import Hit, Search
from .actor import Actor
from .service import Service

MAX_TOPICS: Final = 100
"""Maximum number of topics for which one search asks the application's hooks."""

READ_AT_ONCE: Final = 100
"""Number of hits read in one query."""

LEAST_BYTES: Final = 4_096
"""Bytes charged for a search against `limits.read_bytes_per_second`, besides the read messages."""

SCANNED: Final = 2_000
"""Maximum number of hits read for one answer, with those that the actor may not read."""


async def search(service: Service, actor: Actor, query: SearchQuery) -> SearchOk:
    """Find messages in the topics where the actor has the grant `history`, the newest first.

    Raises:
        BadRequest: nothing is archived, or `q` has no word.
        Forbidden: the token does not grant `history` in the topic, or a hook refuses.
        RateLimited: the user has read too many bytes.
        Unavailable: the archive cannot be read now.
    """
    index = service.node.search
    if index is None:
        raise BadRequest("this server keeps no archive")
    if query.topic is not None:
        check_topic(query.topic)
        actor.require("history", query.topic)
        await service.admit(actor, query.topic, "search")
    words = index.words_of(query.q)
    if not words:
        raise BadRequest("q: must have a word")
    reader = _Reader(service, actor)
    async with service.node.read_rates.begin(actor.user) as reading:
        try:
            hits, before = await _find(index, reader, query, words)
        finally:
            # Messages that the actor may not read count too, and so does a search without hits.
            reading.charge(LEAST_BYTES + reader.read_bytes)
    found = []
    for hit in hits:
        event = Event(hit.topic, "", hit.id, Kind.MESSAGE, hit.payload)
        encoded = encode_push(JSON, event)
        if encoded is not None:
            message: Any = msgspec.Raw(encoded)
            # Only for the returned hits: a snippet of a long text takes milliseconds.
            found.append(SearchHit(hit.id, message, index.snippet(hit.text, words)))
        await asyncio.sleep(0)
    return SearchOk(hits=found, before=before)


class _Reader:
    """The searching actor, with the topics that the token and the hooks allow.

    Attributes:
        read_bytes: bytes of the messages read so far.
    """

    def __init__(self, service: Service, actor: Actor) -> None:
        self._service = service
        self._actor = actor
        self._known: dict[str, bool] = {}
        self.read_bytes = 0

    def knows(self, topic: str) -> bool:
        """Whether the hooks' decision about a topic is known, or one more decision is possible."""
        return topic in self._known or len(self._known) < MAX_TOPICS

    async def may_read(self, topic: str) -> bool:
        """Return whether the actor may read a topic.

        Raises:
            Unavailable, Internal: the hooks could not decide.
        """
        if not self._actor.may("history", topic):
            return False
        if self._service.gate is None:
            return True
        known = self._known.get(topic)
        if known is None:
            try:
                await self._service.admit(self._actor, topic, "search")
                known = True
            except (Unavailable, Internal):
                raise
            except ChatError:
                known = False
            self._known[topic] = known
        return known


async def _find(
    index: Search, reader: _Reader, query: SearchQuery, words: list[str]
) -> tuple[list[Hit], int | None]:
    """Return hits, and the id before which more hits may follow."""
    hits: list[Hit] = []
    before, scanned = query.before, 0
    while scanned < SCANNED:
        page = await index.find(
            words, topic=query.topic, user=query.user, before=before, limit=READ_AT_ONCE
        )
        reader.read_bytes += sum(len(hit.payload) for hit in page)
        for hit in page:
            if not reader.knows(hit.topic):
                return hits, before
            before = hit.id
            if await reader.may_read(hit.topic):
                hits.append(hit)
                if len(hits) == query.limit:
                    return hits, before
        scanned += len(page)
        if len(page) < READ_AT_ONCE:
            return hits, None
    return hits, before
