"""Accounts: users, their sign-ins, invitations, and attempts to sign in.

Revision ID: 0004
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables of accounts."""
    op.create_table(
        "chat_users",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("skeleton", sa.String(64), nullable=False),
        sa.Column("password_hash", sa.String(255), nullable=False),
        sa.Column("roles", sa.String(255), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("disabled_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_chat_users")),
        sa.UniqueConstraint("skeleton", name=op.f("uq_chat_users_skeleton")),
    )
    op.create_table(
        "chat_sign_ins",
        sa.Column("id", sa.LargeBinary(16), nullable=False),
        sa.Column("user_id", sa.String(32), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("rotated_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("ends_at", sa.BigInteger(), nullable=False),
        sa.Column("ended", sa.String(16), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_chat_sign_ins")),
        sa.ForeignKeyConstraint(
            ["user_id"],
            ["chat_users.id"],
            name=op.f("fk_chat_sign_ins_user_id_chat_users"),
            ondelete="CASCADE",
        ),
    )
    op.create_index(op.f("ix_chat_sign_ins_user_id"), "chat_sign_ins", ["user_id", "rotated_at"])
    op.create_index(op.f("ix_chat_sign_ins_expires_at"), "chat_sign_ins", ["expires_at"])
    op.create_table(
        "chat_invitations",
        sa.Column("digest", sa.LargeBinary(32), nullable=False),
        sa.Column("roles", sa.String(255), nullable=False),
        sa.Column("created_by", sa.String(32), nullable=True),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("used_by", sa.String(32), nullable=True),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_chat_invitations")),
    )
    op.create_index(op.f("ix_chat_invitations_expires_at"), "chat_invitations", ["expires_at"])
    op.create_table(
        "chat_attempts",
        sa.Column("key", sa.LargeBinary(16), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("ends_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_chat_attempts")),
    )
    op.create_index(op.f("ix_chat_attempts_ends_at"), "chat_attempts", ["ends_at"])
