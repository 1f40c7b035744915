"""The database: an engine, a session for each unit of work, and the migrations of the schema.

`urls` needs no library, because the settings import it. The server imports the other modules only
with a `database.url`. A server without one neither waits for SQLAlchemy nor pays its memory.
"""
