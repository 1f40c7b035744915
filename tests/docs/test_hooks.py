"""The example of docs/hooks.md does what the page says, as a server of its own."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from chat_server.client import Client, CommandFailed, Disconnected, connect
from chat_server.client.codec import Encoding

from ..cli.program import run
from ..rig.server import ServerProcess, mint
from .markdown import ROOT, blocks

PAGE = (ROOT / "docs" / "hooks.md").read_text("utf-8")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("rooms")
    code = [block.text for block in blocks(PAGE) if block.kind == "python"]
    (folder / "rooms.py").write_text("\n".join(code), "utf-8")
    with ServerProcess("--app", "rooms:app", folder=folder) as running:
        yield running


def client(server: ServerProcess, user: str, encoding: Encoding = "json") -> Client:
    return connect(server.url, token=mint(user), encoding=encoding)


@pytest.mark.parametrize("encoding", ["json", "msgpack"])
async def test_the_example(server: ServerProcess, encoding: Encoding) -> None:
    with pytest.raises(Disconnected, match="your account is closed"):
        async with client(server, "mallory", encoding):
            pass
    async with client(server, "ada", encoding) as ada, client(server, "eve", encoding) as eve:
        with pytest.raises(CommandFailed, match="this room is for its members"):
            await eve.history("room:board")
        await ada.publish("room:board", {"text": "  hello "})
        assert (await ada.history("room:board")).messages[-1].data == {"text": "hello"}
        with pytest.raises(CommandFailed, match="a message has a text"):
            await ada.publish("room:board", "hello")
        assert await eve.call("members", "room:board") == ["ada", "bob"]
        assert await eve.call("roll", "d20") in range(1, 21)
        with pytest.raises(CommandFailed, match="must be the name of a room") as caught:
            await eve.call("members")
        assert caught.value.code == "bad_request"
        with pytest.raises(CommandFailed, match="no method") as caught:
            await eve.call("nothing")
        assert caught.value.code == "not_found"
        with pytest.raises(CommandFailed, match="method: expected"):
            await eve.call("a b")


async def test_the_call_of_the_shell(server: ServerProcess) -> None:
    token = mint("ada")
    code, out, err = await run("call", "members", '"room:board"', url=server.url, token=token)
    assert (code, out, err) == (0, '["ada", "bob"]\n', "")
    code, out, err = await run("call", "members", url=server.url, token=token)
    assert (code, out) == (1, "")
    assert err == "chat-server: bad_request: data: must be the name of a room\n"
    code, _, err = await run("call", "members", "{", url=server.url, token=token)
    assert (code, "DATA: is not JSON" in err) == (2, True), err


def test_the_public_names_cost_nothing_until_they_are_used(tmp_path: Path) -> None:
    code = "import chat_server, sys; chat_server.hooks.Call; print('quart' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
