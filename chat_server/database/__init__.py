"""What lasts: an engine, a session for each unit of work, and the migrations of the schema.

`urls` is imported by the settings and needs no library. Everything else is imported once there is a
`database.url`, so that a server without one neither waits for SQLAlchemy nor holds it.
"""
