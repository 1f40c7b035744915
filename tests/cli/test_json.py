"""`--json`: every command that prints a result has it, and prints nothing but JSON then."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from chat_server.cli.commands import main
from chat_server.settings import DatabaseSettings
from tests.rig.server import ServerProcess
from tests.rig.waiting import until_async

from .program import ENVIRON, USER
from .test_outbox import park
from .test_webhooks import given, some

APPLICATION = """
from quart import Quart
from chat_server import ChatServer, load_settings

app = Quart(__name__)
chat = ChatServer(load_settings())
chat.init_app(app)

@chat.on_call("echo")
async def echo(call):
    return call.data
"""

NO_RESULT = {
    "serve": "runs until it is stopped",
    "completion": "prints a script for a shell",
}
"""Commands without `--json`, and why."""

CALLS: dict[str, list[str]] = {
    "token": ["--sub", "ada"],
    "token inspect": [],
    "config check": [],
    "config show": ["--changed"],
    "config env": [],
    "config doc": ["limits"],
    "config schema": [],
    "database upgrade": [],
    "database status": [],
    "publish": ["room:json", "hello"],
    "history": ["room:json"],
    "edit": ["room:json", "1", "better"],
    "react": ["room:json", "1", "👍"],
    "delete": ["room:json", "2"],
    "presence": ["room:json"],
    "call": ["echo", "1"],
    "search": ["hello"],
    "tail": ["room:json", "--last", "1"],
    "users add": ["ada", "--password-stdin"],
    "users list": [],
    "users password": ["ada", "--password-stdin"],
    "users role": ["ada", "--role", "admin"],
    "users disable": ["ada"],
    "users enable": ["ada"],
    "users invite": [],
    "webhooks list": [],
    "webhooks replay": ["orders"],
    "webhooks reset": ["orders"],
    "outbox list": [],
    "outbox retry": ["order:1"],
    "outbox drop": ["order:2"],
    "archive export": ["--user", "grace"],
    "archive delete": ["room:json", "3", "--yes"],
    "archive erase": ["--user", "grace", "--yes"],
    "nodes": [],
    "connections": [],
    "topics": [],
    "explain": ["room:json", "1"],
    "disconnect": ["--user", "bob", "--reason", "x"],
    "block": ["bob", "--for", "1h", "--reason", "x"],
    "unblock": ["bob", "--reason", "x"],
    "revoke": ["--jti", "j", "--reason", "x"],
    "announce": ["tea", "--reason", "x"],
    "purge": ["room:json", "--reason", "x", "--yes"],
    "doctor": [],
    "bench": ["--connections", "1", "--rate", "2", "--duration", "1s"],
}
"""How to call each command, in an order in which each has a result."""

EMPTY = ("presence", "connections", "topics")
"""Lists of those who are there, of whom there are none."""


def commands(group: click.Group = main, prefix: str = "") -> Iterator[tuple[str, click.Command]]:
    """Yield every command with its name, groups that do something themselves included."""
    for name, command in group.commands.items():
        full = f"{prefix}{name}"
        if not isinstance(command, click.Group) or command.invoke_without_command:
            yield full, command
        if isinstance(command, click.Group):
            yield from commands(command, f"{full} ")


def test_every_command_that_prints_a_result_has_the_option() -> None:
    found = dict(commands())
    assert found.keys() == CALLS.keys() | NO_RESULT.keys()
    for name, command in found.items():
        options = {option for each in command.params for option in each.opts}
        assert ("--json" in options) is (name not in NO_RESULT), name


@pytest.fixture
def environ(tmp_path: Path) -> Iterator[dict[str, str | None]]:
    """The environment of a server that has everything, and of its commands."""
    (tmp_path / "application.py").write_text(APPLICATION)
    url = f"sqlite+aiosqlite:///{tmp_path / 'chat.db'}"
    settings = {
        "CHAT_ENVIRONMENT": "development",
        "CHAT_DATABASE__URL": url,
        "CHAT_ACCOUNTS__HASH_MEMORY_KIB": "8",
    }
    with ServerProcess("--app", "application:app", environ=settings, folder=tmp_path) as server:
        given(DatabaseSettings(url=url), some)
        asyncio.run(park(url))
        yield {**settings, "CHATCLIENT_URL": server.url, "CHATCLIENT_TOKEN": None, "LOGNAME": USER}


async def test_every_result_is_json_and_nothing_else(environ: dict[str, str | None]) -> None:
    async def run(name: str, *arguments: str) -> str:
        if name == "tail":
            return await asyncio.to_thread(first_line, environ, name, *arguments)
        stdin = "correct horse\n" if name.startswith("users") else None
        invoke = CliRunner(env=environ).invoke
        result = await asyncio.to_thread(invoke, main, [*name.split(), *arguments], stdin)
        assert result.exit_code == 0, (name, result.output, result.exception)
        return result.stdout

    for text in ("one", "two", "three"):
        await run("publish", "room:json", text)
    token = await run("token", "--sub", "ada")
    for name, arguments in CALLS.items():
        given = [*arguments, token.strip()] if name == "token inspect" else arguments
        if name == "search":  # What was published is archived a moment later.
            await until_async(partial(run, name, *given))
        printed = await run(name, "--json", *given)
        assert printed or name in EMPTY, name
        # One document, on several lines for people, or one a line.
        for document in [printed] if name.startswith("config") else printed.splitlines():
            json.loads(document)


def first_line(environ: dict[str, str | None], *arguments: str) -> str:
    """Return the first line that a command without an end prints."""
    known = {name: value for name, value in environ.items() if value is not None}
    command = [sys.executable, "-m", "chat_server", *arguments]
    with subprocess.Popen(
        command, env={**ENVIRON, **known}, stdout=subprocess.PIPE, text=True
    ) as running:
        assert running.stdout is not None
        line = running.stdout.readline()
        running.terminate()
    return line
