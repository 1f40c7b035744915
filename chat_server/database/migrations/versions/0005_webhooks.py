"""Webhooks: how each endpoint is, and how far it is in each topic.

Revision ID: 0005
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables of webhooks."""
    op.create_table(
        "chat_webhooks",
        sa.Column("name", sa.String(48), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("failing_since", sa.BigInteger(), nullable=True),
        sa.Column("reason", sa.String(255), nullable=False),
        sa.Column("parked_at", sa.BigInteger(), nullable=True),
        sa.Column("replays", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_chat_webhooks")),
    )
    op.create_table(
        "chat_webhook_cursors",
        sa.Column("webhook", sa.String(48), nullable=False),
        sa.Column("topic", sa.String(255), nullable=False),
        sa.Column("epoch", sa.String(64), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("moved_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("webhook", "topic", name=op.f("pk_chat_webhook_cursors")),
    )
