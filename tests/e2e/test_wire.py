"""The WebSocket protocol byte by byte: split anywhere, coalesced, and ended in every way."""

import asyncio
import json
import struct
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

import pytest

from tests.rig import rfc6455, waiting
from tests.rig.chat_client import chat
from tests.rig.raw_client import RawClient, request
from tests.rig.rfc6455 import closing, frame, text, upgrade
from tests.rig.server import ServerProcess
from tests.server.processes import rss

from .differences import COMPRESSES_UNASKED, KEEPS_UNREAD, everywhere, is_direct
from .room import Room, count_connections, settle, token

ENVIRON = {
    "CHAT_AUTH__AUDIENCE": "chat",
    "CHAT_GATEWAY__CLOSE_TIMEOUT_SECONDS": "1",
    "CHAT_LIMITS__MAX_CONNECTIONS_PER_USER": "10000",
    "CHAT_LIMITS__MESSAGES_PER_SECOND": "1000000",
    "CHAT_LIMITS__MESSAGE_BURST": "1000000",
}

pytestmark = [pytest.mark.usefixtures("quiet"), everywhere]


def conversation(topic: str) -> list[bytes]:
    """Return the frames of a conversation with everything that a client may send."""
    subscribe = json.dumps({"type": "subscribe", "id": 1, "topic": topic}).encode()
    publish = json.dumps({"type": "publish", "id": 2, "topic": topic, "data": "Grüße"}).encode()
    large = {"type": "publish", "id": 3, "topic": topic, "data": "€" * 50}
    return [
        frame(rfc6455.PING, b"first"),
        frame(rfc6455.TEXT, subscribe[:7], fin=False, mask=b"\0\0\0\0"),
        frame(rfc6455.PING, b"between"),
        frame(rfc6455.CONT, subscribe[7:9], fin=False, mask=b"\xff\xff\xff\xff"),
        frame(rfc6455.PONG, b"unasked"),
        frame(rfc6455.CONT, b"", fin=False),
        frame(rfc6455.CONT, subscribe[9:]),
        frame(rfc6455.TEXT, publish),
        text(json.dumps(large, ensure_ascii=False)),
        frame(rfc6455.TEXT, b"", fin=False),
        frame(rfc6455.CONT, b'{"type":"ping","id":4}'),
    ]


async def check_conversation(client: RawClient) -> None:
    """Read what the server answers to `conversation`, whose welcome has been read."""
    frames: list[rfc6455.Frame] = []
    while len(frames) < 8:
        got = await client.read_frame()
        assert got is not None, frames
        assert got.fin
        frames.append(got)
    control = [(f.opcode, f.payload) for f in frames if f.opcode >= 8]
    assert control == [(rfc6455.PONG, b"first"), (rfc6455.PONG, b"between")]
    messages = [json.loads(f.payload) for f in frames if f.opcode == rfc6455.TEXT]
    answers = [(m["type"], m["id"]) for m in messages if "id" in m]
    assert ("pong", 4) in answers, "which waits for nothing"
    assert [a for a in answers if a[0] != "pong"] == [("ok", 1), ("ok", 2), ("ok", 3)]
    assert [m["data"] for m in messages if m["type"] == "message"] == ["Grüße", "€" * 50]


async def check_closing(client: RawClient, *sizes: int | None) -> None:
    """Close, with the frame in pieces, and read the echo."""
    for size in sizes or (None,):
        await client.send(closing(1000, "done"), size=size)
    got = await client.read_frame()
    assert got == rfc6455.Frame(rfc6455.CLOSE, struct.pack("!H", 1000) + b"done")
    assert await client.read_frame() is None


