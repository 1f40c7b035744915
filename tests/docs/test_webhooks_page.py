"""The receiver of docs/webhooks.md takes what the server sends once, and nothing that is forged."""

import asyncio
import importlib
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from chat_server.cli.commands import main
from chat_server.database.database import Database
from chat_server.settings import DatabaseSettings, Webhook
from chat_server.webhooks.signing import message_id, parse_secret, signed_headers
from chat_server.webhooks.store import WebhookStore

from .markdown import ROOT, blocks

PAGE = ROOT / "docs" / "webhooks.md"

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
BODY = (
    b'{"type":"events","timestamp":"2026-11-29T11:50:00.000Z","data":{"events":['
    b'{"type":"message","topic":"order:7","seq":1,"at":1,"data":1,"epoch":"e"},'
    b'{"type":"gap","topic":"order:7","after":1,"before":5,"reason":"expired","epoch":"e"},'
    b'{"type":"edited","topic":"order:7","seq":5,"at":1,"data":1,"epoch":"e"}]}}'
)


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """The application of the page, as a test client."""
    [source] = [block.text for block in blocks(PAGE.read_text("utf-8")) if block.kind == "python"]
    monkeypatch.setenv("WEBHOOK_SECRET", SECRET)
    monkeypatch.delitem(sys.modules, "webhook_receiver_of_the_page", raising=False)
    (tmp_path / "webhook_receiver_of_the_page.py").write_text(source, "utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    return importlib.import_module("webhook_receiver_of_the_page").app.test_client()


def signed(body: bytes, at: int) -> dict[str, str]:
    return signed_headers([parse_secret(SECRET)], message_id("orders", body), at, body)


async def test_it_takes_messages_and_tells_repetitions(
    receiver: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):
        answer = await receiver.post("/chat", data=BODY, headers=signed(BODY, int(time.time())))
        assert answer.status_code == 204
    assert capsys.readouterr().out.splitlines() == [
        "order:7 #1: message",
        "order:7: nothing between 1 and 5 will come",
        "order:7 #5: edited",
    ]


async def test_it_refuses_what_is_forged_or_old(receiver: Any) -> None:
    forged = signed(BODY, 1_700_000_000)
    assert (await receiver.post("/chat", data=BODY, headers=forged)).status_code == 401
    assert (await receiver.post("/chat", data=BODY)).status_code == 401


def test_its_commands_answer_as_it_says(database_settings: DatabaseSettings) -> None:
    async def park() -> None:
        database = Database(database_settings)
        await database.start()
        store = WebhookStore(database)
        await store.begin("orders", 0)
        await store.park("orders", 1_795_953_000_000, "the answer is HTTP 410")
        await database.stop()

    asyncio.run(park())
    found = blocks(PAGE.read_text("utf-8"))
    number = next(n for n, block in enumerate(found) if block.kind == "sh")
    environ = {
        "CHAT_DATABASE__URL": database_settings.url,
        "CHAT_WEBHOOKS__ORDERS__URL": "https://hooks.example.org/chat",
        "CHAT_WEBHOOKS__ORDERS__SECRETS": SECRET,
        "CHAT_WEBHOOKS__ORDERS__TOPICS": "room:**",
    }
    outputs = []
    for line in found[number].text.splitlines():
        program, *arguments = line.split()
        assert program == "chat-server"
        outputs.append(CliRunner(env=environ).invoke(main, arguments).output)
    assert "".join(outputs) == found[number + 1].text


def test_the_page_uses_names_of_settings() -> None:
    text = PAGE.read_text("utf-8")
    for name in Webhook.__struct_fields__:
        if name not in ("events",):
            assert name in text, name
