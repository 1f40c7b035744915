"""Flood: what a user can store who wants more than his rate, by one worker.

He comes again after each burst, has many connections at once, and uses HTTP beside them. How much
is stored is what the topic's position says; how much may be is what the limits allow for the time.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

import msgspec
from msgspec import Struct
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, WebSocketException
from websockets.typing import Subprotocol

from .server import Target

RATE: Final = 50
BURST: Final = 100
ENVIRON: Final[Mapping[str, str]] = {
    "CHAT_LIMITS__MESSAGES_PER_SECOND": str(RATE),
    "CHAT_LIMITS__MESSAGE_BURST": str(BURST),
}
"""The limits of the flooded server: the defaults."""

CHUNK: Final = BURST + BURST // 4
"""Publications sent before their answers are read."""

POSTERS: Final = 4
PAUSE_SECONDS: Final = 0.05

_REFUSED = (OSError, TimeoutError, WebSocketException, asyncio.IncompleteReadError)


class Round(Struct):
    """One way of flooding, with its result.

    Args:
        way: the way, in words.
        seconds: the duration.
        sent: publications with an answer or a closed connection, `ok` or not.
        connections: number of opened connections.
        stored: publications in the topic at the end.
        allowed: publications that the limits allow in this time.
    """

    way: str
    seconds: float
    sent: int
    connections: int
    stored: int
    allowed: int

    @property
    def passed(self) -> bool:
        """True if the user could store the burst, and no more than the rate allows."""
        return min(BURST, self.sent) <= self.stored <= self.allowed


class _Flooder:
    """One flooding user, until a given time."""

    def __init__(self, target: Target, user: str, topic: str, until: float) -> None:
        self._target = target
        self._token = target.mint(user, topic)
        self._topic = topic
        self._until = until
        self.sent = self.connections = 0

    async def reconnect(self) -> None:
        """Reconnect after each burst."""
        while time.monotonic() < self._until:
            async with self._connected() as socket:
                await self._burst(socket)

    async def stay(self) -> None:
        """Send burst after burst, as long as the server keeps this connection."""
        while time.monotonic() < self._until:
            # Opening this many connections may take all of the time.
            async with self._connected() as socket:
                await self._burst(socket)
                while time.monotonic() < self._until:
                    await self._burst(socket)

    async def post(self) -> None:
        """Publish by HTTP, one request after the other."""
        body = b'{"data":"flood"}'
        head = (
            f"POST /api/topics/{self._topic}/messages HTTP/1.1\r\nHost: {self._target.host}\r\n"
            f"Authorization: Bearer {self._token}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        while time.monotonic() < self._until:
            with contextlib.suppress(*_REFUSED):
                reader, writer = await asyncio.open_connection(self._target.host, self._target.port)
                try:
                    self.connections += 1
                    while time.monotonic() < self._until:
                        writer.write(head.encode() + body)
                        await _skip_response(reader)
                        self.sent += 1
                finally:
                    writer.close()

    async def position(self) -> int:
        """Return the number of publications in the topic."""
        async with self._connected() as socket:
            subscribe = {"type": "subscribe", "id": 1, "topic": self._topic}
            await socket.send(msgspec.json.encode(subscribe), text=True)
            while (answer := await _received(socket)).get("id") != 1:
                pass
            return int(answer["seq"])
        raise AssertionError("unreachable")

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[ClientConnection]:
        """Connect; a refusal or a close by the server only costs a pause."""
        try:
            async with connect(
                f"ws://{self._target.host}:{self._target.port}/ws",
                subprotocols=[Subprotocol("chat.v1.json")],
                additional_headers={"Authorization": f"Bearer {self._token}"},
                compression=None,
                close_timeout=1,
                max_queue=None,
                proxy=None,
            ) as socket:
                self.connections += 1
                yield socket
        except ConnectionClosed:
            await asyncio.sleep(PAUSE_SECONDS)

    async def _burst(self, socket: ClientConnection) -> None:
        publication = {"type": "publish", "topic": self._topic, "data": "flood"}
        for id in range(1, CHUNK + 1):
            await socket.send(msgspec.json.encode({**publication, "id": id}), text=True)
        self.sent += CHUNK
        # Answers come in the order of the commands.
        while (await _received(socket)).get("id") != CHUNK:
            pass


async def _received(socket: ClientConnection) -> dict[str, Any]:
    message: dict[str, Any] = msgspec.json.decode(await socket.recv())
    return message


async def _skip_response(reader: asyncio.StreamReader) -> None:
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    _, _, rest = head.partition(b"content-length:")
    await reader.readexactly(int(rest.partition(b"\r\n")[0]))


async def flood(
    target: Target, *, seconds: float, connections: int, tell: Callable[[str], None]
) -> list[Round]:
    """Flood a server in each way, one after the other.

    Args:
        target: a server of one worker with the limits of `ENVIRON`.
        seconds: the duration of each way.
        connections: concurrent connections of the user, in the ways with many connections.
        tell: called with the progress.
    """
    ways: dict[str, Callable[[_Flooder], list[Awaitable[None]]]] = {
        "reconnects after each burst": lambda user: [user.reconnect()],
        f"{connections} connections": lambda user: [user.stay() for _ in range(connections)],
        "HTTP": lambda user: [user.post() for _ in range(POSTERS)],
        "all at once": lambda user: [
            user.reconnect(),
            *(user.stay() for _ in range(max(connections // 2, 1))),
            *(user.post() for _ in range(POSTERS)),
        ],
    }
    rounds = []
    for number, (way, begin) in enumerate(ways.items()):
        tell(f"a user who floods: {way}")
        began = time.monotonic()
        user = _Flooder(target, f"flooder-{number}", f"room:flood-{number}", began + seconds)
        await asyncio.gather(*begin(user))
        took = time.monotonic() - began
        rounds.append(
            Round(
                way=way,
                seconds=round(took, 2),
                sent=user.sent,
                connections=user.connections,
                stored=await user.position(),
                allowed=BURST + int(RATE * took) + 1,
            )
        )
    return rounds
