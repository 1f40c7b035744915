"""The archive, and the index for its search.

Revision ID: 0003
"""

import sqlite3

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

BIG_KEY = sa.BigInteger().with_variant(sa.Integer, "sqlite")

FTS5 = (
    # The text itself stays in the table of messages; a trigger for each change of the table.
    "CREATE VIRTUAL TABLE chat_archive_search USING fts5(text, content='chat_archive_messages',"
    " content_rowid='id', tokenize=\"unicode61 remove_diacritics 2\")",
    "CREATE TRIGGER chat_archive_search_insert AFTER INSERT ON chat_archive_messages"
    " WHEN new.text IS NOT NULL BEGIN"
    " INSERT INTO chat_archive_search (rowid, text) VALUES (new.id, new.text); END",
    "CREATE TRIGGER chat_archive_search_delete AFTER DELETE ON chat_archive_messages"
    " WHEN old.text IS NOT NULL BEGIN"
    " INSERT INTO chat_archive_search (chat_archive_search, rowid, text)"
    " VALUES ('delete', old.id, old.text); END",
    "CREATE TRIGGER chat_archive_search_before AFTER UPDATE OF text ON chat_archive_messages"
    " WHEN old.text IS NOT NULL AND old.text IS NOT new.text BEGIN"
    " INSERT INTO chat_archive_search (chat_archive_search, rowid, text)"
    " VALUES ('delete', old.id, old.text); END",
    "CREATE TRIGGER chat_archive_search_after AFTER UPDATE OF text ON chat_archive_messages"
    " WHEN new.text IS NOT NULL AND old.text IS NOT new.text BEGIN"
    " INSERT INTO chat_archive_search (rowid, text) VALUES (new.id, new.text); END",
)

# Words of deleted messages leave the index at once, not at the next merge.
SECURE_DELETE = (
    "INSERT INTO chat_archive_search (chat_archive_search, rank) VALUES ('secure-delete', 1)"
)

TSVECTOR = (
    "CREATE INDEX ix_chat_archive_messages_search ON chat_archive_messages"
    " USING gin (to_tsvector('simple', text)) WHERE text IS NOT NULL"
)


def upgrade() -> None:
    """Create the tables of the archive."""
    op.create_table(
        "chat_archive_topics",
        sa.Column("id", BIG_KEY, nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("epoch", sa.String(64), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("era", sa.Integer(), nullable=False),
        sa.Column("base", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_chat_archive_topics")),
        sa.UniqueConstraint("name", name=op.f("uq_chat_archive_topics_name")),
    )
    op.create_table(
        "chat_archive_messages",
        sa.Column("id", BIG_KEY, nullable=False),
        _topic("chat_archive_messages"),
        sa.Column("era", sa.Integer(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("author", sa.String(255)),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.Column("content", sa.Integer(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("edited_at", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("data", sa.LargeBinary()),
        sa.Column("reactions", sa.LargeBinary()),
        sa.Column("text", sa.Text()),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_chat_archive_messages")),
    )
    op.create_index(
        op.f("ix_chat_archive_messages_topic_id_era_seq"),
        "chat_archive_messages",
        ["topic_id", "era", "seq"],
        unique=True,
    )
    op.create_index(
        op.f("ix_chat_archive_messages_author_id"), "chat_archive_messages", ["author", "id"]
    )
    _create_further_tables()
    if op.get_bind().dialect.name == "postgresql":
        op.execute(TSVECTOR)
        return
    for statement in FTS5:
        op.execute(statement)
    if sqlite3.sqlite_version_info >= (3, 42):
        op.execute(SECURE_DELETE)


def _create_further_tables() -> None:
    op.create_table(
        "chat_archive_changes",
        _topic("chat_archive_changes"),
        sa.Column("era", sa.Integer(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("target", sa.BigInteger(), nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("topic_id", "era", "seq", name=op.f("pk_chat_archive_changes")),
    )
    op.create_index(
        op.f("ix_chat_archive_changes_topic_id_era_target"),
        "chat_archive_changes",
        ["topic_id", "era", "target"],
    )
    op.create_table(
        "chat_archive_eras",
        _topic("chat_archive_eras"),
        sa.Column("era", sa.Integer(), nullable=False),
        sa.Column("base", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("topic_id", "era", name=op.f("pk_chat_archive_eras")),
    )
    op.create_table(
        "chat_archive_gaps",
        _topic("chat_archive_gaps"),
        sa.Column("era", sa.Integer(), nullable=False),
        sa.Column("first", sa.BigInteger(), nullable=False),
        sa.Column("last", sa.BigInteger(), nullable=False),
        sa.Column("noted_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("topic_id", "era", "first", name=op.f("pk_chat_archive_gaps")),
    )
    op.create_table(
        "chat_archive_marks",
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("value", sa.String(255), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_chat_archive_marks")),
    )


def _topic(table: str) -> sa.Column[int]:
    key = sa.ForeignKey(
        "chat_archive_topics.id",
        name=op.f(f"fk_{table}_topic_id_chat_archive_topics"),
        ondelete="CASCADE",
    )
    return sa.Column("topic_id", BIG_KEY, key, nullable=False)
