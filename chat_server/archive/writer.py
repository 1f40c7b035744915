"""Writes the archive: a consumer of the log that commits its cursors together with its rows."""

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Any, Final

from sqlalchemy import Connection, bindparam, insert, select, update

from ..consumers.ports import Batch, Cursor, Outdated
from ..database.database import Database
from ..events import Event, Kind
from .folding import Message, Parsed, erased_change, parse, text_of
from .tables import CHANGES, ERAS, GAPS, MESSAGES, TOPICS

Row = dict[str, Any]

IN_AT_ONCE: Final = 500
"""Values in one `IN`: SQLite allows 32,766, and PostgreSQL the same number."""

_seq = itemgetter(2)

_TOPIC = TOPICS.c
_MESSAGE = MESSAGES.c
_CHANGE = CHANGES.c

_insert_messages = (
    insert(MESSAGES)
    .values({column.name: bindparam(column.name) for column in MESSAGES.c if column.name != "id"})
    .inline()  # nobody asks for the ids
)
_insert_changes = insert(CHANGES)
_insert_gaps = insert(GAPS)
_update_message = (
    update(MESSAGES)
    .where(_MESSAGE.id == bindparam("row"))
    .values(
        {
            name: bindparam(name)
            for name in (
                *(
                    "payload",
                    "content",
                    "version",
                    "edited_at",
                    "state",
                    "data",
                    "reactions",
                    "text",
                ),
            )
        }
    )
)
_update_topic = (
    update(TOPICS)
    .where(_TOPIC.id == bindparam("row"))
    .values({name: bindparam(name) for name in ("epoch", "seq", "at", "era", "base")})
)
_erase_change = (
    update(CHANGES)
    .where(
        _CHANGE.topic_id == bindparam("topic"),
        _CHANGE.era == bindparam("its_era"),
        _CHANGE.seq == bindparam("its_seq"),
    )
    .values(payload=bindparam("payload"))
)


class ArchiveWriter:
    """Implements `consumers.ports.Consumer`: writes events, and messages with their changes.

    Args:
        database: the database.
        wants: returns True if the events of a topic are archived.
    """

    name = "archive"

    def __init__(self, database: Database, wants: Callable[[str], bool]) -> None:
        self._database = database
        self.wants = wants

    async def cursors(self, topics: Collection[str]) -> Mapping[str, Cursor]:
        """Return the writer's cursors in these topics."""
        found: dict[str, Cursor] = {}
        columns = (_TOPIC.name, _TOPIC.epoch, _TOPIC.seq, _TOPIC.at)

        def find(connection: Connection) -> None:
            for names in _chunks(topics):
                rows = connection.execute(select(*columns).where(_TOPIC.name.in_(names)))
                found.update((name, Cursor(epoch, seq, at)) for name, epoch, seq, at in rows)

        await self._database.run(find, read_only=True)
        return found

    async def take(self, batches: Sequence[Batch]) -> None:
        """Write batches, their cursors, and the changed messages, all or nothing.

        Raises:
            Unavailable: the database cannot be used.
            Outdated: the cursor of a topic is not the batch's `before`.
        """
        await self._database.run(lambda connection: _take(connection, batches))


def _take(connection: Connection, batches: Sequence[Batch]) -> None:
    for names in _chunks([batch.topic for batch in batches]):
        # The lock lasts until the end: another writer waits, and then gets `Outdated`.
        query = select(TOPICS).where(_TOPIC.name.in_(names))
        known = {row.name: row for row in connection.execute(query.with_for_update())}
        chosen = set(names)
        work = [
            _Work.begin(connection, batch, known.get(batch.topic))
            for batch in batches
            if batch.topic in chosen
        ]
        _write(connection, work)


