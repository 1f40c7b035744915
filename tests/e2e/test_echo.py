"""`/ws/echo` and compression, through a real server and the `websockets` client."""

import json
from collections.abc import Iterator

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus

from ..support.server import ServerProcess, mint

ROOM = "room:echo"


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    environ = {"CHAT_ENVIRONMENT": "development", "CHAT_GATEWAY__COMPRESSION": "true"}
    with ServerProcess(environ=environ) as process:
        yield process


def compressed(client: ClientConnection) -> bool:
    return any("permessage-deflate" in str(e.name) for e in client.protocol.extensions)


@pytest.mark.parametrize("message", ["", "text ✓", b"", b"\x00\xff", "x" * 60_000, b"y" * 60_000])
async def test_echoes_text_and_binary(server: ServerProcess, message: str | bytes) -> None:
    async with connect(f"{server.ws_url}/echo") as client:
        await client.send(message)
        assert await client.recv() == message


async def test_echoes_fragments_as_one_message(server: ServerProcess) -> None:
    async with connect(f"{server.ws_url}/echo") as client:
        await client.send(["one ", "two ", "three"])
        assert await client.recv() == "one two three"


async def test_one_publication_reaches_clients_with_and_without_compression(
    server: ServerProcess,
) -> None:
    token = mint("alice")
    headers = {"Authorization": f"Bearer {token}"}
    async with (
        connect(server.ws_url, additional_headers=headers) as squeezed,
        connect(server.ws_url, additional_headers=headers, compression=None) as plain,
    ):
        assert compressed(squeezed)
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
