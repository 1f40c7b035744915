"""PostgreSQL's index of the search takes signs for what is between words, as FTS5 does.

Its parser makes one word each of "example.org", "2026-11-29" and "a/b.txt", and none of "<tag>".

Revision ID: 0006
"""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

INDEX = "ix_chat_archive_messages_search"
SIGNS = """!"#$%&''()*+,-./:;<=>?@[\\]^_`{|}~"""
SPACES = " " * 32


def upgrade() -> None:
    """Make the index anew."""
    connection = op.get_bind()
    if connection.dialect.name != "postgresql":
        return
    connection.exec_driver_sql(f"DROP INDEX {INDEX}")
    connection.exec_driver_sql(
        f"CREATE INDEX {INDEX} ON chat_archive_messages"
        f" USING gin (to_tsvector('simple', translate(text, '{SIGNS}', '{SPACES}')))"
        " WHERE text IS NOT NULL"
    )
