"""Whatever comes on the wire gets the protocol's error or close code, and hurts nobody else."""

import json
import struct
from typing import Any, TypeAlias

import msgspec
import pytest

from tests.rig import chat_client, rfc6455
from tests.rig.raw_client import RawClient, request
from tests.rig.rfc6455 import frame, text
from tests.rig.server import ServerProcess

from .differences import close_code, everywhere
from .room import Room, token

MAX_MESSAGE = 4_000_000

ENVIRON = {
    "CHAT_LIMITS__MAX_MESSAGE_BYTES": str(MAX_MESSAGE),
    "CHAT_LIMITS__MAX_CONNECTIONS_PER_USER": "10000",
    # One user sends all of this, megabytes among it.
    "CHAT_LIMITS__MESSAGE_BURST": "1000000",
    "CHAT_AUTH__AUDIENCE": "chat",
}

Expected: TypeAlias = tuple[str, int | None]
"""The error's code and the `id` it bears."""


def publish(data: str, id: int = 1, topic: str = "room:bad") -> str:
    """Return a publication whose `data` is any text."""
    return f'{{"type":"publish","id":{id},"topic":"{topic}","data":{data}}}'


BAD = ("bad_request", None)
BAD_1 = ("bad_request", 1)

JSON_ERRORS: dict[str, tuple[str | bytes, Expected]] = {
    "nothing": ("", BAD),
    "white space": (" \n", BAD),
    "half an object": ("{", BAD),
    "two objects": ('{"type":"ping"}{"type":"ping"}', BAD),
    "a comment": ('{"type":"ping"} // hello', BAD),
    "a byte order mark": (b'\xef\xbb\xbf{"type":"ping"}', BAD),
    "single quotes": ("{'type':'ping'}", BAD),
    "a control character": ('{"type":"ping","x":"\x01"}', BAD),
    "a NUL": ('{"type":"ping"}\0', BAD),
    "a list": ("[]", BAD),
    "null": ("null", BAD),
    "a number": ("42", BAD),
    "a string": ('"ping"', BAD),
    "an empty object": ("{}", BAD),
    "no type": ('{"id":1}', BAD_1),
    "an unknown type": ('{"type":"shout","id":1}', BAD_1),
    "a type of another case": ('{"type":"Ping","id":1}', BAD_1),
    "a type that is a number": ('{"type":5,"id":1}', BAD_1),
    "a type that is null": ('{"type":null,"id":1}', BAD_1),
    "a server's type": ('{"type":"welcome","id":1}', BAD_1),
    "no topic": ('{"type":"subscribe","id":1}', BAD_1),
    "no data": ('{"type":"publish","id":1,"topic":"room:bad"}', BAD_1),
    "a topic that is a number": ('{"type":"subscribe","id":1,"topic":5}', BAD_1),
    "a topic that is null": ('{"type":"subscribe","id":1,"topic":null}', BAD_1),
    "a topic that is a list": ('{"type":"subscribe","id":1,"topic":["room:a"]}', BAD_1),
    "a limit that is text": ('{"type":"history","id":1,"topic":"room:bad","limit":"9"}', BAD_1),
    "a limit of 0": ('{"type":"history","id":1,"topic":"room:bad","limit":0}', BAD_1),
    "a limit of 301": ('{"type":"history","id":1,"topic":"room:bad","limit":301}', BAD_1),
    "before and after": (
        '{"type":"history","id":1,"topic":"room:bad","before":5,"after":1}',
        BAD_1,
    ),
    "a negative before": ('{"type":"history","id":1,"topic":"room:bad","before":-1}', BAD_1),
    "since that is a number": ('{"type":"subscribe","id":1,"topic":"room:bad","since":5}', BAD_1),
    "since without epoch": (
        '{"type":"subscribe","id":1,"topic":"room:bad","since":{"seq":5}}',
        BAD_1,
    ),
    "since with a huge seq": (
        '{"type":"subscribe","id":1,"topic":"room:bad","since":{"epoch":"e","seq":1e30}}',
        BAD_1,
    ),
    "since and last": (
        '{"type":"subscribe","id":1,"topic":"room:bad","last":1,"since":{"epoch":"e","seq":1}}',
        BAD_1,
    ),
    "an id of 0": ('{"type":"ping","id":0}', BAD),
    "an id below 0": ('{"type":"ping","id":-1}', BAD),
    "an id of 2^53": ('{"type":"ping","id":9007199254740992}', BAD),
    "an id that is text": ('{"type":"ping","id":"1"}', BAD),
    "an id that is no integer": ('{"type":"ping","id":1.5}', BAD),
    "an id that is true": ('{"type":"ping","id":true}', BAD),
    "an id that is a list": ('{"type":"ping","id":[1]}', BAD),
    "a key that is empty": (publish("1")[:-1] + ',"key":""}', BAD_1),
    "a key that is too long": (publish("1")[:-1] + ',"key":"%s"}' % ("k" * 65), BAD_1),
    "NaN": (publish("NaN"), BAD_1),
    "infinity": (publish("Infinity"), BAD_1),
    "a number that is infinity": (publish("1e999"), BAD_1),
    "an integer of 65 bits": (publish("18446744073709551616"), BAD_1),
    "an integer of 10,000 digits": (publish("1" * 10_000), BAD_1),
    "a lone surrogate": (publish('"\\ud800"'), BAD_1),
    "a lone surrogate in the topic": (publish("1", topic="room:\\ud83d"), BAD_1),
    "a lone surrogate in the key": (publish("1")[:-1] + ',"key":"\\ud83d"}', BAD_1),
    "an escape that is none": (publish('"\\x"'), BAD),
    "data 101 deep": (publish("[" * 101 + "]" * 101), BAD_1),
    "data 10,000 deep": (publish("[" * 10_000 + "]" * 10_000), BAD_1),
    "objects 10,000 deep": (publish('{"a":' * 10_000 + "1" + "}" * 10_000), BAD_1),
    "nothing but brackets": ("[" * 100_000, BAD),
    "an ignored field 10,000 deep": (
        '{"type":"ping","id":1,"x":' + "[" * 10_000 + "]" * 10_000 + "}",
        BAD_1,
    ),
    "a topic with a space": (publish("1", topic="room:a b"), BAD_1),
    "a topic with a slash": (publish("1", topic="room/a"), BAD_1),
    "a topic with %2F": (publish("1", topic="room:a%2Fb"), BAD_1),
    "a topic with an umlaut": (publish("1", topic="room:ä"), BAD_1),
    "a topic with a NUL": (publish("1", topic="room:\\u0000"), BAD_1),
    "a topic with a line break": (publish("1", topic="room:a\\n"), BAD_1),
    "a topic with braces": (publish("1", topic="room:{a}"), BAD_1),
    "a topic with an asterisk": (publish("1", topic="room:*"), BAD_1),
    "a topic of 300 bytes": (publish("1", topic="room:" + "x" * 295), BAD_1),
    "a topic of 256 bytes": (publish("1", topic="room:" + "x" * 251), BAD_1),
    "an empty topic": (publish("1", topic=""), BAD_1),
    "an empty segment": (publish("1", topic="room::a"), BAD_1),
}

