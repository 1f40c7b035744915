"""The table of commands, and what it takes to add one: a Struct, a row, a function."""

import asyncio
from typing import Any

import pytest
from msgspec import Raw
from quart import Quart

from chat_server.extension import ChatServer
from chat_server.protocol.codecs import CODECS, JSON, MSGPACK, JsonCodec, MsgpackCodec
from chat_server.protocol.command_table import COMMANDS, Row
from chat_server.protocol.commands import Command, Publish, TopicCommand
from chat_server.service.actor import Actor
from chat_server.service.answers import Reply
from chat_server.service.operations import OPERATIONS
from chat_server.service.publishing import publish
from chat_server.service.service import Operation, Service
from chat_server.transports.encoders import DIRECT_ENCODERS, DirectEncoder

from ..rig.chat_client import chat
from ..rig.server import mint
from ..server.inprocess import make_settings, serving


class Shout(TopicCommand):
    """Publish a text in capitals."""

    data: Raw


def shout(service: Service, actor: Actor, command: Shout) -> Reply:
    data = Raw(bytes(command.data).upper())
    return publish(service, actor, Publish(topic=command.topic, data=data))


TYPES = {JSON.subprotocol: JsonCodec, MSGPACK.subprotocol: MsgpackCodec}
COMMANDS_AND_SHOUT: dict[type[Command], Row] = {
    **COMMANDS,
    Shout: Row(grant="publish", overlaps=True, has_data=True),
}


def make_app() -> Quart:
    """Return an application whose server knows one command more."""
    server = ChatServer(make_settings(http__page=False))
    operations: dict[type[Command], Operation] = {**OPERATIONS, Shout: shout}
    server.service = Service(server.node, server.verifier, operations, commands=COMMANDS_AND_SHOUT)
    app = Quart("shouting", static_folder=None)
    server.init_app(app)
    return app


@pytest.mark.parametrize("encoding", CODECS)
async def test_a_command_of_ones_own(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in CODECS:
        encoder = DirectEncoder(TYPES[name](COMMANDS_AND_SHOUT))
        monkeypatch.setitem(DIRECT_ENCODERS, name, encoder)
    app = await asyncio.to_thread(make_app)
    async with (
        serving(make_settings(), app=app) as served,
        await chat(served.ws_url, mint("ada"), encoding=encoding) as ada,
        await chat(served.ws_url, mint("bob", publish=["private"])) as bob,
    ):
        await bob.ok(type="subscribe", topic="room:a")
        assert (await ada.ok(type="shout", topic="room:a", data="hello"))["seq"] == 1
        assert (await bob.next())["data"] == "HELLO"
        await check_refusals(ada, bob)
        assert (await ada.call(type="publish", topic="room:a", data="x"))["seq"] == 2


async def check_refusals(ada: Any, bob: Any) -> None:
    """The row decides what is checked, and not the function."""
    for client, command, code in (
        (bob, {"topic": "room:a", "data": "x"}, "forbidden"),
        (ada, {"topic": "a b", "data": "x"}, "bad_request"),
        (ada, {"topic": "room:a"}, "bad_request"),
        (ada, {"topic": "room:a", "data": {"__proto__": 1}}, "bad_request"),
    ):
        answer = await client.call(type="shout", **command)
        assert (answer["type"], answer["code"]) == ("error", code)


def test_every_row_has_its_function() -> None:
    assert set(OPERATIONS) == {kind for kind, row in COMMANDS.items() if row.pushes is None}


def test_a_row_without_a_function_is_found_at_the_start() -> None:
    async def start() -> None:
        server = ChatServer(make_settings(http__page=False))
        with pytest.raises(ValueError, match=r"^no operation for Shout$"):
            Service(server.node, server.verifier, OPERATIONS, commands=COMMANDS_AND_SHOUT)

    asyncio.run(start())
