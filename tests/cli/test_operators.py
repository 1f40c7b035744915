"""`chat-server nodes`, `connections`, `topics`, `disconnect`, `block`, `revoke`, `announce`."""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest
from click.testing import CliRunner

from chat_server.app import create_app
from chat_server.cli.answers import tell_missing
from chat_server.cli.commands import main
from tests.rig.chat_client import Chat, chat
from tests.rig.server import mint
from tests.rig.tokens import forge
from tests.server.inprocess import Served, make_settings, serving


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    async with serving(make_settings(), app=create_app(make_settings())) as started:
        yield started


async def call(served: Served, *arguments: str, token: str = "") -> tuple[int, str, str]:
    """Run a command in a thread, as an operator unless a token is given."""
    jwt = token or forge(sub="op", topics={"admin": ["**"]})
    environ = {"CHATCLIENT_URL": served.url, "CHATCLIENT_TOKEN": jwt}
    result = await asyncio.to_thread(CliRunner(env=environ).invoke, main, arguments)
    return result.exit_code, result.stdout, result.stderr


async def member(served: Served, sub: str, *topics: str) -> Chat:
    client = await chat(served.ws_url, mint(sub))
    for topic in topics:
        await client.ok(type="subscribe", topic=topic)
    return client


async def test_who_and_what_is_there(served: Served) -> None:
    async with await member(served, "ada", "room:a"), await member(served, "bob", "room:a"):
        code, out, err = await call(served, "nodes")
        assert (code, err) == (0, "")
        assert f"{served.node.name} ok 2 connections, 2 users, 1 topics" in out
        code, out, err = await call(served, "connections", "--user", "bob")
        assert (code, err) == (0, "")
        assert " bob 127.0.0.1 " in out
        assert out.count("\n") == 1
        code, out, _ = await call(served, "connections", "--json")
        assert [json.loads(line)["user"] for line in out.splitlines()].count("ada") == 1
        assert await call(served, "topics") == (0, "room:a 2 subscribers, #0\n", "")


async def test_a_user_is_sent_away_and_kept_out(served: Served) -> None:
    async with await member(served, "bob") as bob:
        away = ("disconnect", "--user", "bob", "--reason", "x")
        assert await call(served, *away) == (0, "1 worker has obeyed, 1 connections\n", "")
        assert await bob.closed() == 4403
    arguments = ("block", "bob", "--for", "1h", "--reason", "spam", "--json")
    code, out, err = await call(served, *arguments)
    assert (code, err) == (0, "")
    assert json.loads(out)["missing"] == []
    assert served.node.denials.find("users", "bob") is not None
    code, out, _ = await call(served, "unblock", "bob", "--reason", "sorry")
    assert (code, served.node.denials.find("users", "bob")) == (0, None)
    assert (await call(served, "revoke", "--jti", "a", "--reason", "lost"))[0] == 0
    assert served.node.denials.find("tokens", "a") is not None


def test_a_worker_that_does_not_answer_is_named_with_since_when(
    capsys: pytest.CaptureFixture[str],
) -> None:
    answer = {"missing": ["a-1-b", "a-2-c"], "silent": {"a-1-b": 41.2}}
    tell_missing(answer, "did not answer")
    assert capsys.readouterr().err.splitlines() == [
        "chat-server: worker a-1-b did not answer; it was last heard 41 s ago",
        "chat-server: worker a-2-c did not answer",
    ]


