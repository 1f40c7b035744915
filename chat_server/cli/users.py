"""`chat-server users`: manages accounts, for administrators with the server's settings."""

import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..clock import SystemClock
from ..settings import Settings
from .database import opened_database, require_url
from .options import config_option, json_option, read_settings
from .patience import Command, patience_options
from .terminal import Failure, Misuse, run, write_line, write_result

if TYPE_CHECKING:
    from ..accounts.administration import Administration
    from ..accounts.users import Account

_role_option = click.option(
    "--role", "roles", metavar="ROLE", multiple=True, help="A role of accounts.roles; repeatable."
)
_password_option = click.option(
    "--password-stdin", is_flag=True, help="Read the password from stdin, up to the line's end."
)


def _common(command: Command) -> Command:
    """Add the options common to all these commands."""
    return json_option(patience_options(config_option(command)))


@click.group()
def users() -> None:
    """Look after the users of accounts, in the database that database.url names."""


@users.command()
@click.argument("name")
@_role_option
@_password_option
@_common
def add(
    name: str, roles: Sequence[str], password_stdin: bool, as_json: bool, config: Path | None
) -> None:
    """Add a user, and ask for the password."""
    password = _password(password_stdin)

    async def work(administration: "Administration") -> None:
        account = await administration.add(name, password, roles or ("member",))
        line = f"{account.id} is added, with the roles {', '.join(account.roles)}"
        await write_result(_row(account), line, as_json)

    _do(config, work)


@users.command("list")
@_common
def list_users(as_json: bool, config: Path | None) -> None:
    """List all users: name, roles, and whether they are disabled."""

    async def work(administration: "Administration") -> None:
        async for account in administration.all():
            if as_json:
                await write_result(_row(account), "", as_json)
                continue
            # Tabs, for `cut`. No name or role contains characters that act on a terminal.
            disabled = "\tdisabled" if account.disabled else ""
            await write_line(f"{account.id}\t{','.join(account.roles)}{disabled}")

    _do(config, work)


@users.command()
@click.argument("name")
@_password_option
@_common
def password(name: str, password_stdin: bool, as_json: bool, config: Path | None) -> None:
    """Give a user another password; all sign-ins of the user end."""
    given = _password(password_stdin)

    async def work(administration: "Administration") -> None:
        user = await administration.set_password(name, given)
        await write_result({"user": user}, "", as_json)

    _do(config, work)


@users.command()
@click.argument("name")
@_role_option
@_common
def role(name: str, roles: Sequence[str], as_json: bool, config: Path | None) -> None:
    """Replace the roles of a user; in force with the next access token."""
    if not roles:
        raise Misuse("--role: is missing; without a role a user is disabled, see `users disable`")

    async def work(administration: "Administration") -> None:
        user = await administration.set_roles(name, roles)
        await write_result({"user": user, "roles": list(roles)}, "", as_json)

    _do(config, work)


@users.command()
@click.argument("name")
@_common
def disable(name: str, as_json: bool, config: Path | None) -> None:
    """End all sign-ins of a user, and let no new one begin.

    A token that the user has already is valid until it expires (accounts.access_seconds), unless an
    operator revokes it: `chat-server revoke --user`.
    """

    async def work(administration: "Administration") -> None:
        user = await administration.disable(name)
        await write_result({"user": user, "disabled": True}, "", as_json)

    _do(config, work)


@users.command()
@click.argument("name")
@_common
def enable(name: str, as_json: bool, config: Path | None) -> None:
    """Let a user who was disabled sign in again."""

    async def work(administration: "Administration") -> None:
        user = await administration.enable(name)
        await write_result({"user": user, "disabled": False}, "", as_json)

    _do(config, work)


@users.command()
@_role_option
@click.option("--url", metavar="URL", default="", help="The server's address, for a whole link.")
@click.option("--mail", "email", metavar="ADDRESS", help="Send the link there, by mail.url.")
@_common
def invite(
    roles: Sequence[str], url: str, email: str | None, as_json: bool, config: Path | None
) -> None:
    """Print a link with which one user can sign up, or send it by mail."""

    async def work(administration: "Administration") -> None:
        from ..mail import MailError

        try:
            invitation = await administration.invite(roles or ("member",), email)
        except MailError as error:
            raise Failure(f"the mail is not sent: {error}") from None
        line = f"the invitation is sent to {email}"
        told: dict[str, object] = {"mail": email}
        if email is None:
            line = f"{url.rstrip('/')}/#invitation={invitation.token}"
            told = {"link": line}
        told |= {"roles": list(invitation.roles), "expires_at": invitation.expires_at}
        await write_result(told, line, as_json)

    if email is not None and not read_settings(config).mail.url:
        raise Misuse("mail.url: is not set: set CHAT_MAIL__URL")
    _do(config, work)


def _row(account: "Account") -> dict[str, object]:
    return {"user": account.id, "roles": list(account.roles), "disabled": account.disabled}


def _password(from_stdin: bool) -> str:
    if from_stdin:
        if sys.stdin is None:  # closed by the parent process
            raise Misuse("password: stdin is closed")
        return sys.stdin.readline().rstrip("\r\n")
    if sys.stdin is None or not sys.stdin.isatty():
        raise Misuse("password: there is no terminal to ask in; give --password-stdin")
    given: str = click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    return given


def _do(config: Path | None, work: Callable[["Administration"], Awaitable[None]]) -> None:
    settings = read_settings(config)
    require_url(settings.database)
    run(_with_database(settings, work))


async def _with_database(
    settings: Settings, work: Callable[["Administration"], Awaitable[None]]
) -> None:
    async with opened_database(settings.database) as database:
        from ..accounts.administration import Administration

        await work(Administration(settings, database, SystemClock()))
