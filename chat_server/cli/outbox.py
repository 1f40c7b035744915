"""`chat-server outbox`: topics with publications that wait behind an unpublishable one."""

from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec
from msgspec.structs import replace

from ..clock import iso_time
from ..protocol.errors import NotFound
from ..settings import DatabaseSettings, SettingsError
from .database import Away, patiently, require_url
from .options import config_option, json_option, misuse, parse_topic, read_settings
from .patience import patience_options
from .terminal import Failure, run, write_result

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
@json_option
@patience_options
@config_option
def list_(url: str | None, as_json: bool, config: Path | None) -> None:
    """Say of each parked topic since when, how many messages wait, and why."""

    async def work(outbox: "Outbox", session: "AsyncSession") -> None:
        for each in await outbox.parked(session):
            plural = "" if each.waiting == 1 else "s"
            waiting = f"{each.waiting} message{plural}: {each.error}"
            line = f"{each.topic}: parked since {iso_time(each.parked_at)}, {waiting}"
            await write_result(msgspec.to_builtins(each), line, as_json)

    _do(url, config, work)


@outbox.command()
@_topic
@_database_option
@json_option
@patience_options
@config_option
def retry(topic: str, as_json: bool, url: str | None, config: Path | None) -> None:
    """Publish what waits in a parked topic, in its order."""

    async def work(outbox: "Outbox", session: "AsyncSession") -> None:
        await outbox.unpark(session, topic)
        await write_result({"topic": topic}, f"{topic} goes on", as_json)

    _do(url, config, work)


@outbox.command()
@_topic
@_database_option
@json_option
@patience_options
@config_option
def drop(topic: str, as_json: bool, url: str | None, config: Path | None) -> None:
    """Drop the message that could not be published, and publish what waits behind it."""

    async def work(outbox: "Outbox", session: "AsyncSession") -> None:
        await outbox.unpark(session, topic, drop_first=True)
        line = f"{topic} goes on without its first message"
        await write_result({"topic": topic}, line, as_json)

    _do(url, config, work)


def _do(url: str | None, config: Path | None, work: Work) -> None:
    settings = read_settings(config).database
    if url is not None:
        settings = replace(settings, url=url)
    require_url(settings)
    run(patiently(partial(_open_and_do, settings, work)))


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
        # Without `Database`, because an application's database lacks our schema.
        async with EngineSessions(engine).session() as session:
            await work(Outbox(), session)
    except NotFound as error:
        raise Failure(f"{error.message}: `chat-server outbox list` names those that are") from None
    except (DBAPIError, OSError, TimeoutError) as error:
        raise Away(f"the outbox cannot be used: {describe(error)}") from None
    finally:
        await engine.dispose()
