"""The tables of users' requests. Times are milliseconds since 1970."""

from typing import Final, cast

from sqlalchemy import BigInteger, Index, Integer, LargeBinary, String, Table
from sqlalchemy.orm import Mapped, mapped_column

from ..database.base import Base

USER_LENGTH = 255


class RequestRow(Base):
    """What a user has asked for, which is there until it is done.

    `due_at` is when somebody has to work at it, NULL if nobody has. An export stays until it is too
    old: `last_id` is the last of the archive's rows that is in it, in so many `parts`.
    """

    __tablename__ = "chat_user_requests"
    __table_args__ = (Index(None, "due_at"),)

    user: Mapped[str] = mapped_column("user_id", String(USER_LENGTH), primary_key=True)
    kind: Mapped[str] = mapped_column(String(16), primary_key=True)
    requested_at: Mapped[int] = mapped_column(BigInteger)
    due_at: Mapped[int | None] = mapped_column(BigInteger)
    done_at: Mapped[int | None] = mapped_column(BigInteger)
    last_id: Mapped[int] = mapped_column(BigInteger)
    parts: Mapped[int] = mapped_column(Integer)
    bytes: Mapped[int] = mapped_column(BigInteger)


class PartRow(Base):
    """A part of an export: gzip, which parts behind each other are as well (RFC 1952, 2.2)."""

    __tablename__ = "chat_user_exports"

    user: Mapped[str] = mapped_column("user_id", String(USER_LENGTH), primary_key=True)
    number: Mapped[int] = mapped_column(Integer, primary_key=True)
    content: Mapped[bytes] = mapped_column(LargeBinary)


REQUESTS: Final = cast(Table, RequestRow.__table__)
PARTS: Final = cast(Table, PartRow.__table__)
