"""`chat-server history`, `edit`, `delete`, `react` and `presence`."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from click.testing import CliRunner

from chat_server.cli.commands import main
from chat_server.protocol import commands
from chat_server.protocol.messages import PresenceOk, PresentUser
from tests.cli.program import USER, run
from tests.rig.fake_server import FakeServer
from tests.rig.server import ServerProcess


@pytest.fixture(scope="module")
def real() -> Iterator[ServerProcess]:
    with ServerProcess(environ={"CHAT_ENVIRONMENT": "development"}) as server:
        yield server


def call(real: ServerProcess, *arguments: str) -> tuple[int, str, str]:
    """Run a command in this process, with a token that the command makes itself."""
    environ = {"CHATCLIENT_URL": real.url, "CHATCLIENT_TOKEN": None, "LOGNAME": USER}
    result = CliRunner(env=environ).invoke(main, arguments)
    return result.exit_code, result.stdout, result.stderr


def test_a_message_and_what_becomes_of_it(real: ServerProcess) -> None:
    for text in ("first", "second"):
        assert call(real, "publish", "room:a", text) == (0, "", "")
    assert call(real, "edit", "room:a", "1", "better") == (0, "", "")
    assert call(real, "react", "room:a", "1", "👍") == (0, "", "")
    assert call(real, "react", "room:a", "1", "♥") == (0, "", "")
    assert call(real, "react", "room:a", "1", "♥", "--remove") == (0, "", "")
    assert call(real, "delete", "room:a", "2") == (0, "", "")
    code, out, err = call(real, "history", "room:a")
    assert (code, err) == (0, "")
    assert [line.split(" ", 1)[1] for line in out.splitlines()] == [
        f"#1 {USER}: better (edited) [👍 1]",
        f"#2 {USER}: (deleted)",
    ]
    assert call(real, "edit", "--data", "room:a", "1", '["data"]') == (0, "", "")
    code, out, _ = call(real, "history", "--json", "--before", "2", "room:a")
    assert [json.loads(line)["data"] for line in out.splitlines()] == [["data"]]
    code, out, _ = call(real, "history", "--json", "--after", "1", "--limit", "1", "room:a")
    assert [json.loads(line)["deleted"] for line in out.splitlines()] == [True]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("edit", "room:a", "99", "x"), "not_found: seq: there is no message 99"),
        (("delete", "room:a", "99"), "not_found: seq: there is no message 99"),
        (("react", "room:a", "99", "👍"), "not_found: seq: there is no message 99"),
        (("react", "room:a", "99", "\x1b"), "bad_request: emoji: must be one visible character"),
    ],
)
def test_a_refusal_is_one_line(
    real: ServerProcess, arguments: tuple[str, ...], complaint: str
) -> None:
    code, out, err = call(real, *arguments)
    assert (code, out) == (1, "")
    assert err.startswith(f"chat-server: {complaint}")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("edit", "room:a", "0", "x"), "'SEQ': 0 is not in the range"),
        (("delete", "room:a", "one"), "'SEQ': 'one' is not a valid integer"),
        (("edit", "--data", "room:a", "1", "{"), "TEXT: is not JSON"),
        (("publish", "room:a", "\udcff"), "is not encoded in UTF-8"),
        (("history", "--before", "1", "--after", "1", "room:a"), "only one of them"),
        (("history", "no topic"), "TOPIC"),
        (("presence",), "Missing argument 'TOPIC'"),
    ],
)
async def test_wrong_calls(server: FakeServer, arguments: tuple[str, ...], complaint: str) -> None:
    code, out, err = await run(*arguments, url=server.url)
    assert (code, out) == (2, "")
    assert complaint in err
    assert not server.commands


CHANGES = pytest.mark.parametrize(
    "arguments",
    [
        ("edit", "room:a", "1", "better"),
        ("delete", "room:a", "1"),
        ("react", "room:a", "1", "👍"),
        ("react", "--remove", "room:a", "1", "👍"),
    ],
)


class Unheard:
    """A connection that hears no answer."""

    async def answer(self, id: int | None, ok: Any) -> None:
        """Let the answer be lost."""


@CHANGES
async def test_a_change_whose_answer_is_lost_is_stored_once(
    server: FakeServer, arguments: tuple[str, ...]
) -> None:
    handler = f"_on_{arguments[0]}"

    async def lose(connection: Any, command: Any) -> None:
        delattr(server, handler)
        await getattr(server, handler)(Unheard(), command)
        server.drop()

    setattr(server, handler, lose)
    code, out, err = await run(*arguments, url=server.url)
    assert (code, out) == (0, "")
    assert err.endswith("chat-server: connected again\n")
    assert (await run(*arguments, url=server.url))[0] == 0
    sent: list[Any] = list(server.commands)
    first, second, another = (command.key for command in sent)
    assert first == second != another
    assert len(server.topic("room:a").messages) == 2


@CHANGES
async def test_a_refusal_that_passes_is_waited_for(
    server: FakeServer, arguments: tuple[str, ...]
) -> None:
    for _ in range(3):
        server.refuse(arguments[0], "unavailable", retry_in_ms=1)
    code, _, err = await run(*arguments, url=server.url)
    assert (code, err) == (0, f"chat-server: waiting: unavailable: {arguments[0]} was refused\n")
    sent: list[Any] = list(server.commands)
    assert len(sent) == 4
    assert len({command.key for command in sent}) == 1
    assert len(server.topic("room:a").messages) == 1


@CHANGES
async def test_a_change_is_given_up_in_time(server: FakeServer, arguments: tuple[str, ...]) -> None:
    server.silent.add(arguments[0])
    code, out, err = await run(arguments[0], "--timeout", "1s", *arguments[1:], url=server.url)
    assert (code, out) == (1, "")
    assert err == ("chat-server: not stored within 1 s; it may have been stored all the same\n")


def user(name: str, connections: int, shown: str | None = None) -> PresentUser:
    return PresentUser(user=name, name=shown, connections=connections)


@pytest.mark.parametrize("as_json", [False, True])
async def test_who_is_there(server: FakeServer, *, as_json: bool) -> None:
    """Page by page."""
    pages = [
        ([user("ann", 2, "A\x1bnn"), user("bob", 1)], True),
        ([user("carol", 1)], False),
    ]

    def on_command(command: commands.Command) -> None:
        if isinstance(command, commands.Presence):
            users, more = pages.pop(0)
            server.answers["presence"] = PresenceOk(
                topic="room:a", count=3, connections=4, users=users, more=more
            )

    server.on_command = on_command
    flags = ("--json",) if as_json else ()
    code, out, err = await run("presence", *flags, "room:a", url=server.url)
    assert (code, err) == (0, "")
    if as_json:
        assert [json.loads(line)["user"] for line in out.splitlines()] == ["ann", "bob", "carol"]
        assert out.isascii()
    else:
        assert out.splitlines() == ["ann (A␛nn), 2 connections", "bob", "carol"]
    assert [asked.after for asked in server.received(commands.Presence)] == [None, "bob"]
