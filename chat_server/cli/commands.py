"""The group of all commands."""

from itertools import pairwise
from typing import Any

import click

from ..version import __version__
from .archive import archive
from .bench import bench
from .calling import call
from .changing import delete, edit, react
from .completion import completion
from .config import config
from .database import database
from .doctor import doctor
from .explain import explain
from .history import history
from .operators import (
    announce,
    block,
    connections,
    disconnect,
    nodes,
    purge,
    revoke,
    topics,
    unblock,
)
from .outbox import outbox
from .output import drop_output
from .presence import presence
from .publish import publish
from .search import search
from .serve import serve
from .tail import tail
from .terminal import Misuse
from .token import token
from .users import users
from .webhooks import webhooks


class _Group(click.Group):
    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Refuse arguments that are not encoded in UTF-8, except a file's name."""
        for number, (before, argument) in enumerate(pairwise(["", *args]), 1):
            try:
                argument.encode()
            except UnicodeEncodeError:  # Bytes beyond UTF-8 are lone surrogates.
                # The command itself judges a token.
                if not {before, argument.partition("=")[0]} & {"--config", "--token"}:
                    # Not shown, because it may be a secret at the wrong place.
                    raise Misuse(f"argument {number} is not encoded in UTF-8") from None
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command, with success if the reader of stdout, such as head, has ended."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            drop_output()


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(
    __version__, "-V", "--version", prog_name="chat-server", message="%(prog)s %(version)s"
)
def main() -> None:
    """A real-time chat and pub/sub server."""


for command in (
    serve,
    token,
    config,
    publish,
    tail,
    history,
    edit,
    delete,
    react,
    presence,
    call,
    database,
    archive,
    users,
    search,
    webhooks,
    outbox,
    nodes,
    connections,
    topics,
    explain,
    disconnect,
    block,
    unblock,
    revoke,
    announce,
    purge,
    doctor,
    bench,
    completion,
):
    main.add_command(command)
