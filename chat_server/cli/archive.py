"""`chat-server archive`: a user's messages in the archive, or one message."""

import time
from pathlib import Path

import click

from ..jobs import Jobs
from ..settings import DatabaseSettings
from .database import database_settings, opened_database
from .options import always_json_option, config_option, json_option
from .patience import patience_options
from .terminal import Failure, Misuse, confirm, run, write_line, write_result

user_option = click.option("--user", required=True, metavar="USER", help="Whose messages.")


@click.group()
def archive() -> None:
    """Export or erase what the archive has of a user, or one message.

    Works on the database itself, whether or not a server runs.
    """


@archive.command()
@user_option
@always_json_option
@patience_options
@config_option
def export(user: str, config: Path | None) -> None:
    """Print the user's messages as they now are, one JSON object a line."""
    run(_export(database_settings(config), user))


@archive.command()
@user_option
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option(
    "--later", is_flag=True, help="Let a running server do it, in Redis or its memory as well."
)
@json_option
@patience_options
@config_option
def erase(user: str, yes: bool, later: bool, as_json: bool, config: Path | None) -> None:
    """Erase the user's messages, and what the user did to those of others.

    There is no way back. Without --later this is done at once, and what the store still holds is
    not touched.
    """
    settings = database_settings(config)
    if later and not Jobs.possible():
        raise Misuse("--later: is done by jobs: pip install 'quart-chat[jobs]'")
    if not yes:
        confirm(f"Erase all messages of {user!r} for good?")
    erase_user = _erase_later if later else _erase
    run(erase_user(settings, user, as_json))


@archive.command("delete")
@click.argument("topic")
@click.argument("seq", type=click.IntRange(min=1))
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
@patience_options
@config_option
def delete_message(topic: str, seq: int, yes: bool, as_json: bool, config: Path | None) -> None:
    """Erase the message SEQ of TOPIC, which the store does not hold any more.

    There is no way back. A message that the store still holds is deleted by `chat-server delete`.
    """
    settings = database_settings(config)
    if not yes:
        confirm(f"Erase message {seq} of {topic!r} for good?")
    run(_erase_message(settings, topic, seq, as_json))


async def _erase_message(settings: DatabaseSettings, topic: str, seq: int, as_json: bool) -> None:
    from ..archive import keeping

    async with opened_database(settings) as database:
        rows = await keeping.erase_message(database, topic, seq)
    if not rows:
        raise Failure(f"the archive has no message {seq} of {topic!r}")
    line = f"erased message {seq} of {topic} and {rows - 1} changes of it"
    await write_result({"topic": topic, "seq": seq, "changes": rows - 1}, line, as_json)


async def _export(settings: DatabaseSettings, user: str) -> None:
    from ..archive import keeping  # Other commands start faster without SQLAlchemy.

    async with opened_database(settings) as database:
        async for message in keeping.export(database, user):
            await write_line(message.decode())


async def _erase_later(settings: DatabaseSettings, user: str, as_json: bool) -> None:
    from ..user_data import requests

    async with opened_database(settings) as database:
        await requests.add(database, user, "messages", int(time.time() * 1_000))
    line = "a running server begins within a minute, or one that is started"
    await write_result({"user": user, "later": True}, line, as_json)


async def _erase(settings: DatabaseSettings, user: str, as_json: bool) -> None:
    from ..archive import keeping

    async with opened_database(settings) as database:
        erased = await keeping.erase(database, user)
    counts = {name: getattr(erased, name) for name in ("messages", "changes", "reactions")}
    line = (
        f"erased {erased.messages} messages, {erased.changes} changes and"
        f" {erased.reactions} reactions"
    )
    await write_result({"user": user, **counts}, line, as_json)