EXT = b"\xc7\x03\x01abc"
TIMESTAMP = b"\xd6\xff\x00\x00\x00\x00"
DATA: dict[str, bytes] = {
    "invalid UTF-8": b"\xa2\xff\xfe",
    "a lone surrogate": b"\xa3\xed\xa0\x80",
    "invalid UTF-8 in a key": b"\x81\xa1\xff\x01",
    "NaN": msgspec.msgpack.encode(float("nan")),
    "infinity": msgspec.msgpack.encode(float("inf")),
    "binary": msgspec.msgpack.encode(b"bytes"),
    "an extension": EXT,
    "a timestamp": TIMESTAMP,
    "an integer key": msgspec.msgpack.encode({1: 2}),
    "a null key": msgspec.msgpack.encode({None: 2}),
    "a list as a key": b"\x81\x90\x01",
    "10,000 levels": b"\x91" * 10_000 + b"\x90",
    "101 levels": b"\x91" * 101 + b"\x90",
    "an unused byte": b"\xc1",
}
"""What `data` must not be, as MessagePack."""

MSGPACK_ERRORS: dict[str, bytes] = {
    "nothing": b"",
    "half a map": b"\x82\xa4type",
    "a list": msgspec.msgpack.encode([1]),
    "JSON": b'{"type":"ping"}',
    "two maps": msgspec.msgpack.encode({"type": "ping"}) * 2,
    "no type": msgspec.msgpack.encode({"id": 1}),
    "integer keys": msgspec.msgpack.encode({1: 2}),
    "a map that claims 2^32 entries": b"\xdf\xff\xff\xff\xff",
    "a list that claims 2^32 entries": b"\xdd\xff\xff\xff\xff",
    "a string that claims 4 GiB": b"\xdb\xff\xff\xff\xffabc",
    "100,000 levels": b"\x91" * 100_000,
    "an invalid UTF-8 topic": msgspec.msgpack.encode({"type": "subscribe"})[:1].replace(
        b"\x81", b"\x82"
    )
    + b"\xa4type\xa9subscribe\xa5topic\xa2\xff\xfe",
}
"""Frames that are no command, as MessagePack."""


