"""The outbox: publications that are committed with what they tell of.

Revision ID: 0002
"""

import sqlalchemy as sa
from alembic import op

from chat_server.database.base import BigKey

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables of the outbox."""
    op.create_table(
        "chat_outbox",
        sa.Column("id", BigKey, nullable=False),
        sa.Column("topic", sa.String(255), nullable=False),
        sa.Column("data", sa.Text(), nullable=False),
        sa.Column("sender", sa.Text(), nullable=True),
        sa.Column("key", sa.String(64), nullable=False),
        sa.Column("parked", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_chat_outbox")),
    )
    op.create_index(op.f("ix_chat_outbox_parked_id"), "chat_outbox", ["parked", "id"])
    op.create_table(
        "chat_outbox_parked",
        sa.Column("topic", sa.String(255), nullable=False),
        sa.Column("row_id", sa.BigInteger(), nullable=False),
        sa.Column("error", sa.String(255), nullable=False),
        sa.Column("parked_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("topic", name=op.f("pk_chat_outbox_parked")),
    )
