"""The tables of users' requests. Times are milliseconds since 1970."""

from typing import Final, cast

from sqlalchemy import BigInteger, Index, Integer, LargeBinary, String, Table
from sqlalchemy.orm import Mapped, mapped_column

from ..database.base import Base

USER_LENGTH = 255


class RequestRow(Base):
    """A user's request; the row stays until its completion.

    At `due_at` a worker must continue the request; NULL means never. An export stays until its
    expiry: `last_id` is the last exported row of the archive, and `parts` is the number of parts.
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
    """A part of an export in gzip format; concatenated parts are valid gzip too (RFC 1952, 2.2)."""

    __tablename__ = "chat_user_exports"

    user: Mapped[str] = mapped_column("user_id", String(USER_LENGTH), primary_key=True)
    number: Mapped[int] = mapped_column(Integer, primary_key=True)
    content: Mapped[bytes] = mapped_column(LargeBinary)


REQUESTS: Final = cast(Table, RequestRow.__table__)
PARTS: Final = cast(Table, PartRow.__table__)
