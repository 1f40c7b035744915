"""Compressed messages are messages, and a small one cannot become a huge one."""

import zlib

import pytest

from tests.rig import rfc6455
from tests.rig.raw_client import RawClient
from tests.rig.rfc6455 import frame, raw, upgrade
from tests.rig.server import ServerProcess
from tests.server.processes import rss

from .room import Room, token

MAX_MESSAGE = 65_536

ENVIRON = {
    "CHAT_AUTH__AUDIENCE": "chat",
    "CHAT_GATEWAY__COMPRESSION": "true",
    "CHAT_LIMITS__MAX_MESSAGE_BYTES": str(MAX_MESSAGE),
}

COMPRESSED = 4
"""The reserved bit that marks a compressed message: RFC 7692 section 6."""

MEMORY = 8 * 2**20
"""What a bomb may cost."""

pytestmark = pytest.mark.usefixtures("quiet")


def deflated(data: bytes) -> bytes:
    """Return the payload of a compressed message."""
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    return (deflate.compress(data) + deflate.flush(zlib.Z_SYNC_FLUSH))[:-4]


@pytest.fixture(scope="module")
def transport() -> str:
    """The ASGI transport forgoes compression."""
    return "direct"


async def compressing(server: ServerProcess) -> RawClient:
    """Return a connection that has agreed to compression, and been welcomed."""
    client = await RawClient.connect(server.port)
    offer = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
    await client.send(upgrade(token=token(), headers={"Sec-WebSocket-Extensions": offer}))
    answer = await client.read_answer()
    assert answer.headers["sec-websocket-extensions"].startswith("permessage-deflate")
    head = await client.take(2)
    size = head[1] if head[1] < 126 else int.from_bytes(await client.take(2), "big")
    await client.take(size)
    return client


async def test_a_compressed_message_in_pieces(server: ServerProcess, room: Room) -> None:
    command = raw({"type": "publish", "topic": room.topic, "data": "Grüße" * 1000})
    payload = deflated(command)
    middle = len(payload) // 2
    async with await compressing(server) as client:
        first = frame(rfc6455.TEXT, payload[:middle], rsv=COMPRESSED, fin=False)
        await client.send(first, frame(rfc6455.CONT, payload[middle:]), size=7)
        assert (await room.bystander.next())["data"] == "Grüße" * 1000
        client.reset()


async def test_a_bomb(server: ServerProcess, room: Room) -> None:
    bomb = deflated(b" " * (64 * 2**20))
    assert len(bomb) <= MAX_MESSAGE
    before = rss(server.pid)
    for _ in range(3):
        async with await compressing(server) as client:
            await client.send(frame(rfc6455.TEXT, bomb, rsv=COMPRESSED))
            assert (await client.read_to_close())[0] == 1009
    assert rss(server.pid) - before < MEMORY


@pytest.mark.parametrize("payload", [b"\xff\xff\xff", b"", b"\x00"])
async def test_what_cannot_be_inflated(server: ServerProcess, room: Room, payload: bytes) -> None:
    async with await compressing(server) as client:
        await client.send(frame(rfc6455.TEXT, payload, rsv=COMPRESSED), rfc6455.closing(1000))
        code, _ = await client.read_to_close()
        assert code in (1000, 1002, 1007)