class _Work:
    """The rows to write for one batch."""

    def __init__(self, batch: Batch, topic: int, era: int, base: int) -> None:
        self.batch = batch
        self.topic = topic
        self.era = era
        self.base = base
        # Messages of the batch that the batch changes; `plain` has the other messages.
        self.messages: dict[int, Message] = {}
        self.changes: list[tuple[Event, Parsed]] = []
        # Messages archived earlier, by seq, and the ids of their rows.
        self.earlier: dict[int, Message] = {}
        self.ids: dict[int, int] = {}
        self.deleted: list[int] = []
        self.plain: list[tuple[int, bytes, Parsed]] = []
        for event in batch.events:
            parsed = parse(event.payload) or Parsed()
            if event.kind is Kind.MESSAGE:
                self.plain.append((event.seq, event.payload, parsed))
            else:
                self.changes.append((event, parsed))
        if self.changes:
            targets = {parsed.target for _, parsed in self.changes}
            changed = [each for each in self.plain if each[0] in targets]
            self.plain = [each for each in self.plain if each[0] not in targets]
            self.messages = {seq: Message(seq, payload, parsed) for seq, payload, parsed in changed}

    @classmethod
    def begin(cls, connection: Connection, batch: Batch, row: Any) -> "_Work":
        """Check the cursor of a batch, and prepare its topic.

        Raises:
            Outdated: the cursor of the topic is not the batch's `before`.
        """
        before = None if row is None else Cursor(row.epoch, row.seq, row.at)
        if before != batch.before:
            raise Outdated
        after = batch.after
        if row is None:
            first = batch.events[0].seq if batch.events else after.seq + 1
            era, base = 0, first - 1
            values = {"name": batch.topic, "era": era, "base": base}
            values |= {"epoch": after.epoch, "seq": after.seq, "at": after.at}
            created = insert(TOPICS).values(values).returning(_TOPIC.id)
            topic = connection.execute(created).scalar_one()
        else:
            topic, era, base = row.id, row.era, row.base
            if batch.goes_back:
                era, base = era + 1, batch.epoch_start
        if row is None or batch.goes_back:
            connection.execute(insert(ERAS).values(topic_id=topic, era=era, base=base))
        work = cls(batch, topic, era, base)
        work.find_earlier(connection)
        return work

    def find_earlier(self, connection: Connection) -> None:
        """Find the rows of changed messages that are not in the batch."""
        targets = {parsed.target for _, parsed in self.changes} - self.messages.keys()
        for seqs in _chunks(targets):
            rows = connection.execute(
                select(MESSAGES)
                .where(
                    _MESSAGE.topic_id == self.topic,
                    # If the era began behind the message, the message belongs to an earlier era.
                    _MESSAGE.era <= self.era,
                    _MESSAGE.seq.in_(seqs),
                )
                .order_by(_MESSAGE.era)
            )
            for row in rows:
                self.earlier[row.seq], self.ids[row.seq] = Message.of_row(row), row.id

    def fold(self) -> None:
        """Apply the changes to their messages."""
        for event, parsed in self.changes:
            message = self.messages.get(parsed.target) or self.earlier.get(parsed.target)
            if message is not None:
                message.change(event.kind, event.seq, parsed)
            if event.kind is Kind.DELETED:
                self.deleted.append(parsed.target)
        for message in (*self.messages.values(), *self.earlier.values()):
            message.finish()

    def message_rows(self) -> Iterable[tuple[Any, ...]]:
        """Return the rows of new messages ordered by seq, so their ids have the same order."""
        rows = self._message_rows()
        return sorted(rows, key=_seq) if self.messages else rows

    def _message_rows(self) -> Iterable[tuple[Any, ...]]:
        place = (self.topic, self.era)
        for seq, payload, parsed in self.plain:
            if parsed.deleted:
                content, text, version = 0, None, parsed.version
            else:
                data = bytes(parsed.data)
                content, text, version = len(data) + 1, text_of(data), seq
            yield (
                *(*place, seq, parsed.at, parsed.user, payload, content),
                *(version, 0, "", None, None, text),
            )
        for message in self.messages.values():
            yield (
                *(*place, message.seq, message.at, message.author, message.payload),
                *(message.content, message.version, message.edited_at, message.state),
                *(message.data, message.reactions, message.text),
            )

    def update_rows(self) -> Iterable[Row]:
        for seq, message in self.earlier.items():
            yield {
                "row": self.ids[seq],
                "payload": message.payload,
                "content": message.content,
                "version": message.version,
                "edited_at": message.edited_at,
                "state": message.state,
                "data": message.data,
                "reactions": message.reactions,
                "text": message.text,
            }

    def change_rows(self) -> Iterable[Row]:
        gone = set(self.deleted)
        for event, parsed in self.changes:
            payload = event.payload
            if parsed.target in gone:
                payload = erased_change(event.kind, payload)
            yield {
                "topic_id": self.topic,
                "era": self.era,
                "seq": event.seq,
                "at": parsed.at,
                "kind": event.kind.value,
                "target": parsed.target,
                "payload": payload,
            }

    def gap_rows(self) -> Iterable[Row]:
        now = int(time.time() * 1_000)
        for first, last in self.batch.gaps:
            where = {"topic_id": self.topic, "era": self.era, "first": first, "last": last}
            yield {**where, "noted_at": now}

    def topic_row(self) -> Row:
        after = self.batch.after
        place = {"row": self.topic, "era": self.era, "base": self.base}
        return {**place, "epoch": after.epoch, "seq": after.seq, "at": after.at}


def _write(connection: Connection, work: Sequence[_Work]) -> None:
    for each in work:
        each.fold()
    messages = [row for each in work for row in each.message_rows()]
    if messages:
        # Rows in the driver's format: SQLAlchemy's processing of a row costs as much as storing the
        # row.
        sql = str(_insert_messages.compile(dialect=connection.dialect))
        connection.exec_driver_sql(sql, messages)
    for statement, rows in (
        (_update_message, [row for each in work for row in each.update_rows()]),
        (_insert_changes, [row for each in work for row in each.change_rows()]),
        (_insert_gaps, [row for each in work for row in each.gap_rows()]),
        (_update_topic, [each.topic_row() for each in work]),
    ):
        if rows:
            connection.execute(statement, rows)
    for each in work:
        for seqs in _chunks(each.deleted):
            _erase_changes(connection, each.topic, seqs)


def _erase_changes(connection: Connection, topic: int, targets: Collection[int]) -> None:
    """Remove the content from edits and appends of deleted messages."""
    rows = connection.execute(
        select(_CHANGE.era, _CHANGE.seq, _CHANGE.kind, _CHANGE.payload).where(
            _CHANGE.topic_id == topic,
            _CHANGE.target.in_(targets),
            _CHANGE.kind.in_([Kind.EDITED.value, Kind.APPENDED.value]),
        )
    )
    erased = [
        {"topic": topic, "its_era": era, "its_seq": seq, "payload": erased_change(kind, payload)}
        for era, seq, kind, payload in rows
    ]
    if erased:
        connection.execute(_erase_change, erased)


def _chunks(values: Iterable[Any]) -> Iterable[list[Any]]:
    listed = list(values)
    for start in range(0, len(listed), IN_AT_ONCE):
        yield listed[start : start + IN_AT_ONCE]