def check_harmless(message: Any) -> None:
    """Fail if a message shows the inside of the server."""
    shown = json.dumps(message)
    for sign in ("Traceback", 'File \\"', ".py", "msgspec", "0x7"):
        assert sign not in shown, shown
    assert len(shown) < 1000, shown


async def connected(server: ServerProcess, encoding: str = chat_client.JSON) -> RawClient:
    """Return a connection that has been welcomed."""
    headers = {"Sec-WebSocket-Protocol": encoding}
    client = await RawClient.open(server.port, token=token(), headers=headers)
    got = await client.read_frame()
    assert got is not None
    return client


async def receive(client: RawClient) -> Any:
    """Read one message in either encoding."""
    while (got := await client.read_frame()) is not None:
        if got.opcode == rfc6455.TEXT:
            return json.loads(got.payload)
        if got.opcode == rfc6455.BINARY:
            return msgspec.msgpack.decode(got.payload)
        assert got.opcode in (rfc6455.PING, rfc6455.PONG), got
    raise AssertionError("the connection ended")


@everywhere
@pytest.mark.usefixtures("quiet")
class TestBadInput:
    """With somebody in the room who notices nothing."""

    async def test_json(self, server: ServerProcess, room: Room, subtests: pytest.Subtests) -> None:
        for name, (sent, (code, id)) in JSON_ERRORS.items():
            with subtests.test(name):
                async with await connected(server) as client:
                    await client.send(text(sent), text({"type": "ping", "id": 99}))
                    error = await receive(client)
                    assert (error["type"], error["code"]) == ("error", code)
                    assert error.get("id") == id
                    check_harmless(error)
                    assert await receive(client) == {"type": "pong", "id": 99}

    async def test_msgpack(
        self, server: ServerProcess, room: Room, subtests: pytest.Subtests
    ) -> None:
        ping = msgspec.msgpack.encode({"type": "ping", "id": 99})
        for name, sent in MSGPACK_ERRORS.items():
            with subtests.test(name):
                async with await connected(server, chat_client.MSGPACK) as client:
                    await client.send(frame(rfc6455.BINARY, sent), frame(rfc6455.BINARY, ping))
                    error = await receive(client)
                    assert (error["type"], error["code"]) == ("error", "bad_request")
                    check_harmless(error)
                    assert await receive(client) == {"type": "pong", "id": 99}

    @pytest.mark.parametrize("kind", ["publish", "signal"])
    async def test_msgpack_data(
        self, server: ServerProcess, room: Room, kind: str, subtests: pytest.Subtests
    ) -> None:
        command = {"type": kind, "id": 1, "topic": room.topic}
        for name, data in DATA.items():
            with subtests.test(name):
                async with await connected(server, chat_client.MSGPACK) as client:
                    sent = msgspec.msgpack.encode({**command, "data": msgspec.Raw(data)})
                    await client.send(frame(rfc6455.BINARY, sent))
                    error = await receive(client)
                    assert (error["type"], error["code"]) == ("error", "bad_request")
                    assert error.get("id") in (1, None)
                    check_harmless(error)

    async def test_data_at_the_limit_reaches_both_encodings(
        self, server: ServerProcess, room: Room
    ) -> None:
        values = [
            2**64 - 1,
            -(2**63),
            1.7976931348623157e308,
            5e-324,
            -0.0,
            "\0\x1f\u2028\U0001f600</script>",
            [[]] * 1000,
            {"": None, "a" * 1000: {"nested": True}},
            json.loads("[" * 99 + "]" * 99),
        ]
        async with (
            await connected(server) as sender,
            await connected(server, chat_client.MSGPACK) as receiver,
        ):
            subscribe = {"type": "subscribe", "id": 1, "topic": room.topic}
            await receiver.send(frame(rfc6455.BINARY, msgspec.msgpack.encode(subscribe)))
            assert (await receive(receiver))["type"] == "ok"
            for value in values:
                command = {"type": "publish", "id": 1, "topic": room.topic, "data": value}
                await sender.send(text(command))
                assert (await receive(sender))["type"] == "ok"
                assert (await receive(receiver))["data"] == value
                assert (await room.bystander.next())["data"] == value

    async def test_a_million_elements(self, server: ServerProcess, room: Room) -> None:
        async with await connected(server) as client:
            data = "[" + "1," * 999_999 + "1]"
            await client.send(text(publish(data, topic=room.topic)))
            assert (await receive(client))["type"] == "ok"
            assert len((await room.bystander.next())["data"]) == 1_000_000

    async def test_the_same_id_twice(self, server: ServerProcess, room: Room) -> None:
        async with await connected(server) as client:
            await client.send(
                text({"type": "ping", "id": 7}),
                text({"type": "subscribe", "id": 7, "topic": room.topic}),
                text({"type": "ping", "id": 7}),
                text('{"type":"ping","id":1,"id":7}'),
            )
            answers = [await receive(client) for _ in range(4)]
            assert [a["type"] for a in answers] == ["pong", "ok", "pong", "pong"]
            assert [a["id"] for a in answers] == [7, 7, 7, 7]

    @pytest.mark.parametrize("bad", [b"\xff", b'{"type":"ping","x":"\xc3"}', b"\xed\xa0\x80"])
    async def test_text_that_is_not_utf_8(
        self, server: ServerProcess, room: Room, transport: str, bad: bytes
    ) -> None:
        async with await connected(server) as client:
            await client.send(frame(rfc6455.TEXT, bad))
            code, messages = await client.read_to_close()
            assert code == close_code("text that is not UTF-8", transport)
            assert messages == []

    @pytest.mark.parametrize(
        "sent",
        [
            frame(rfc6455.TEXT, b"x", mask=None),
            frame(rfc6455.TEXT, b"x", rsv=2),
            frame(3, b"x"),
            frame(rfc6455.CONT, b"x"),
            frame(rfc6455.TEXT, fin=False) + frame(rfc6455.TEXT),
            frame(rfc6455.PING, fin=False),
            frame(rfc6455.CLOSE, struct.pack("!H", 1005)),
            b"GET / HTTP/1.1\r\n\r\n",
        ],
    )
    async def test_what_breaks_the_framing(
        self, server: ServerProcess, room: Room, transport: str, sent: bytes
    ) -> None:
        async with await connected(server) as client:
            await client.send(sent)
            code, messages = await client.read_to_close()
            assert code == close_code("a frame that breaks RFC 6455", transport)
            assert messages == []

    @pytest.mark.parametrize(
        ("encoding", "opcode"),
        [(chat_client.JSON, rfc6455.BINARY), (chat_client.MSGPACK, rfc6455.TEXT)],
    )
    @pytest.mark.parametrize("payload", [b"", b'{"type":"ping"}'])
    async def test_the_wrong_kind_of_frame(
        self, server: ServerProcess, room: Room, encoding: str, opcode: int, payload: bytes
    ) -> None:
        async with await connected(server, encoding) as client:
            await client.send(frame(opcode, payload))
            goodbye = await receive(client)
            assert (goodbye["type"], goodbye["code"]) == ("goodbye", 1003)
            assert await client.read_to_close() == (1003, [])

    @pytest.mark.parametrize("fragments", [1, 4])
    async def test_a_message_that_is_too_big(
        self, server: ServerProcess, room: Room, fragments: int
    ) -> None:
        part = b"x" * (MAX_MESSAGE // fragments + 1)
        async with await connected(server) as client:
            opcodes = [rfc6455.TEXT, *[rfc6455.CONT] * (fragments - 1)]
            await client.send(
                *(frame(o, part, fin=n == fragments) for n, o in enumerate(opcodes, start=1))
            )
            assert await client.read_to_close() == (1009, [])

    async def test_a_frame_that_claims_more_than_it_may(
        self, server: ServerProcess, room: Room, transport: str
    ) -> None:
        code = close_code("a frame that only claims to be too big", transport)
        async with await connected(server) as client:
            await client.send(frame(rfc6455.TEXT, b"x", length=2**62))
            if code:
                assert await client.read_to_close() == (code, [])

    async def test_ten_messages_that_are_none(self, server: ServerProcess, room: Room) -> None:
        async with await connected(server) as client:
            await client.send(text("{") * 20)
            code, messages = await client.read_to_close()
            assert code == 4400
            assert [m["type"] for m in messages] == ["error"] * 9 + ["goodbye"]

    async def test_twenty_halves_of_an_emoji(self, server: ServerProcess, room: Room) -> None:
        """As `"Nice one \U0001f600".slice(0, 10)` and `JSON.stringify` write them."""
        async with await connected(server) as client:
            await client.send(text(publish('"Nice one \\ud83d"', 7)) * 20)
            for _ in range(20):
                error = await receive(client)
                assert (error["code"], error["id"]) == ("bad_request", 7)
                assert error["message"] == "data: holds half a surrogate pair"
            await client.send(text(publish('"Nice one \\ud83d\\ude00"', 8, room.topic)))
            assert (await receive(client))["id"] == 8
            assert (await room.bystander.next())["data"] == "Nice one \U0001f600"

    async def test_half_an_emoji_by_http(self, server: ServerProcess, room: Room) -> None:
        path = f"/api/topics/{room.topic}/messages"
        headers = {"Authorization": f"Bearer {token()}"}
        body = b'{"data":"Nice one \\ud83d"}'
        answer = await request(server.port, "POST", path, headers=headers, body=body)
        assert answer.status == 400
        problem = answer.json()
        assert (problem["code"], problem["detail"]) == (
            "bad_request",
            "data: holds half a surrogate pair",
        )

    async def test_twenty_commands_that_are_wrong_only(
        self, server: ServerProcess, room: Room
    ) -> None:
        async with await connected(server) as client:
            await client.send(text('{"type":"shout"}') * 20)
            for _ in range(20):
                assert (await receive(client))["code"] == "bad_request"

    async def test_everything_by_somebody_without_a_token(
        self, server: ServerProcess, room: Room
    ) -> None:
        commands = [
            {"type": "subscribe", "id": 1, "topic": room.topic},
            {"type": "unsubscribe", "id": 1, "topic": room.topic},
            {"type": "publish", "id": 1, "topic": room.topic, "data": 1},
            {"type": "signal", "id": 1, "topic": room.topic, "data": 1},
            {"type": "history", "id": 1, "topic": room.topic},
        ]
        async with await RawClient.open(server.port) as client:
            for command in commands:
                await client.send(text(command))
                error = await receive(client)
                assert (error["code"], error["id"]) == ("unauthorized", 1)
