"""Orders of operators, where there is no Redis to keep them.

Revision ID: 0008
"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table of orders."""
    op.create_table(
        "chat_orders",
        sa.Column("name", sa.String(300), nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=False),
        sa.Column("value", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_chat_orders")),
    )
