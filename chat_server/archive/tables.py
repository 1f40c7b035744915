"""The tables of the archive (docs/design/archive.md)."""

from typing import Final, cast

from sqlalchemy import (
    BigInteger,
    Boolean,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    Text,
)
from sqlalchemy.orm import Mapped, mapped_column

from ..database.base import Base, BigKey

NAME_LENGTH = 255
USER_LENGTH = 255


class TopicRow(Base):
    """A topic, with the writer's cursor.

    `era` counts how often the numbering of the topic went back, because the store had lost events.
    `base` is the seq after which the era began.
    """

    __tablename__ = "chat_archive_topics"

    id: Mapped[int] = mapped_column(BigKey, primary_key=True)
    name: Mapped[str] = mapped_column(String(NAME_LENGTH), unique=True)
    epoch: Mapped[str] = mapped_column(String(64))
    seq: Mapped[int] = mapped_column(BigInteger)
    at: Mapped[int] = mapped_column(BigInteger)
    era: Mapped[int] = mapped_column(Integer)
    base: Mapped[int] = mapped_column(BigInteger)


class EraRow(Base):
    """An era of a topic. Events of an earlier era count up to the base of each later era."""

    __tablename__ = "chat_archive_eras"

    topic_id: Mapped[int] = mapped_column(
        ForeignKey(TopicRow.id, ondelete="CASCADE"), primary_key=True
    )
    era: Mapped[int] = mapped_column(Integer, primary_key=True)
    base: Mapped[int] = mapped_column(BigInteger)


class MessageRow(Base):
    """A message: the original event, and the result of its changes.

    `content` counts the bytes of the data and the closing brace at the end of `payload`; 0 for a
    deleted message. `data` is the data after changes, NULL for unchanged data. `text` is the
    searchable text.
    """

    __tablename__ = "chat_archive_messages"
    __table_args__ = (
        Index(None, "topic_id", "era", "seq", unique=True),
        Index(None, "author", "id"),
    )

    id: Mapped[int] = mapped_column(BigKey, primary_key=True)
    topic_id: Mapped[int] = mapped_column(ForeignKey(TopicRow.id, ondelete="CASCADE"))
    era: Mapped[int] = mapped_column(Integer)
    seq: Mapped[int] = mapped_column(BigInteger)
    at: Mapped[int] = mapped_column(BigInteger)
    author: Mapped[str | None] = mapped_column(String(USER_LENGTH))
    payload: Mapped[bytes] = mapped_column(LargeBinary)
    content: Mapped[int] = mapped_column(Integer)
    version: Mapped[int] = mapped_column(BigInteger)
    edited_at: Mapped[int] = mapped_column(BigInteger)
    state: Mapped[str] = mapped_column(String(16))
    data: Mapped[bytes | None] = mapped_column(LargeBinary)
    reactions: Mapped[bytes | None] = mapped_column(LargeBinary)
    text: Mapped[str | None] = mapped_column(Text)


class ChangeRow(Base):
    """An event that changes a message."""

    __tablename__ = "chat_archive_changes"
    __table_args__ = (Index(None, "topic_id", "era", "target"),)

    topic_id: Mapped[int] = mapped_column(
        ForeignKey(TopicRow.id, ondelete="CASCADE"), primary_key=True
    )
    era: Mapped[int] = mapped_column(Integer, primary_key=True)
    seq: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    at: Mapped[int] = mapped_column(BigInteger)
    kind: Mapped[str] = mapped_column(String(16))
    target: Mapped[int] = mapped_column(BigInteger)
    payload: Mapped[bytes] = mapped_column(LargeBinary)


class GapRow(Base):
    """Events from `first` to `last`, lost by the store before they were archived."""

    __tablename__ = "chat_archive_gaps"

    topic_id: Mapped[int] = mapped_column(
        ForeignKey(TopicRow.id, ondelete="CASCADE"), primary_key=True
    )
    era: Mapped[int] = mapped_column(Integer, primary_key=True)
    first: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    last: Mapped[int] = mapped_column(BigInteger)
    noted_at: Mapped[int] = mapped_column(BigInteger)


class CursorRow(Base):
    """A user's read cursor in a topic of a memory broker; `ends_at` is in ms since 1970."""

    __tablename__ = "chat_archive_cursors"

    topic: Mapped[str] = mapped_column(String(NAME_LENGTH), primary_key=True)
    user_id: Mapped[str] = mapped_column(String(USER_LENGTH), primary_key=True)
    epoch: Mapped[str] = mapped_column(String(64))
    seq: Mapped[int] = mapped_column(BigInteger)
    shown: Mapped[bool] = mapped_column(Boolean)
    ends_at: Mapped[int] = mapped_column(BigInteger)


class MarkRow(Base):
    """A note about the archive itself, for example about an orderly end of the last process."""

    __tablename__ = "chat_archive_marks"

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    value: Mapped[str] = mapped_column(String(255))


TOPICS: Final = cast(Table, TopicRow.__table__)
ERAS: Final = cast(Table, EraRow.__table__)
MESSAGES: Final = cast(Table, MessageRow.__table__)
CHANGES: Final = cast(Table, ChangeRow.__table__)
CURSORS: Final = cast(Table, CursorRow.__table__)
GAPS: Final = cast(Table, GapRow.__table__)
MARKS: Final = cast(Table, MarkRow.__table__)
