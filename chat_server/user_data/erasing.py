"""Erasure in the store, by the same commands as a moderator's.

`archive.keeping` erases the archive. The archive knows the author of each message. Messages of
topics without an archive expire after `history_seconds`.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from typing import Any, Final

import msgspec
from sqlalchemy import Row, Select, select

from ..archive.tables import MESSAGES, TOPICS
from ..database.database import Database
from ..protocol.commands import Delete, React
from ..protocol.errors import Gone, NotFound
from ..protocol.messages import User
from ..service.actor import Application
from ..service.publishing import command_of
from ..service.service import Service

ROWS_AT_ONCE: Final = 200

_reactions = msgspec.json.Decoder(list[tuple[str, int, list[str]]]).decode
_current = MESSAGES.c.era == TOPICS.c.era
_joined = (TOPICS.c.id == MESSAGES.c.topic_id) & _current


async def erase_in_store(service: Service, database: Database, user: str) -> None:
    """Delete the user's messages in the store, and remove the user's reactions.

    Raises:
        Unavailable: the database or the store is down; another call deletes the rest.
    """
    mine = (
        select(TOPICS.c.id, TOPICS.c.name, TOPICS.c.epoch)
        .join(MESSAGES, _joined)
        .where(MESSAGES.c.author == user, MESSAGES.c.content > 0)
        .distinct()
    )
    async for topic in _pages(database, mine, TOPICS.c.id):
        await _erase_topic(service, database, user, topic)
    reacted = (
        select(MESSAGES.c.id, MESSAGES.c.seq, MESSAGES.c.reactions, TOPICS.c.name, TOPICS.c.epoch)
        .join(TOPICS, _joined)
        .where(MESSAGES.c.reactions.is_not(None))
    )
    async for message in _pages(database, reacted, MESSAGES.c.id):
        for emoji, _, users in _reactions(message.reactions):
            if user in users:
                await _take_back(service, user, message, emoji)


async def _erase_topic(service: Service, database: Database, user: str, topic: Row[Any]) -> None:
    """Delete the user's messages of a topic in the store, the newest first."""
    place = (MESSAGES.c.topic_id == topic.id, MESSAGES.c.author == user, MESSAGES.c.content > 0)
    query = (
        select(MESSAGES.c.seq)
        .join(TOPICS, _joined)
        .where(*place)
        .order_by(MESSAGES.c.seq.desc())
        .limit(ROWS_AT_ONCE)
    )
    before: int | None = None
    while True:
        page = query if before is None else query.where(MESSAGES.c.seq < before)
        async with database.session(read_only=True) as session:
            seqs: Sequence[int] = (await session.scalars(page)).all()
        for seq in seqs:
            command = command_of(Delete, topic.name, seq=seq, epoch=topic.epoch)
            try:
                await service.perform(Application(), command)
            except Gone:
                continue
            except NotFound:
                return  # The store evicts the oldest first, so older messages are gone as well.
        if len(seqs) < ROWS_AT_ONCE:
            return
        before = seqs[-1]


async def _take_back(service: Service, user: str, message: Row[Any], emoji: str) -> None:
    place = {"seq": message.seq, "epoch": message.epoch}
    command = command_of(React, message.name, emoji=emoji, remove=True, **place)
    with suppress(Gone, NotFound):
        await service.perform(Application(User(user)), command)


async def _pages(database: Database, query: Select[Any], key: Any) -> AsyncIterator[Row[Any]]:
    last = 0
    while True:
        page = query.where(key > last).order_by(key).limit(ROWS_AT_ONCE)
        async with database.session(read_only=True) as session:
            rows = (await session.execute(page)).all()
        for row in rows:
            yield row
        if len(rows) < ROWS_AT_ONCE:
            return
        last = rows[-1].id
