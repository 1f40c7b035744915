"""An export is whole, and an erasure leaves nothing, neither in the archive nor in the store."""

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from click.testing import CliRunner
from sqlalchemy import select

from chat_server import ChatServer, Settings, create_app
from chat_server.archive.tables import CHANGES, CURSORS, MESSAGES
from chat_server.cli.commands import main
from chat_server.jobs import Jobs
from chat_server.protocol.commands import History, React, Read, Unread
from chat_server.protocol.messages import User
from chat_server.service.actor import Application
from chat_server.service.publishing import command_of
from chat_server.settings import DatabaseSettings
from chat_server.user_data import exporting
from chat_server.user_data import user_data as module
from tests.server.inprocess import make_settings

from ..accounts.conftest import QUICK
from ..rig.waiting import until_async

PASSWORD = "correct horse"
ADA, BOB = User("ada"), User("bob")


@pytest.fixture
def settings(database_settings: DatabaseSettings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setattr(module, "SETTLE_SECONDS", 1.5)
    return make_settings(
        accounts__enabled="on",
        accounts__sign_up="open",
        database__url=database_settings.url,
        namespaces__room__archive=True,
        namespaces__room__read_receipts=True,
        namespaces__short__archive=True,
        namespaces__short__history_size=2,
        **{f"accounts__{name}": value for name, value in QUICK.items()},
    )


class Site:
    """A server in this process, and what a client of its HTTP has."""

    def __init__(self, settings: Settings) -> None:
        self.app = create_app(settings)
        self.http = self.app.test_client()
        self.tokens: dict[str, str] = {}

    @property
    def chat(self) -> ChatServer:
        chat: ChatServer = self.app.extensions["chat_server"]
        return chat

    async def sign_up(self, name: str) -> None:
        given = {"name": name, "password": PASSWORD}
        assert (await self.http.post("/users", json=given)).status_code == 201
        answer = await self.http.post("/auth/login", json=given)
        self.tokens[name] = (await answer.get_json())["access_token"]

    async def ask(self, method: str, path: str, by: str, body: object = None) -> Any:
        headers = {"Authorization": f"Bearer {self.tokens[by]}"}
        return await self.http.open(path, method=method, headers=headers, json=body)

    async def history(self, topic: str) -> list[dict[str, Any]]:
        ok = await self.chat.service.perform(Application(), History(topic=topic, limit=100))
        return [json.loads(bytes(message)) for message in ok.messages]

    async def readers(self, topic: str) -> list[str]:
        asked = Unread(topics=[topic], readers=True)
        ok = await self.chat.service.perform(Application(User("eve")), asked)
        return [reader.user for reader in ok.topics[topic].readers or ()]

    async def archived(self) -> str:
        """Return what the archive has, as text."""
        assert self.chat.database is not None
        async with self.chat.database.session(read_only=True) as session:
            rows = [*(await session.execute(select(MESSAGES))).all()]
            rows += (await session.execute(select(CHANGES))).all()
            rows += (await session.execute(select(CURSORS))).all()
        return repr(rows)

    async def until_archived(self, *texts: str) -> None:
        async def is_there() -> bool:
            archived = await self.archived()
            return all(text in archived for text in texts)

        await until_async(is_there)


@asynccontextmanager
async def open_site(settings: Settings) -> AsyncIterator[Site]:
    site = Site(settings)
    async with site.app.test_app():
        yield site


async def talk(site: Site) -> None:
    """Let Ada and Bob talk in a room that is kept, and in one whose store has little."""
    chat = site.chat
    for number in range(3):
        await chat.publish("room:a", {"text": f"ada {number}"}, sender=ADA)
        await chat.publish("room:a", {"text": f"bob {number}"}, sender=BOB)
        await chat.publish("short:a", {"text": f"ada short {number}"}, sender=ADA)
        await chat.publish("short:a", {"text": f"bob short {number}"}, sender=BOB)
    await chat.edit("room:a", 1, {"text": "ada edited"}, sender=ADA)
    for user in (ADA, BOB):
        command = command_of(React, "room:a", seq=2, emoji="👍")
        await chat.service.perform(Application(user), command)
    await site.until_archived("bob short 2", "ada edited", '["ada","bob"]')


async def test_an_export_has_everything_once(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "MESSAGES_AT_ONCE", 2)
    async with open_site(settings) as site:
        await site.sign_up("ada")
        await site.sign_up("bob")
        await talk(site)
        assert (await site.ask("GET", "/users/ada/export", "ada")).status_code == 404
        for method, path in (("POST", "export"), ("GET", "export"), ("GET", "export/messages")):
            other = await site.ask(method, f"/users/ada/{path}", "bob")
            assert other.status_code == 403
        asked = await site.ask("POST", "/users/ada/export", "ada")
        assert asked.status_code == 202

        async def is_done() -> bool:
            answer = await site.ask("GET", "/users/ada/export", "ada")
            return (await answer.get_json()).get("done_at") is not None

        await until_async(is_done)
        first = await (await site.ask("GET", "/users/ada/export", "ada")).get_json()
        # Asked again it is the same, for an hour.
        again = await (await site.ask("POST", "/users/ada/export", "ada")).get_json()
        assert again == first
        answer = await site.ask("GET", "/users/ada/export/messages", "ada")
        assert answer.content_type == "application/gzip"
        content = await answer.get_data()
        assert len(content) == first["bytes"]
        account, *messages = map(json.loads, gzip.decompress(content).splitlines())
        assert (account["type"], account["id"], account["roles"]) == ("user", "ada", ["member"])
        texts = [message["data"]["text"] for message in messages]
        assert sorted(texts) == sorted(
            ["ada edited", "ada 1", "ada 2", *(f"ada short {number}" for number in range(3))]
        )


async def test_a_closed_account_leaves_nothing(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_site(settings) as site:
        for name in ("ada", "bob"):
            await site.sign_up(name)
        await talk(site)
        for user in (ADA, BOB):
            await site.chat.service.perform(Application(user), Read(topic="room:a", seq=1))
        assert await site.readers("room:a") == ["bob", "ada"]
        assert (await site.ask("DELETE", "/users/ada", "bob")).status_code == 403
        assert (await site.ask("DELETE", "/users/ada", "ada", {})).status_code == 422
        wrong = await site.ask("DELETE", "/users/ada", "ada", {"password": "wrong horse"})
        assert wrong.status_code == 401
        done = await site.ask("DELETE", "/users/ada", "ada", {"password": PASSWORD})
        assert done.status_code == 202
        given = {"name": "ada", "password": PASSWORD}
        assert (await site.http.post("/auth/login", json=given)).status_code == 401
        assert (await site.http.post("/users", json=given)).status_code == 422

        async def is_erased() -> bool:
            return "ada" not in await site.archived()

        await until_async(is_erased)
        assert await site.readers("room:a") == ["bob"]
        shown = await site.history("room:a")
        assert [message["data"]["text"] for message in shown if message.get("data")] == [
            *(f"bob {number}" for number in range(3)),
        ]
        [reacted] = [message for message in shown if message["seq"] == 2]
        assert json.dumps(reacted["reactions"]).count("bob") == 1
        assert "ada" not in json.dumps(reacted["reactions"])
        texts = [m["data"]["text"] for m in await site.history("short:a") if m.get("data")]
        assert texts == [f"bob short {number}" for number in range(3)]


async def test_an_operator_lets_a_server_erase(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_site(settings) as site:
        await talk(site)
    arguments = ["archive", "erase", "--user", "ada", "--yes", "--later"]
    environ = {"CHAT_ENVIRONMENT": "testing", "CHAT_DATABASE__URL": settings.database.url}
    async with open_site(settings) as site:
        assert len(await site.history("room:a")) == 6

        def erase() -> str:
            return CliRunner(env=environ).invoke(main, arguments).output

        assert "a running server" in await asyncio.to_thread(erase)
    # What a server that ends has not done, the next one finds.
    async with open_site(settings) as site:

        async def is_erased() -> bool:
            return "ada" not in await site.archived()

        await until_async(is_erased)
        assert "ada edited" not in json.dumps(await site.history("room:a"))


async def test_without_jobs_the_answer_says_what_is_missing(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Jobs, "possible", staticmethod(lambda: False))
    async with open_site(settings) as site:
        await site.sign_up("ada")
        answer = await site.ask("POST", "/users/ada/export", "ada")
        assert answer.status_code == 503
        assert "quart-chat[jobs]" in (await answer.get_json())["detail"]
        answer = await site.ask("DELETE", "/users/ada", "ada", {"password": PASSWORD})
        assert answer.status_code == 503
        assert (await site.ask("GET", "/users/ada", "ada")).status_code == 200
