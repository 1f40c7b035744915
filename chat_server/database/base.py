"""The base of all tables.

Names of tables begin with `chat_`: an application may keep its own tables in the same database.
Times are milliseconds since 1970, as on the wire.
"""

from typing import Final

from sqlalchemy import BigInteger, Integer, MetaData
from sqlalchemy.orm import DeclarativeBase

TABLE_PREFIX: Final = "chat_"

BigKey: Final = BigInteger().with_variant(Integer, "sqlite")
"""The type of a generated key: SQLite generates keys only in a column of exactly `INTEGER`."""


class Base(DeclarativeBase):
    """The base of all tables; constraints have names, so migrations can change them."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
