"""`chat-server database`: the schema of the database."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..protocol.errors import ChatError, Unavailable
from ..settings import DatabaseSettings, SettingsError
from .options import config_option, json_option, misuse, patience_options, read_settings
from .terminal import Failure, Misuse, run

if TYPE_CHECKING:
    from ..database.database import Database


RETRY_SECONDS = 0.5
"""Seconds between two attempts to reach a database that is awaited."""


@click.group()
def database() -> None:
    """Look after the database that database.url names."""


class Away(Failure):
    """The database cannot be reached, or fails; it may be there in a moment."""


@database.command()
@patience_options
@config_option
def upgrade(config: Path | None, wait: float, timeout: float | None) -> None:
    """Bring the schema up to date.

    All or nothing; a second one that runs at the same time waits. Make a back-up first: there is no
    way back.
    """
    run(_patiently(partial(_upgrade, database_settings(config)), wait, timeout))


@database.command()
@json_option
@patience_options
@config_option
def status(config: Path | None, wait: float, timeout: float | None, as_json: bool) -> None:
    """Say which revision the schema has; exit with 1 unless it is the one that is needed."""
    run(_patiently(partial(_status, database_settings(config), as_json), wait, timeout))


async def _patiently(
    work: Callable[[], Awaitable[None]], wait: float, timeout: float | None
) -> None:
    """Do `work`, and again as long as the database is away and `wait` has not passed."""
    until = time.monotonic() + wait
    try:
        async with asyncio.timeout(timeout):
            while True:
                try:
                    return await work()
                except Away:
                    if time.monotonic() >= until:
                        raise
                await asyncio.sleep(RETRY_SECONDS)
    except TimeoutError:
        raise Failure(f"--timeout: it was not done within {timeout:g} s") from None


def database_settings(config: Path | None) -> DatabaseSettings:
    """Return the settings of a database that there must be."""
    settings = read_settings(config).database
    require_url(settings)
    return settings


def require_url(settings: DatabaseSettings) -> None:
    """End the command if there is no database."""
    if not settings.url:
        raise Misuse("database.url: is not set: set CHAT_DATABASE__URL")


@asynccontextmanager
async def opened_database(settings: DatabaseSettings) -> "AsyncIterator[Database]":
    """Open the database of a command, whose failures become one line each."""
    # Imported here: the other commands start faster without SQLAlchemy.
    from ..database.database import Database

    try:
        database = Database(settings)
        try:
            await database.start()
            yield database
        finally:
            await database.stop()
    except SettingsError as error:
        raise misuse(error) from None
    except Unavailable as error:
        raise Failure(f"database.url: {error.message}") from None
    except ChatError as error:
        raise Failure(error.message) from None


async def _upgrade(settings: DatabaseSettings) -> None:
    # Imported here: the other commands start faster without SQLAlchemy.
    from sqlalchemy.exc import DBAPIError

    from ..database import schema

    try:
        before, after = await schema.upgrade(settings)
    except SettingsError as error:
        raise misuse(error) from None

    except (DBAPIError, OSError, TimeoutError) as error:
        raise Away(f"database.url: {schema.describe(error)}") from None
    if before == after:
        click.echo(f"the schema is up to date, at revision {after}")
    else:
        click.echo(f"the schema is at revision {after}, from {before or 'an empty database'}")


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
        if as_json:
            told = {"database": place, "schema": revision, "needed": schema.NEWEST}
            click.echo(json.dumps(told))
        else:
            click.echo(f"database: {place}")
            click.echo(f"schema: {revision or 'none'}; this version needs {schema.NEWEST}")
        schema.check(revision)
    except schema.SchemaError as error:
        raise Failure(str(error)) from None
    except SettingsError as error:
        raise misuse(error) from None
    except (DBAPIError, OSError, TimeoutError) as error:
        raise Away(f"database.url: {schema.describe(error)}") from None
