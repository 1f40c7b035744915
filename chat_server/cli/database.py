"""`chat-server database`: the schema of the database."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from ..protocol.errors import ChatError, Unavailable
from ..settings import DatabaseSettings, SettingsError
from .options import config_option, json_option, misuse, read_settings
from .patience import patience_options, wait_seconds
from .terminal import Failure, Misuse, run, write_line, write_result

if TYPE_CHECKING:
    from ..database.database import Database

T = TypeVar("T")

RETRY_SECONDS = 0.5
"""Seconds between two attempts to reach the database under `--wait`."""


@click.group()
def database() -> None:
    """Look after the database that database.url names."""


class Away(Failure):
    """The database cannot be reached, or fails; a later attempt may succeed."""


@database.command()
@json_option
@patience_options
@config_option
def upgrade(config: Path | None, as_json: bool) -> None:
    """Bring the schema up to date.

    All or nothing; a second one that runs at the same time waits. Make a back-up first: there is no
    way back.
    """
    run(patiently(partial(_upgrade, database_settings(config), as_json)))


@database.command()
@json_option
@patience_options
@config_option
def status(config: Path | None, as_json: bool) -> None:
    """Say which revision the schema has; exit with 1 unless it is the one that is needed."""
    run(patiently(partial(_status, database_settings(config), as_json)))


async def patiently(work: Callable[[], Awaitable[T]]) -> T:
    """Do `work`, and repeat while the database is away and `--wait` has not passed.

    Raises:
        Away: the database was away until the end of `--wait`.
    """
    until = time.monotonic() + wait_seconds()
    while True:
        try:
            return await work()
        except Away:
            if time.monotonic() >= until:
                raise
        await asyncio.sleep(RETRY_SECONDS)


def database_settings(config: Path | None) -> DatabaseSettings:
    """Return the settings of the database; without a database the command ends."""
    settings = read_settings(config).database
    require_url(settings)
    return settings


def require_url(settings: DatabaseSettings) -> None:
    """End the command if the settings name no database."""
    if not settings.url:
        raise Misuse("database.url: is not set: set CHAT_DATABASE__URL")


@asynccontextmanager
async def opened_database(settings: DatabaseSettings) -> "AsyncIterator[Database]":
    """Open the database of a command, and turn failures into one line each."""
    # Imported here: the other commands start faster without SQLAlchemy.
    from ..database.database import Database

    try:
        database = Database(settings)
        try:
            await patiently(partial(_start, database))
            yield database
        finally:
            await database.stop()
    except SettingsError as error:
        raise misuse(error) from None
    except Unavailable as error:
        raise Failure(f"database.url: {error.message}") from None
    except ChatError as error:
        raise Failure(error.message) from None


async def _start(database: "Database") -> None:
    await database.start()
    if not database.is_ready:
        await database.stop()
        raise Away("database.url: the database cannot be used now")


async def _upgrade(settings: DatabaseSettings, as_json: bool) -> None:
    # Imported here: the other commands start faster without SQLAlchemy.
    from sqlalchemy.exc import DBAPIError

    from ..database import schema

    try:
        before, after = await schema.upgrade(settings)
    except SettingsError as error:
        raise misuse(error) from None
    except (DBAPIError, OSError, TimeoutError) as error:
        raise Away(f"database.url: {schema.describe(error)}") from None
    line = f"the schema is at revision {after}, from {before or 'an empty database'}"
    if before == after:
        line = f"the schema is up to date, at revision {after}"
    await write_result({"schema": after, "before": before}, line, as_json)


async def _status(settings: DatabaseSettings, as_json: bool) -> None:
    from sqlalchemy.exc import DBAPIError

    from ..database import schema
    from ..database.engine import make_engine
    from ..database.urls import parse_database_url

    try:
        engine = make_engine(settings)
        try:
            revision = await schema.read_revision(engine)
        finally:
            await engine.dispose()
        place = parse_database_url(settings.url).place
        told = {"database": place, "schema": revision, "needed": schema.NEWEST}
        if not as_json:
            await write_line(f"database: {place}")
        line = f"schema: {revision or 'none'}; this version needs {schema.NEWEST}"
        await write_result(told, line, as_json)
        schema.check(revision)
    except schema.SchemaError as error:
        raise Failure(str(error)) from None
    except SettingsError as error:
        raise misuse(error) from None
    except (DBAPIError, OSError, TimeoutError) as error:
        raise Away(f"database.url: {schema.describe(error)}") from None
