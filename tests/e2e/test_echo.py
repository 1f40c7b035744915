"""`/ws/echo` and compression, through a real server and the `websockets` client."""

import asyncio
import json

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus

from tests.rig import rfc6455
from tests.rig.raw_client import RawClient
from tests.rig.rfc6455 import frame
from tests.rig.server import ServerProcess, mint
from tests.server.processes import rss

from .differences import is_direct
from .room import count_connections, settle

ENVIRON = {"CHAT_ENVIRONMENT": "development", "CHAT_GATEWAY__COMPRESSION": "true"}
ROOM = "room:echo"
MEMORY = 16 * 2**20


def compressed(client: ClientConnection) -> bool:
    return any("permessage-deflate" in str(e.name) for e in client.protocol.extensions)


@pytest.mark.parametrize("message", ["", "text ✓", b"", b"\x00\xff", "x" * 60_000, b"y" * 60_000])
async def test_echoes_text_and_binary(server: ServerProcess, message: str | bytes) -> None:
    async with connect(f"{server.ws_url}/echo") as client:
        for sent in (message, "and on", message):
            await client.send(sent)
            assert await client.recv() == sent


async def test_echoes_fragments_as_one_message(server: ServerProcess) -> None:
    async with connect(f"{server.ws_url}/echo") as client:
        await client.send(["one ", "two ", "three"])
        assert await client.recv() == "one two three"


async def test_counts_among_the_connections_and_is_bounded(server: ServerProcess) -> None:
    await settle(server, 0)  # those of other tests
    async with connect(f"{server.ws_url}/echo") as client:
        assert await count_connections(server) == 1
        await client.send("x" * 70_000)
        await client.wait_closed()
        assert client.close_code == 1009
    await settle(server, 0)


async def test_does_not_read_from_who_does_not_read(server: ServerProcess) -> None:
    """Otherwise whatever a client sends would pile up: Quart's own queue has no bound."""
    count, size = 500, 40_000
    messages = b"".join(
        frame(rfc6455.BINARY, number.to_bytes(4, "big") * (size // 4)) for number in range(count)
    )
    async with await RawClient.open(server.port, path="/ws/echo", receive_buffer=4096) as client:
        before = rss(server.pid)
        sent = await client.send_what_fits(messages, patience=1.0)
        assert sent < len(messages), "the server took everything"
        assert rss(server.pid) - before < MEMORY
        sending = asyncio.create_task(client.send(messages[sent:]))
        for number in range(count):
            got = await client.read_frame()
            assert got is not None
            assert got.opcode == rfc6455.BINARY
            assert got.payload == number.to_bytes(4, "big") * (size // 4)
        await sending


async def test_one_publication_reaches_clients_with_and_without_compression(
    server: ServerProcess, transport: str
) -> None:
    token = mint("alice")
    headers = {"Authorization": f"Bearer {token}"}
    async with (
        connect(server.ws_url, additional_headers=headers) as squeezed,
        connect(server.ws_url, additional_headers=headers, compression=None) as plain,
    ):
        assert compressed(squeezed) is (is_direct(transport))
        assert not compressed(plain)
        for client in (squeezed, plain):
            await client.recv()
            await client.send(json.dumps({"type": "subscribe", "id": 1, "topic": ROOM}))
            assert json.loads(await client.recv())["type"] == "ok"
        data = {"text": "again and " * 500}
        await squeezed.send(json.dumps({"type": "publish", "topic": ROOM, "data": data}))
        for client in (squeezed, plain):
            assert json.loads(await client.recv())["data"] == data


async def test_is_not_there_outside_development() -> None:
    with ServerProcess() as process:
        with pytest.raises(InvalidStatus) as refused:
            await connect(f"{process.ws_url}/echo")
        assert refused.value.response.status_code == 404
        async with connect(process.ws_url) as client:
            assert not compressed(client), "compression is off unless switched on"
