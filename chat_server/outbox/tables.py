"""The tables of an outbox, in the server's own metadata or in an application's."""

from typing import NamedTuple, cast

from sqlalchemy import BigInteger, Boolean, Index, MetaData, String, Table, Text
from sqlalchemy.orm import Mapped, mapped_column

from ..database.base import Base, BigKey
from ..database.leases import LEASES


class OutboxRow(Base):
    """A committed publication that waits for the relay; `sender` and `data` are JSON text."""

    __tablename__ = "chat_outbox"

    id: Mapped[int] = mapped_column(BigKey, primary_key=True)
    topic: Mapped[str] = mapped_column(String(255))
    data: Mapped[str] = mapped_column(Text)
    sender: Mapped[str | None] = mapped_column(Text)
    key: Mapped[str] = mapped_column(String(64))
    parked: Mapped[bool] = mapped_column(Boolean)
    created_at: Mapped[int] = mapped_column(BigInteger)

    __table_args__ = (Index(None, "parked", "id"),)


class ParkedRow(Base):
    """A topic whose publications wait, because the row `row_id` cannot be published."""

    __tablename__ = "chat_outbox_parked"

    topic: Mapped[str] = mapped_column(String(255), primary_key=True)
    row_id: Mapped[int] = mapped_column(BigInteger)
    error: Mapped[str] = mapped_column(String(255))
    parked_at: Mapped[int] = mapped_column(BigInteger)


class Tables(NamedTuple):
    """The tables of one outbox."""

    rows: Table
    parked: Table
    leases: Table


_OWN = Tables(cast(Table, OutboxRow.__table__), cast(Table, ParkedRow.__table__), LEASES)


def tables_in(metadata: MetaData | None) -> Tables:
    """Return the outbox tables in an application's metadata; None for the server's own tables."""
    if metadata is None or metadata is Base.metadata:
        return _OWN
    # The tables may exist already, for example because of a second outbox.
    return Tables(
        *(
            metadata.tables[each.name]
            if each.name in metadata.tables
            else each.to_metadata(metadata)
            for each in _OWN
        )
    )
