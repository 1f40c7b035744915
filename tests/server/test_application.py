"""`chat-server serve --app`: the fast lane for an application that embeds a `ChatServer`."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from chat_server.cli.commands import main
from chat_server.server import main as server_main
from tests.rig.chat_client import chat
from tests.rig.raw_client import RawClient, request
from tests.rig.redis_server import RedisServer, running
from tests.rig.rfc6455 import TEXT, frame
from tests.rig.server import ServerProcess, mint

from .processes import ready_workers, refused

SHOP = """
from quart import Quart
from chat_server.extension import ChatServer
from chat_server.settings import load_settings

app = Quart(__name__)
ChatServer(load_settings(flags={"http.page": False, "limits.max_topics": 3})).init_app(app)

@app.get("/")
async def own() -> str:
    return "the shop"
"""

OTHERS = """
from quart import Quart
empty = Quart(__name__)
text = "no application"
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a developer works on applications."""
    folder: Path = tmp_path_factory.mktemp("shop")
    (folder / "shop.py").write_text(SHOP, "utf-8")
    (folder / "others.py").write_text(OTHERS, "utf-8")
    (folder / "needy.py").write_text("import something_not_installed", "utf-8")
    return folder


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[ServerProcess]:
    with ServerProcess("--app", "shop:app", folder=folder) as running:
        yield running


async def test_its_routes_and_the_chat_are_served(server: ServerProcess) -> None:
    assert (await request(server.port, "GET", "/")).body == b"the shop"
    async with await chat(server.ws_url, mint("ada")) as ada:
        assert ada.welcome["limits"]["max_topics"] == 3, "it is the application's own settings"
        await ada.ok(type="subscribe", topic="room:a")
        await ada.ok(type="publish", topic="room:a", data="hello")
        assert (await ada.next())["data"] == "hello"


async def test_its_connections_are_in_the_fast_lane(server: ServerProcess) -> None:
    async with await RawClient.open(server.port, token=mint("ada")) as wire:
        await wire.send(frame(TEXT, b"\xff"))
        code, _ = await wire.read_to_close()
        assert code == 1007, "Hypercorn's own WebSockets end with 1006 here"


async def test_several_workers_import_it(folder: Path, tmp_path: Path) -> None:
    with running(RedisServer(tmp_path)) as redis:
        environ = {"CHAT_REDIS__URL": redis.url}
        flags = ("--app", "shop:app", "--workers", "2")
        with ServerProcess(*flags, folder=folder, environ=environ) as server:
            await ready_workers(server, 2)
            assert (await request(server.port, "GET", "/")).body == b"the shop"


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--app", "shop:a.b"), "--app: must be MODULE:NAME"),
        (("--app", "nowhere.deeper:app"), "--app: there is no module 'nowhere'"),
        (("--app", "others:missing"), "--app: 'missing' in 'others' is no Quart application"),
        (("--app", "others:text"), "--app: 'text' in 'others' is no Quart application"),
        (("--app", "others:empty"), "--app: others:empty embeds no ChatServer"),
        (("--app", "shop:app", "--bind", "here"), "server.bind: must be HOST:PORT"),
        (("--app", "shop:app", "--redis-url", "redis://r"), "--redis-url, --config: with --app"),
        (("--app", "shop:app", "--config", "x.toml"), "--redis-url, --config: with --app"),
    ],
)
def test_what_cannot_be_served_is_one_line(
    folder: Path, flags: tuple[str, ...], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In this process, which is as good: nothing of the server has begun."""

    def fake_run(*_: object) -> int:
        raise AssertionError("it would have been served")

    monkeypatch.setattr(server_main, "run_server", fake_run)
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", [*sys.path])
    runner = CliRunner(env={"CHAT_ENVIRONMENT": "testing"})
    done = runner.invoke(main, ["serve", *flags], prog_name="chat-server")
    for name in ("shop", "others"):
        sys.modules.pop(name, None)
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1), done.output
    assert done.stderr.startswith(f"chat-server: {words}")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--app", "shop"), "--app: must be MODULE:NAME"),
        (("--app", "nowhere:app"), "--app: there is no module 'nowhere'"),
        (("--app", "shop:app", "--workers", "2"), "server.workers: more than one worker needs"),
    ],
)
def test_what_cannot_be_served_ends_the_program(
    folder: Path, flags: tuple[str, ...], words: str
) -> None:
    code, line = refused(*flags, folder=folder)
    assert (code, line.count("\n")) == (2, 1), line
    assert line.startswith(f"chat-server: {words}")


def test_a_fault_of_its_own_is_shown_as_python_does(folder: Path) -> None:
    code, text = refused("--app", "needy:app", folder=folder)
    assert code == 1
    assert text.endswith("ModuleNotFoundError: No module named 'something_not_installed'\n")