async def stored(server: ServerProcess, topic: str, count: int) -> list[object]:
    """Return the data of a topic's messages, once there are that many."""
    bearer = {"Authorization": f"Bearer {token()}"}
    path = f"/api/topics/{topic}/messages?limit=300"
    async with asyncio.timeout(waiting.SECONDS):
        while True:
            answer = await request(server.port, "GET", path, headers=bearer)
            data = [message["data"] for message in answer.json()["messages"]]
            if len(data) >= count:
                return data
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("size", [1, 2, 3, 7, None])
async def test_a_conversation_in_pieces(server: ServerProcess, size: int | None) -> None:
    async with await RawClient.connect(server.port) as client:
        await client.send(upgrade(token=token()), size=size)
        assert (await client.read_answer()).status == 101
        assert (await client.read_message())["type"] == "welcome"
        await client.send(*conversation(f"pieces:{size}"), size=size)
        await check_conversation(client)
        await check_closing(client, size)


async def test_a_conversation_cut_in_two_anywhere(server: ServerProcess) -> None:
    async def one(cut: int) -> None:
        whole = b"".join(conversation(f"cut:{cut:03}"))
        async with await RawClient.open(server.port, token=token()) as client:
            await client.read_message()
            await client.send(whole[:cut])
            await asyncio.sleep(0.001)
            await client.send(whole[cut:])
            await check_conversation(client)
            await check_closing(client)

    await in_crowds(one, range(1, len(b"".join(conversation("cut:000")))))


async def in_crowds(work: Callable[[int], Coroutine[Any, Any, None]], values: range) -> None:
    """Do the same with each value, 25 at a time."""
    for start in range(0, len(values), 25):
        async with asyncio.TaskGroup() as group:
            for value in values[start : start + 25]:
                group.create_task(work(value))


async def test_everything_and_the_close_in_one_packet(server: ServerProcess) -> None:
    """The close frame does not overtake what came before it, though answers may be lost."""
    for number in range(10):
        topic = f"packet:{number}"
        async with await RawClient.open(server.port, token=token()) as client:
            await client.read_message()
            await client.send(*conversation(topic), closing(1000))
            assert (await client.read_to_close())[0] == 1000
        assert await stored(server, topic, 2) == ["Grüße", "€" * 50]


async def test_frames_in_one_packet_are_all_taken(server: ServerProcess, room: Room) -> None:
    count = 300
    async with await RawClient.open(server.port, token=token()) as client:
        await client.read_message()
        publications = (
            text({"type": "publish", "id": n, "topic": room.topic, "data": n})
            for n in range(1, count + 1)
        )
        await client.send(*publications)
        answers = [await client.read_message() for _ in range(count)]
        assert [(a["type"], a["id"], a["seq"]) for a in answers] == [
            ("ok", n, n) for n in range(1, count + 1)
        ]
    for n in range(1, count + 1):
        assert (await room.bystander.next())["data"] == n


async def test_what_came_before_the_clients_close_is_done(
    server: ServerProcess, room: Room
) -> None:
    count = 250
    async with await RawClient.open(server.port, token=token()) as client:
        await client.read_message()
        publications = (
            text({"type": "publish", "topic": room.topic, "data": n}) for n in range(count)
        )
        await client.send(*publications, closing(1001), text({"type": "ping", "id": 1}))
        code, messages = await client.read_to_close()
        assert code == 1001
        assert messages == []
    assert await stored(server, room.topic, count) == list(range(count))


@pytest.mark.parametrize("code", [None, 1000, 1001, 3000, 4999])
async def test_the_clients_close_is_echoed(server: ServerProcess, code: int | None) -> None:
    async with await RawClient.open(server.port, token=token()) as client:
        await client.read_message()
        await client.send(closing(code))
        assert await client.read_to_close() == (code or 1005, [])


def gone(wire: RawClient) -> None:
    """Close without reading."""
    wire.socket.close()


@pytest.mark.parametrize("leave", [RawClient.reset, RawClient.half_close, gone])
@pytest.mark.parametrize("close_first", [False, True])
@pytest.mark.parametrize("unfinished", [b"", b"\x81", frame(rfc6455.TEXT, b"x" * 100)[:50]])
async def test_leaving_without_a_word(
    server: ServerProcess,
    room: Room,
    leave: Callable[[RawClient], None],
    close_first: bool,
    unfinished: bytes,
) -> None:
    connections = await count_connections(server)
    client = await RawClient.open(server.port, token=token())
    await client.read_message()
    publish = text({"type": "publish", "topic": room.topic, "data": "last words"})
    await client.send(publish, closing() if close_first else unfinished)
    assert await stored(server, room.topic, 1) == ["last words"]
    leave(client)
    if leave is RawClient.half_close:
        await client.read_to_end()
        client.socket.close()
    await settle(server, connections)


