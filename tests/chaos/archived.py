"""Compares the archive with the acknowledged events."""

import asyncio
import json
import time
from collections.abc import Iterable, Mapping

from msgspec import Struct
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from chat_server.events import Position

from .history import Ack
from .payloads import name_of
from .violation import Violation

NAMESPACE = "room"
"""Namespace of the archived topics."""

PATIENCE_SECONDS = 120.0
"""Seconds: a sweep finds unnoticed events once a minute, and a lease may have to expire."""

RETRY_SECONDS = 0.25


class Archive(Struct, frozen=True):
    """The rows at one moment.

    Args:
        cursors: the archived position of each topic.
        messages: by topic and seq the name of the data; None for a deleted message.
        changes: by topic and seq the changed message.
        gaps: number of recorded gaps.
    """

    cursors: dict[str, Position]
    messages: dict[tuple[str, int], str | None]
    changes: dict[tuple[str, int], int]
    gaps: int


async def missing(url: str, final: Mapping[str, Position], acks: Iterable[Ack]) -> list[Violation]:
    """Return acknowledged events that are missing or different in the archive.

    Args:
        url: the address of the database.
        final: the final positions of the topics.
        acks: acknowledgements of topics whose store has lost nothing.
    """
    wanted = {topic: at for topic, at in final.items() if topic.startswith(f"{NAMESPACE}:")}
    deadline = time.monotonic() + PATIENCE_SECONDS
    archive = await _read(url)
    while time.monotonic() < deadline and not wanted.items() <= archive.cursors.items():
        await asyncio.sleep(RETRY_SECONDS)
        archive = await _read(url)
    violations = [
        Violation("not archived", topic, at.seq, "", f"only up to {archive.cursors.get(topic)}")
        for topic, at in wanted.items()
        if archive.cursors.get(topic) != at
    ]
    if archive.gaps:
        violations.append(Violation("gap in the archive", "", 0, "", f"{archive.gaps} of them"))
    return violations + list(compare(archive, acks))


def compare(archive: Archive, acks: Iterable[Ack]) -> Iterable[Violation]:
    """Yield acknowledged events that are missing or different in the archive."""
    for ack in acks:
        place = ack.topic, ack.seq
        if not ack.topic.startswith(f"{NAMESPACE}:") or ack.duplicate:
            continue
        if not ack.target:
            found = archive.messages.get(place, "")
            if found is not None and found != ack.payload:
                yield Violation("not archived", *place, "", f"{found!r}, not {ack.payload!r}")
        elif archive.messages.get((ack.topic, ack.target), "") is not None:
            # With a message that is deleted its changes are gone.
            changed = archive.changes.get(place)
            if changed != ack.target:
                yield Violation("not archived", *place, "", f"{changed}, not of {ack.target}")


async def _read(url: str) -> Archive:
    engine = create_async_engine(url)
    try:
        async with engine.connect() as rows:
            await rows.execution_options(isolation_level="SERIALIZABLE")
            topics = await rows.execute(text("SELECT name, epoch, seq FROM chat_archive_topics"))
            cursors = {name: Position(epoch, seq) for name, epoch, seq in topics}
            messages = await rows.execute(
                text(
                    "SELECT t.name, m.seq, m.payload, m.content FROM chat_archive_messages m"
                    " JOIN chat_archive_topics t ON t.id = m.topic_id AND t.era = m.era"
                )
            )
            changes = await rows.execute(
                text(
                    "SELECT t.name, c.seq, c.target FROM chat_archive_changes c"
                    " JOIN chat_archive_topics t ON t.id = c.topic_id AND t.era = c.era"
                )
            )
            gaps = await rows.execute(text("SELECT count(*) FROM chat_archive_gaps"))
            return Archive(
                cursors=cursors,
                messages={
                    (name, seq): name_of(json.loads(payload)["data"]) if content else None
                    for name, seq, payload, content in messages
                },
                changes={(name, seq): target for name, seq, target in changes},
                gaps=gaps.scalar_one(),
            )
    finally:
        await engine.dispose()
