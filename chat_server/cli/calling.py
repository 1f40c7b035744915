"""`chat-server call`."""

import json
import os
from collections.abc import Callable

import click

from ..client import Client
from .options import always_json_option, client_options
from .options import call as connected
from .patience import timeout_option
from .publish import from_json
from .terminal import run, write_line


@click.command()
@click.argument("method")
@click.argument("data", required=False)
@always_json_option
@timeout_option
@client_options
def call(method: str, data: str | None, connect: Callable[..., Client]) -> None:
    """Call METHOD of the application, and print its answer as JSON.

    DATA is a JSON value; null if it is left out.
    """
    try:
        value = None if data is None else from_json(os.fsencode(data))
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="DATA") from None

    async def work(client: Client) -> None:
        # ASCII, so that no character can act on a terminal.
        await write_line(json.dumps(await client.call(method, value)))

    run(connected(connect, work))