async def test_a_client_that_does_not_answer_the_close(server: ServerProcess) -> None:
    connections = await count_connections(server)
    async with await RawClient.open(server.port, token=token()) as client:
        await client.read_message()
        await client.send(frame(rfc6455.BINARY, b"{}"))
        assert (await client.read_message())["code"] == 1003
        got = await client.read_frame()
        assert got is not None
        assert got.opcode == rfc6455.CLOSE
        await settle(server, connections)
        await client.read_to_end()


# Floods ----------------------------------------------------------------------------------------

MEMORY = 24 * 2**20
"""What a flood may cost in memory: buffers of kernels and loops are not counted exactly."""


async def test_a_ping_flood_costs_bounded_memory(
    server: ServerProcess, room: Room, transport: str
) -> None:
    pings = frame(rfc6455.PING, b"x" * 100) * 2_000
    async with await RawClient.open(server.port, token=token(), receive_buffer=4096) as client:
        await client.read_message()
        await room.check_undisturbed()
        before = rss(server.pid)
        sent = 0
        for _ in range(60 if is_direct(transport) else 20):
            sent += await client.send_what_fits(pings, patience=0.3)
            if sent % len(pings):
                break
        await room.check_undisturbed()
        assert rss(server.pid) - before < MEMORY
        client.reset()