async def test_what_changes_nothing_is_not_told_as_if_it_did(served: Served) -> None:
    why = ("--reason", "x")
    calls: list[tuple[tuple[str, ...], str]] = [
        (("unblock", "bob"), "bob was not blocked: nothing has changed\n"),
        (("disconnect", "--user", "bob"), "there is no such connection: nothing has changed\n"),
        (("block", "bob", "--for", "1h"), "1 worker has obeyed, 0 connections, until "),
        (("block", "bob", "--for", "2h"), "bob was blocked already: 1 worker has obeyed, "),
        (("unblock", "bob"), "1 worker has obeyed, 0 connections\n"),
        (("unblock", "bob"), "bob was not blocked: nothing has changed\n"),
        (("revoke", "--jti", "a"), "1 worker has obeyed, 0 connections, until "),
        (("revoke", "--jti", "a"), "was revoked already: 1 worker has obeyed, "),
    ]
    for arguments, told in calls:
        code, out, err = await call(served, *arguments, *why)
        assert (code, out[: len(told)], err) == (0, told, ""), arguments


async def test_everybody_is_told(served: Served) -> None:
    async with await member(served, "ada") as ada:
        assert (await call(served, "announce", "tea", "--reason", "it is five"))[0] == 0
        assert (await ada.next())["data"] == {"text": "tea"}
        assert (await call(served, "announce", "--data", "[1]", "--reason", "x"))[0] == 0
        assert (await ada.next())["data"] == [1]


async def test_a_history_is_purged_once_that_is_confirmed(served: Served) -> None:
    async with await member(served, "ada", "room:a") as ada:
        await ada.ok(type="publish", topic="room:a", data="secret")
        code, _, err = await call(served, "purge", "room:a", "--reason", "x")
        assert (code, "Delete all that was said in 'room:a'" in err) == (2, True)
        assert err.endswith("give --yes\n")
        assert len((await served.node.log.history("room:a", limit=9)).events) == 1
        answer = await call(served, "purge", "room:a", "--reason", "x", "--yes")
        assert answer == (0, "1 worker has obeyed, 1 connections\n", "")
        assert (await served.node.log.history("room:a", limit=9)).events == []


async def test_what_cannot_be_done_is_one_line(served: Served) -> None:
    calls: list[tuple[tuple[str, ...], str, str]] = [
        (("block", "op", "--for", "1h", "--reason", "x"), "", "bad_request: user: is yourself"),
        (("nodes",), forge(sub="ada"), "forbidden: token: has no grant admin"),
        (("revoke", "--reason", "x"), "", "give exactly one of --jti, --user, --kid"),
        (("announce", "--data", "{", "--reason", "x"), "", "Invalid value for TEXT"),
        (("announce", " ", "--reason", "x"), "", "Invalid value for TEXT: must not be blank"),
        (("unblock", "bob", "--reason", " \u2003"), "", "reason: must not be blank"),
        (("block", "bob", "--for", "soon", "--reason", "x"), "", "'soon' is no duration"),
        (("nodes", "--url", "http://127.0.0.1:1"), "", "the server at 127.0.0.1:1 cannot be asked"),
    ]
    for arguments, token, complaint in calls:
        code, out, err = await call(served, *arguments, token=token)
        assert (code != 0, out) == (True, ""), arguments
        assert complaint in err
        assert "Traceback" not in err


async def test_it_says_what_became_of_a_message(served: Served) -> None:
    async with await member(served, "ada", "room:a") as ada:
        await ada.ok(type="publish", topic="room:a", data="hello")
        assert (await ada.next())["type"] == "message"
        code, out, err = await call(served, "explain", "room:a", "1", "ada")
        assert (code, err) == (0, "")
        about, worker, connection = out.splitlines()
        assert about.startswith("room:a #1: message of ada, stored at 20")
        assert worker.startswith(f"worker {served.node.name} heard it at 20")
        assert worker.endswith("; 1 subscribers, which is at #1")
        assert ": sent at 20" in connection
        code, out, _ = await call(served, "explain", "room:a", "2", "bob")
        assert out.splitlines() == [
            "room:a #2 is not stored: the last is #1",
            f"worker {served.node.name} has no note that it heard it; 1 subscribers,"
            " which is at #1",
            "no connection of bob was subscribed in the last quarter of an hour",
        ]
        code, out, _ = await call(served, "explain", "room:a", "1", "--json")
        assert json.loads(out)["sender"] == {"user": "ada"}
