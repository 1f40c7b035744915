"""The command `login`: what signing in costs beside the hash of the password."""

from pathlib import Path
from typing import Any

import click
import msgspec

from . import options as kinds
from .layout import columns, describe
from .login import LoginPlan, login, login_lines
from .options import Count, of
from .terminal import Line

_PLAN = LoginPlan()


@click.command("login", epilog=kinds.examples("login", "login --rounds 9 --json login.json"))
@of(_PLAN, "rounds", Count, "How often both take turns.")
@of(_PLAN, "logins", Count, "In each round, and as many hashes.")
@kinds.json
def login_command(json: str | None, **options: Any) -> None:
    """Logins by HTTP beside the hash alone, in turns, with SQLite.

    What is not met is said, and no failure: a machine may be busy with something else.
    """
    with Line() as line:
        found = login(LoginPlan(**options), line.tell)
    if json is not None:
        text = msgspec.json.format(msgspec.json.encode(found), indent=1)
        Path(json).write_bytes(text + b"\n")
    click.echo(describe(found.machine) + "\n")
    click.echo(columns(login_lines(found)))
