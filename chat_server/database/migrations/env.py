"""Runs the migrations on the connection that `database.schema` hands over."""

from alembic import context

from chat_server.database.base import Base
from chat_server.database.schema import VERSION_TABLE

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=Base.metadata,
    version_table=VERSION_TABLE,
    # SQLite supports transactional DDL, once Python's driver does not commit on its own.
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
