"""Parses and checks database addresses without a database library."""

import re
from typing import Final, Literal, NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

DATABASE_URL_RULE: Final = (
    "must be sqlite+aiosqlite:///FILE (a fourth / for an absolute path) or"
    " postgresql+asyncpg://USER:PASSWORD@HOST:5432/NAME, with ?ssl=MODE or ?host=/FOLDER of a"
    " socket; special characters in a user or password are percent-encoded: %2F for /"
)

_SQLITE = re.compile(r"sqlite(?:\+aiosqlite)?:///([^?#]+)")
_POSTGRESQL = re.compile(r"postgres(?:ql)?(?:\+asyncpg)?://")
_SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")


class DatabaseUrl(NamedTuple):
    """The parts of a database's address.

    Attributes:
        dialect: the kind of database.
        name: the file, or the name of the database.
        user, password, host, port: of PostgreSQL; None leaves the choice to the driver.
        ssl: PostgreSQL's TLS mode, in libpq's words.
    """

    dialect: Literal["sqlite", "postgresql"]
    name: str
    user: str | None = None
    password: str | None = None
    host: str | None = None
    port: int | None = None
    ssl: str | None = None

    @property
    def place(self) -> str:
        """The address for operators, without user and password."""
        if self.dialect == "sqlite":
            return f"SQLite in {self.name}"
        where = self.host or "localhost"
        return f"PostgreSQL {self.name} on {where}" + (f":{self.port}" if self.port else "")


def parse_database_url(url: str) -> DatabaseUrl:
    """Return the parts of a database's address.

    Raises:
        ValueError: the address breaks `DATABASE_URL_RULE`.
    """
    if (match := _SQLITE.fullmatch(url)) is not None:
        if match[1].startswith((":memory:", "file:")):
            raise ValueError(DATABASE_URL_RULE)
        return DatabaseUrl("sqlite", unquote(match[1]))
    if _POSTGRESQL.match(url) is None:
        raise ValueError(DATABASE_URL_RULE)
    parts = urlsplit(url)
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    # libpq calls it `sslmode`, asyncpg calls it `ssl`.
    ssl = options.pop("sslmode", None) or options.pop("ssl", None)
    host = options.pop("host", None) or parts.hostname
    name = unquote(parts.path.removeprefix("/"))
    if options or parts.fragment or not name or "/" in name or ssl not in (None, *_SSL_MODES):
        raise ValueError(DATABASE_URL_RULE)
    user, password = parts.username, parts.password
    return DatabaseUrl(
        "postgresql",
        name,
        user=user and unquote(user),
        password=password and unquote(password),
        host=host,
        port=parts.port,
        ssl=ssl,
    )