async def test_a_flood_of_tiny_frames_costs_bounded_memory(
    server: ServerProcess, room: Room, transport: str
) -> None:
    count = 200_000 if is_direct(transport) else 40_000
    async with await RawClient.open(server.port, token=token()) as client:
        await client.read_message()
        before = rss(server.pid)
        await client.send(frame(rfc6455.TEXT, fin=False))
        fragments = frame(rfc6455.CONT, fin=False) * 1_000
        for _ in range(count // 1_000):
            await client.send(fragments)
        await client.send(frame(rfc6455.CONT, b'{"type":"ping","id":1}'))
        assert await client.read_message() == {"type": "pong", "id": 1}
        assert rss(server.pid) - before < MEMORY


async def test_a_flood_of_tiny_messages_is_answered(
    server: ServerProcess, room: Room, transport: str
) -> None:
    count = 20_000 if is_direct(transport) else 4_000
    async with await RawClient.open(server.port, token=token()) as client:
        await client.read_message()
        before = rss(server.pid)
        sending = asyncio.create_task(client.send(text('{"type":"ping","id":1}') * count))
        for _ in range(count):
            assert await client.read_message() == {"type": "pong", "id": 1}
        await sending
        assert rss(server.pid) - before < MEMORY


async def test_a_client_that_sends_and_never_reads(
    server: ServerProcess, room: Room, transport: str
) -> None:
    """Every answer waits in the server, so it must stop reading."""
    if transport in KEEPS_UNREAD:
        pytest.skip("another server keeps what nobody takes any more")
    history = json.dumps({"type": "history", "id": 1, "topic": room.topic, "limit": 300})
    # More than the kernels on both sides hold.
    command = text(history + " " * 2_000) * 100
    for _ in range(100):
        await room.bystander.ok(type="publish", topic=room.topic, data="x" * 1000)
        await room.bystander.next()
    async with await RawClient.open(server.port, token=token(), receive_buffer=4096) as client:
        before = rss(server.pid)
        sent = 0
        for _ in range(100):
            fitted = await client.send_what_fits(command, patience=0.5)
            sent += fitted
            if fitted < len(command):
                break
        else:
            raise AssertionError(f"the server took {sent} bytes without being read")
        await room.check_undisturbed()
        assert rss(server.pid) - before < MEMORY
        client.reset()


# Handshakes ------------------------------------------------------------------------------------


HEADS = [
    b"GET /ws HTTP/1.1\r\n\r\n",
    b"GET /ws HTTP/1.0\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    upgrade(headers={"Sec-WebSocket-Version": "8"}),
    upgrade(headers={"Sec-WebSocket-Key": ""}),
    upgrade(headers={"Upgrade": "h3"}),
    upgrade().replace(b"GET", b"POST"),
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 100,
    b"\0" * 1000,
    b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\n\r\n",
    b"GET /ws HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 70_000,
    b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /%ff%00 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 100,
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0" * 100,
    b"OPTIONS * HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    b"POST /health HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
    b"POST /health HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"GET http://evil.example/ws HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    b"CONNECT a:443 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    b"GET /health HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n",
]


async def test_what_is_no_handshake(server: ServerProcess, room: Room) -> None:
    async def one(head: bytes) -> None:
        async with await RawClient.connect(server.port) as client:
            # It may be refused before all of it is sent.
            with suppress(ConnectionError):
                await client.send(head)
                client.half_close()
            said = await client.read_to_end()
            assert b" 101 Switching Protocols\r\nupgrade: websocket" not in said, head[:50]
            assert b"Traceback" not in said, head[:50]
            assert b" 500 " not in said, head[:50]

    async with asyncio.TaskGroup() as group:
        for head in HEADS:
            group.create_task(one(head))


@pytest.mark.parametrize("key", ["c2hvcnQ=", "no base64 at all", "=" * 24])
async def test_a_key_that_is_none(server: ServerProcess, transport: str, key: str) -> None:
    async with await RawClient.connect(server.port) as client:
        await client.send(upgrade(token=token(), headers={"Sec-WebSocket-Key": key}))
        answer = await client.read_answer()
        assert answer.status == (400 if is_direct(transport) else 101)


@pytest.mark.parametrize("times", [2, 5])
async def test_a_message_far_too_big_ends_with_its_client(
    server: ServerProcess, room: Room, times: int
) -> None:
    connections = await count_connections(server)
    async with await RawClient.open(server.port, token=token()) as client:
        await client.read_message()
        await client.send(frame(rfc6455.TEXT, b"x" * (times * 65_536)))
        assert await client.read_to_close() == (1009, [])
    await settle(server, connections)


async def test_a_close_frame_behind_a_message_far_too_big_is_seen(
    server: ServerProcess, room: Room, transport: str
) -> None:
    connections = await count_connections(server)
    async with await RawClient.open(server.port, token=token()) as client:
        await client.read_message()
        await client.send(frame(rfc6455.TEXT, b"x" * 262_100, fin=False) + frame(rfc6455.PING, b""))
        if not is_direct(transport):  # which has closed by now
            pong = await client.read_frame()
            assert pong is not None
            assert pong.opcode == rfc6455.PONG
        await client.send(frame(rfc6455.CONT, b"x" * 100) + frame(rfc6455.CLOSE, b""))
        # Hypercorn as it comes takes messages of 16 MiB, and answers a close frame at once.
        code = b"" if transport == "hypercorn" else b"\x03\xf1"  # 1009
        last = await client.read_frame()
        assert last is not None
        assert (last.opcode, last.payload[:2]) == (rfc6455.CLOSE, code)
        assert await client.read_to_end() == b""
    await settle(server, connections)


async def test_compression_is_off_unless_switched_on(
    server: ServerProcess, room: Room, transport: str
) -> None:
    headers = {"Sec-WebSocket-Extensions": "permessage-deflate; client_max_window_bits"}
    async with await RawClient.connect(server.port) as client:
        await client.send(upgrade(token=token(), headers=headers))
        answer = await client.read_answer()
        assert answer.status == 101
        offered = "sec-websocket-extensions" in answer.headers
        assert offered is (transport in COMPRESSES_UNASKED)
    async with await chat(server.ws_url, token("ada")) as ada:
        await ada.ok(type="subscribe", topic=room.topic)
        await ada.ok(type="publish", topic=room.topic, data="x" * 10_000)
        assert (await ada.next())["data"] == "x" * 10_000
