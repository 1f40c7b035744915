"""The begin and the end of a connection in the log."""

import logging
from typing import Any

import pytest

from tests.rig.chat_client import chat
from tests.rig.server import mint
from tests.rig.waiting import until
from tests.server.inprocess import make_settings, serving

LOGGER = "chat_server.sessions.connection_log"


def told(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    return [vars(record) for record in caplog.records if record.name == LOGGER]


@pytest.mark.parametrize("level", ["DEBUG", "INFO"])
async def test_begin_and_end_are_told_at_the_level_that_is_set(
    caplog: pytest.LogCaptureFixture, level: str
) -> None:
    caplog.set_level("INFO", LOGGER)
    async with serving(make_settings(log__connections=level)) as server:
        async with await chat(server.ws_url, mint("ada")) as ada:
            await ada.ok(type="subscribe", topic="room:a")
            await ada.ok(type="publish", topic="room:a", data=1)
            session = ada.welcome["session"]
        await until(lambda: not len(server.node.registry))
    if level == "DEBUG":
        assert told(caplog) == []
        return
    began, ended = told(caplog)
    assert (began["msg"], ended["msg"]) == ("connected", "disconnected")
    for line in (began, ended):
        assert (line["levelno"], line["connection"]) == (logging.INFO, session)
        assert (line["address"], line["encoding"]) == ("127.0.0.1", "chat.v1.json")
    assert (ended["user"], ended["messages"], ended["code"]) == ("ada", 2, 1000)
    assert ended["seconds"] > 0


async def test_why_the_server_closed_is_told(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", LOGGER)
    async with serving(make_settings(log__connections="INFO")) as server:
        client = await chat(server.ws_url)
        await client.send(type="auth", id=1, token="nonsense")
        await until(lambda: len(told(caplog)) == 2)
        await client.websocket.close()
    ended = told(caplog)[-1]
    assert (ended["user"], ended["code"], ended["reason"]) == ("", 4401, "token: is not a JWT")
