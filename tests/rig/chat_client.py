"""A client of chat.v1 on the `websockets` library, for tests that do not depend on raw bytes."""

import asyncio
import json
import ssl
from collections import deque
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any, Self

import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidMessage
from websockets.typing import Subprotocol

from .waiting import SECONDS

JSON = "chat.v1.json"


MSGPACK = "chat.v1.msgpack"


class Closed(Exception):
    """The server closed the connection; the code is the reason."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class Chat:
    """A client of `chat.v1` that keeps received messages in order; made by `chat`.

    The client has no task of its own: it reads only when a method needs a message.
    """

    def __init__(self, websocket: ClientConnection) -> None:
        self.websocket = websocket
        self.binary = websocket.subprotocol == MSGPACK
        self.welcome: dict[str, Any] = {}
        self._inbox: deque[dict[str, Any]] = deque()
        self._last_id = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.websocket.close()

    async def send(self, **command: Any) -> None:
        """Send a command."""
        data = msgspec.msgpack.encode(command) if self.binary else json.dumps(command)
        try:
            await self.websocket.send(data)
        except ConnectionClosed as error:
            raise _closed(error) from None

    async def call(self, **command: Any) -> dict[str, Any]:
        """Send a command with an id and return its answer; keep earlier pushes."""
        self._last_id += 1
        await self.send(id=self._last_id, **command)
        while True:
            message = await self._receive()
            if message.get("id") == self._last_id:
                return message
            self._inbox.append(message)

    async def ok(self, **command: Any) -> dict[str, Any]:
        """Send a command, and return its answer, which must be `ok`."""
        answer = await self.call(**command)
        assert answer["type"] == "ok", answer
        return answer

    async def next(self) -> dict[str, Any]:
        """Return the next message that is not an answer."""
        return self._inbox.popleft() if self._inbox else await self._receive()

    async def closed(self) -> int:
        """Read until the server closes; return the code."""
        try:
            while True:
                self._inbox.append(await self._receive())
        except Closed as closed:
            return closed.code

    @property
    def unread(self) -> list[dict[str, Any]]:
        """Messages that came while the client waited for another message."""
        return list(self._inbox)

    async def _receive(self) -> dict[str, Any]:
        try:
            async with asyncio.timeout(SECONDS):
                data = await self.websocket.recv()
        except ConnectionClosed as error:
            raise _closed(error) from None
        if isinstance(data, bytes):
            value = msgspec.msgpack.decode(data)
        else:
            value = msgspec.json.decode(data)
        assert isinstance(value, dict)
        return value


def _closed(error: ConnectionClosed) -> Closed:
    return Closed(error.rcvd.code if error.rcvd else 1006)


async def chat(
    url: str,
    token: str | None = None,
    *,
    encoding: str = JSON,
    bearer: bool = False,
    query: bool = False,
    tls: ssl.SSLContext | None = None,
) -> Chat:
    """Connect to `url` and, with a token, receive the welcome.

    Args:
        token: sent in the Authorization header unless `bearer` or `query` is set.
        bearer: True sends the token as a subprotocol.
        query: True sends the token in the address.
        tls: the TLS context for a wss:// address.
    """
    subprotocols = [encoding]
    headers = {}
    if token is not None and bearer:
        subprotocols.append(f"bearer.{token}")
    elif token is not None and query:
        url = f"{url}?token={token}"
    elif token is not None:
        headers["Authorization"] = f"Bearer {token}"
    client = Chat(await open_websocket(url, subprotocols, headers, tls))
    if token is not None:
        client.welcome = await client.next()
        assert client.welcome["type"] == "welcome", client.welcome
    return client


async def open_websocket(
    url: str,
    subprotocols: Iterable[str] = (),
    headers: Mapping[str, str] | None = None,
    tls: ssl.SSLContext | None = None,
) -> ClientConnection:
    """Connect with the `websockets` library, without a proxy and with room for large messages."""
    try:
        return await connect(
            url,
            subprotocols=[Subprotocol(name) for name in subprotocols] or None,
            additional_headers=dict(headers or {}),
            open_timeout=SECONDS,
            close_timeout=SECONDS,
            max_size=2**24,
            proxy=None,
            ssl=tls,
        )
    except InvalidMessage:
        # The connection ended before there was an answer.
        raise Closed(1006) from None
