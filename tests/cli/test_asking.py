"""What operators' commands do when a worker takes their connection and says nothing."""

import asyncio
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator

import pytest

from chat_server.cli import asking
from chat_server.cli.asking import Asking
from chat_server.client.errors import NotConnected

ANSWER = b'HTTP/1.1 200 OK\r\nContent-Length: 17\r\nConnection: close\r\n\r\n{"already": true}'


class HalfFrozen:
    """A server of which some connections reach nobody.

    Attributes:
        port: where it listens.
        frozen: how many connections get no answer, from the first on.
        seen: how many have come.
    """

    port = 0
    frozen = 1
    seen = 0

    def __init__(self) -> None:
        self.open: list[StreamWriter] = []

    async def serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        """Answer, or wait until the client is gone."""
        self.seen += 1
        self.open.append(writer)
        if self.seen <= self.frozen:
            while await reader.read(4_096):
                pass
        else:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(ANSWER)
            await writer.drain()
        writer.close()


@pytest.fixture
async def half(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[HalfFrozen]:
    monkeypatch.setattr(asking, "PATIENCE_SECONDS", 0.1)
    server = HalfFrozen()
    async with await asyncio.start_server(server.serve, "127.0.0.1", 0) as listening:
        server.port = listening.sockets[0].getsockname()[1]
        yield server
        for writer in server.open:
            writer.transport.abort()


def ask(server: HalfFrozen) -> Asking:
    return Asking(f"ws://127.0.0.1:{server.port}/ws", "t0ken", 0.0)


async def test_what_is_not_answered_is_sent_again(half: HalfFrozen) -> None:
    half.frozen = 2
    # What the first ones may have done was not so before.
    assert await ask(half).post("unblock", user="bob") == {"already": False}
    assert half.seen >= 3


async def test_what_is_answered_is_sent_once(half: HalfFrozen) -> None:
    half.frozen = 0
    assert await ask(half).get("nodes") == {"already": True}


@pytest.mark.parametrize(
    ("verb", "ends"),
    [
        ("block", "it may have been done all the same, and to repeat it does no harm"),
        ("announce", "it may have been done all the same"),
    ],
)
async def test_silence_is_told(
    half: HalfFrozen, monkeypatch: pytest.MonkeyPatch, verb: str, ends: str
) -> None:
    """And nobody hears an announcement twice."""
    half.frozen = 1_000
    monkeypatch.setattr(asking, "ANSWER_SECONDS", 0.5)
    with pytest.raises(NotConnected, match=r"no worker has answered for 0\.5 s; ") as caught:
        await ask(half).post(verb, reason="x")
    assert str(caught.value).endswith(ends)
    assert (half.seen == 1) is (verb == "announce")
