"""`chat-server outbox`: topics whose publications wait behind one that cannot be published."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click
from msgspec.structs import replace

from ..clock import iso_time
from ..protocol.errors import NotFound
from ..settings import DatabaseSettings, SettingsError
from .database import require_url
from .options import config_option, misuse, parse_topic, read_settings
from .terminal import Failure, escape_controls, run

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

    from ..outbox import Outbox

Work = Callable[["Outbox", "AsyncSession"], Awaitable[None]]

_topic = click.argument("topic", callback=parse_topic)
_database_option = click.option(
    "--database",
    "url",
    metavar="URL",
    envvar="OUTBOX_URL",
    show_envvar=True,
    help="The database with the outbox, if it is the application's own.",
)


@click.group()
def outbox() -> None:
    """Look after the parked topics of an outbox.

    A running relay goes on within a second with what is published again.
    """


@outbox.command("list")
@_database_option
@config_option
def list_(url: str | None, config: Path | None) -> None:
    """Say of each parked topic since when, how many messages wait, and why."""

    async def work(outbox: "Outbox", session: "AsyncSession") -> None:
        for each in await outbox.parked(session):
            since, error = iso_time(each.parked_at), escape_controls(each.error)
            plural = "" if each.waiting == 1 else "s"
            click.echo(
                f"{each.topic}: parked since {since}, {each.waiting} message{plural}: {error}"
            )

    _do(url, config, work)


@outbox.command()
@_topic
@_database_option
@config_option
def retry(topic: str, url: str | None, config: Path | None) -> None:
    """Publish what waits in a parked topic, in its order."""

    async def work(outbox: "Outbox", session: "AsyncSession") -> None:
        await outbox.unpark(session, topic)
        click.echo(f"{topic} goes on")

    _do(url, config, work)


@outbox.command()
@_topic
@_database_option
@config_option
def drop(topic: str, url: str | None, config: Path | None) -> None:
    """Drop the message that could not be published, and publish what waits behind it."""

    async def work(outbox: "Outbox", session: "AsyncSession") -> None:
        await outbox.unpark(session, topic, drop_first=True)
        click.echo(f"{topic} goes on without its first message")

    _do(url, config, work)


def _do(url: str | None, config: Path | None, work: Work) -> None:
    settings = read_settings(config).database
    if url is not None:
        settings = replace(settings, url=url)
    require_url(settings)
    run(_open_and_do(settings, work))


async def _open_and_do(settings: DatabaseSettings, work: Work) -> None:
    # Imported here: the other commands start faster without SQLAlchemy.
    from sqlalchemy.exc import DBAPIError

    from ..database.engine import make_engine
    from ..database.schema import describe
    from ..outbox import Outbox
    from ..outbox.relay import EngineSessions

    try:
        engine = make_engine(settings)
    except SettingsError as error:
        raise misuse(error) from None
    try:
        # Not by `Database`: that of an application has no schema of ours.
        async with EngineSessions(engine).session() as session:
            await work(Outbox(), session)
    except NotFound as error:
        raise Failure(f"{error.message}: `chat-server outbox list` names those that are") from None
    except (DBAPIError, OSError, TimeoutError) as error:
        raise Failure(f"the outbox cannot be used: {describe(error)}") from None
    finally:
        await engine.dispose()
