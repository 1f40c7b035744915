"""`chat-server webhooks`, from the outside."""

import asyncio
from collections.abc import Awaitable, Callable

from click.testing import CliRunner, Result

from chat_server.cli.commands import main
from chat_server.consumers.ports import Cursor
from chat_server.database.database import Database
from chat_server.settings import DatabaseSettings
from chat_server.webhooks.store import WebhookStore

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def run(url: str, *arguments: str) -> Result:
    environ = {"CHATCLIENT_TOKEN": None, "CHAT_DATABASE__URL": url}
    for name in ("orders", "fresh"):
        prefix = f"CHAT_WEBHOOKS__{name.upper()}__"
        environ |= {
            f"{prefix}URL": "https://hooks.example.org/?token=hidden",
            f"{prefix}SECRETS": SECRET,
            f"{prefix}TOPICS": "room:**",
        }
    return CliRunner(env=environ).invoke(main, ["webhooks", *arguments])


def given(settings: DatabaseSettings, work: Callable[[WebhookStore], Awaitable[object]]) -> object:
    """Do something with what the database remembers."""

    async def do() -> object:
        database = Database(settings)
        await database.start()
        try:
            return await work(WebhookStore(database))
        finally:
            await database.stop()

    return asyncio.run(do())


async def some(store: WebhookStore) -> None:
    for name in ("orders", "old", "ill"):
        await store.begin(name, 1_700_000_000_000)
    await store.park("orders", 1_700_000_000_000, "the answer is HTTP 410")
    await store.write_failing("ill", 1_700_000_000_000, "no answer\x1b[2J in 15 s")
    await store.move("old", {"room:a": None}, {"room:a": Cursor("e", 5, 1)}, 1)


def test_a_list_says_how_each_endpoint_is(database_settings: DatabaseSettings) -> None:
    given(database_settings, some)
    result = run(database_settings.url, "list")
    assert result.output.splitlines() == [
        "fresh: not begun",
        "ill: failing since 2023-11-14T22:13:20.000Z: no answer␛[2J in 15 s; not in the settings",
        "old: delivers, 1 topic; not in the settings",
        "orders: parked since 2023-11-14T22:13:20.000Z: the answer is HTTP 410",
    ]
    assert result.exit_code == 0


def test_a_replay_lets_an_endpoint_go_on(database_settings: DatabaseSettings) -> None:
    given(database_settings, some)
    result = run(database_settings.url, "replay", "orders")
    assert (result.output, result.exit_code) == ("orders goes on\n", 0)
    assert "orders: delivers, 0 topics" in run(database_settings.url, "list").output


def test_a_replay_goes_back_in_a_topic(database_settings: DatabaseSettings) -> None:
    given(database_settings, some)
    url = database_settings.url
    again = run(url, "replay", "old", "--topic", "room:a", "--after", "2")
    assert (again.output, again.exit_code) == ("old goes on\n", 0)
    cursors = given(database_settings, lambda store: store.cursors("old", ["room:a"]))
    assert cursors == {"room:a": Cursor("e", 2, 0)}
    beyond = run(url, "replay", "old", "--topic", "room:a", "--after", "9")
    assert beyond.exit_code == 1
    assert beyond.stderr == "chat-server: old has not been sent anything behind 9 of room:a\n"
    alone = run(url, "replay", "old", "--topic", "room:a")
    assert (alone.exit_code, alone.stderr) == (
        2,
        "chat-server: --topic and --after belong together\n",
    )
    assert run(url, "replay", "old", "--topic", "a b", "--after", "1").exit_code == 2


def test_a_reset_forgets_what_waits(database_settings: DatabaseSettings) -> None:
    given(database_settings, some)
    result = run(database_settings.url, "reset", "old")
    assert (result.output, result.exit_code) == ("old begins anew\n", 0)
    assert given(database_settings, lambda store: store.cursors("old", ["room:a"])) == {}


def test_an_unknown_endpoint_and_no_database(database_settings: DatabaseSettings) -> None:
    for command in ("replay", "reset"):
        result = run(database_settings.url, command, "other")
        assert result.exit_code == 1
        assert result.stderr == (
            "chat-server: no endpoint 'other' has begun: `chat-server webhooks list` names them\n"
        )
    alone = CliRunner(env={"CHAT_ENVIRONMENT": "testing"}).invoke(main, ["webhooks", "list"])
    assert alone.stderr == "chat-server: database.url: is not set: set CHAT_DATABASE__URL\n"
