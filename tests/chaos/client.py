"""A bare WebSocket client of chat.v1, without a client library that could hide faults."""

from types import TracebackType
from typing import Any, Self

import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, WebSocketException
from websockets.typing import Subprotocol

OPEN_SECONDS = 5.0
PING_SECONDS = 3.0


class Lost(Exception):
    """The connection has ended; the text has the reason."""


class BareClient:
    """A WebSocket with `chat.v1`, entered with `async with`.

    Args:
        url: the server's address.
        token: the user's token.
        binary: True for MessagePack.

    Raises:
        Lost: when entered: the server cannot be reached.
    """

    def __init__(self, url: str, token: str, *, binary: bool) -> None:
        self._library: Any = msgspec.msgpack if binary else msgspec.json
        self._binary = binary
        self._connect = connect(
            url,
            subprotocols=[Subprotocol("chat.v1.msgpack" if binary else "chat.v1.json")],
            additional_headers={"Authorization": f"Bearer {token}"},
            compression=None,
            open_timeout=OPEN_SECONDS,
            close_timeout=1,
            ping_interval=PING_SECONDS,
            ping_timeout=PING_SECONDS,
            max_size=None,
            proxy=None,
        )
        self._socket: ClientConnection

    async def __aenter__(self) -> Self:
        try:
            self._socket = await self._connect.__aenter__()
        except (OSError, TimeoutError, WebSocketException):
            raise Lost("not connected") from None
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # Not the handshake of a close, for that may be held up.
        self._socket.transport.abort()
        await self._socket.wait_closed()

    async def send(self, command: dict[str, Any]) -> None:
        """Send a command.

        Raises:
            Lost: the connection has ended.
        """
        data = self._library.encode(command)
        try:
            await self._socket.send(data if self._binary else data.decode())
        except ConnectionClosed as error:
            raise _lost(error) from None

    async def receive(self) -> dict[str, Any]:
        """Return the next message.

        Raises:
            Lost: the connection has ended.
        """
        try:
            message: dict[str, Any] = self._library.decode(await self._socket.recv())
        except ConnectionClosed as error:
            raise _lost(error) from None
        return message


def _lost(error: ConnectionClosed) -> Lost:
    if error.rcvd is None and error.sent is not None:
        return Lost(f"by us: {error.sent.code} {error.sent.reason}")
    return Lost(str(error.rcvd.code if error.rcvd else 1006))
