"""The tables of accounts. Times are milliseconds since 1970.

The code uses SQLAlchemy Core: objects of the ORM would take longer than the statements themselves.
"""

from typing import Final

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
)

from ..database.base import Base
from .names import MAX_NAME

# `id` is the canonical name, the `sub` of the user's tokens. Rows stay for good: another user must
# not get the name, and thereby the user's data. `roles` are separated by commas.
USERS: Final = Table(
    "chat_users",
    Base.metadata,
    Column("id", String(MAX_NAME), primary_key=True),
    Column("skeleton", String(2 * MAX_NAME), nullable=False, unique=True),
    Column("password_hash", String(255), nullable=False),
    Column("roles", String(255), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("disabled_at", BigInteger),
)

# See `refresh.SignIn`.
SIGN_INS: Final = Table(
    "chat_sign_ins",
    Base.metadata,
    Column("id", LargeBinary(16), primary_key=True),
    Column("user_id", ForeignKey(USERS.c.id, ondelete="CASCADE"), nullable=False),
    Column("generation", Integer, nullable=False),
    Column("rotated_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False, index=True),
    Column("ends_at", BigInteger, nullable=False),
    Column("ended", String(16)),
    Index("ix_chat_sign_ins_user_id", "user_id", "rotated_at"),
)

# `digest` is the SHA-256 of the invitation's token. The token itself is not stored.
INVITATIONS: Final = Table(
    "chat_invitations",
    Base.metadata,
    Column("digest", LargeBinary(32), primary_key=True),
    Column("roles", String(255), nullable=False),
    Column("created_by", String(MAX_NAME)),
    Column("expires_at", BigInteger, nullable=False, index=True),
    Column("used_by", String(MAX_NAME)),
)

# Attempts within a span of time; `key` is a digest of a name or an address.
ATTEMPTS: Final = Table(
    "chat_attempts",
    Base.metadata,
    Column("key", LargeBinary(16), primary_key=True),
    Column("count", Integer, nullable=False),
    Column("ends_at", BigInteger, nullable=False, index=True),
)
