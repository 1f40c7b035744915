"""One WebSocket connection, from its handshake to its end; what follows is the `Link`'s job."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from ipaddress import ip_address
from ssl import SSLContext
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as open_websocket
from websockets.asyncio.server import broadcast
from websockets.exceptions import (
    ConnectionClosed,
    InvalidHandshake,
    InvalidProxy,
    InvalidStatus,
    InvalidURI,
)
from websockets.http11 import Response
from websockets.protocol import State
from websockets.typing import Subprotocol

from ..protocol.close_codes import CloseCode
from ..protocol.errors import TooLarge
from ..protocol.messages import Command, Error, Goodbye, Welcome
from .ending import Ending
from .errors import (
    BadServer,
    ClientError,
    CommandFailed,
    ConnectFailed,
    ConnectionLost,
    NotConnected,
)
from .flow import Flow
from .wire import Envelope, Wire

MAX_MESSAGE_BYTES = 64 * 2**20
"""The largest message taken: a page of 300 stored messages of the usual limit has 20 MB."""

CLOSE_SECONDS = 2.0

_HTTP_CODES = {401: CloseCode.UNAUTHORIZED, 429: CloseCode.TOO_MANY}

A = TypeVar("A", bound=Struct)


class Push(NamedTuple):
    """A message that answers no command."""

    envelope: Envelope
    frame: bytes


class Ended(Exception):
    """The connection is gone."""

    def __init__(self, ending: Ending) -> None:
        super().__init__(str(ending))
        self.ending = ending


class _Waiting(NamedTuple):
    """A command without an answer yet."""

    kind: type[Any]
    outcome: "asyncio.Future[Any]"
    then: Callable[[Any], None] | None


class Connection:
    """An open connection: sends commands, matches answers to them, hands out everything else.

    Somebody must call `receive` again and again, or no answer arrives.
    """

    def __init__(self, socket: ClientConnection, wire: Wire, flow: Flow) -> None:
        self.welcome: Welcome
        self.token_expired = asyncio.Event()
        self._socket = socket
        self._wire = wire
        self._flow = flow
        self._goodbye: Goodbye | None = None
        self._last_id = 0
        self._waiting: dict[int, _Waiting] = {}

    @classmethod
    async def open(
        cls, url: str, token: str, wire: Wire, flow: Flow, *, timeout: float, ssl: SSLContext | None
    ) -> "Connection":
        """Connect, and wait for the server's welcome.

        Args:
            url: a ws:// or wss:// address.
            timeout: seconds that all of it may take.

        Raises:
            ConnectFailed: it did not work; a rejected token has `CloseCode.UNAUTHORIZED`.
        """
        try:
            async with asyncio.timeout(timeout):
                socket = await open_websocket(
                    url,
                    subprotocols=[Subprotocol(wire.subprotocol)],
                    additional_headers={"Authorization": f"Bearer {token}"},
                    compression=None,
                    open_timeout=None,
                    close_timeout=CLOSE_SECONDS,
                    max_size=MAX_MESSAGE_BYTES,
                    ssl=(ssl or True) if urlsplit(url).scheme == "wss" else None,
                    proxy=None if _is_loopback(urlsplit(url).hostname or "") else True,
                )
                connection = cls(socket, wire, flow)
                try:
                    await connection._be_welcomed()
                except BaseException:
                    socket.transport.abort()
                    raise
                return connection
        except InvalidStatus as error:
            code = _HTTP_CODES.get(error.response.status_code)
            raise _failed(url, _refusal(error.response), code) from error
        except TimeoutError as error:
            raise _failed(url, "timed out") from error
        except ConnectionRefusedError as error:
            raise _failed(url, "connection refused") from error
        except (OSError, UnicodeError, InvalidHandshake, InvalidProxy, InvalidURI) as error:
            raise _failed(url, str(error)) from error
        except BadServer as error:
            raise _failed(url, "this is no chat server, or of another version") from error
        except Ended as error:
            raise ConnectFailed(error.ending) from error

    async def _be_welcomed(self) -> None:
        if self._socket.subprotocol != self._wire.subprotocol:
            raise BadServer(f"the server does not speak {self._wire.subprotocol}")
        while (push := await self.receive()) is None:
            pass
        if push.envelope.type != "welcome":
            raise BadServer("the server sent no welcome")
        self.welcome = self._wire.decode(push.frame, Welcome)

    @property
    def is_open(self) -> bool:
        """Whether a command can be sent."""
        return self._socket.state is State.OPEN

    async def command(
        self, command: Command, kind: type[A], then: Callable[[A], None] | None = None
    ) -> A:
        """Send `command` and wait for its answer.

        Args:
            kind: what the answer is decoded to.
            then: called with the answer before anything that came after it is read.

        Raises:
            CommandFailed: the server answered with an error, or `command` is too large for it.
            NotConnected: nothing was sent.
            ConnectionLost: no answer came.
        """
        if not self.is_open:
            raise NotConnected("the connection is closing")
        self._last_id += 1
        command.id = id = self._last_id
        frame = self._wire.encode(command)
        most = self.welcome.limits.max_message_bytes
        if len(frame) > most:
            # The server would close the connection with 1009.
            raise CommandFailed(TooLarge.code, f"has {len(frame)} bytes, more than {most}")
        waiting = _Waiting(kind, asyncio.get_running_loop().create_future(), then)
        self._waiting[id] = waiting
        self._flow.begin_command()
        try:
            # Written before anything is awaited: commands leave in the order of the calls.
            await self._socket.send(frame, text=not self._wire.binary)
            outcome = await waiting.outcome
        except ConnectionClosed as error:
            raise ConnectionLost("the connection broke while the command was sent") from error
        finally:
            self._take(id)
        if isinstance(outcome, ClientError):
            raise outcome
        answer: A = outcome
        return answer

    def post(self, command: Command) -> None:
        """Send `command` without waiting for anything; on a closing connection, do nothing."""
        # `broadcast` is the one way to write to a websocket from a plain function.
        broadcast([self._socket], self._wire.encode(command), text=not self._wire.binary)

    async def receive(self) -> Push | None:
        """Take the next message; return it unless it was passed to the command it answers.

        Raises:
            BadServer: it is not `chat.v1`.
            Ended: there is none, the connection is gone.
        """
        try:
            frame = await self._socket.recv(decode=False)
        except ConnectionClosed as closed:
            self._fail_waiting()
            raise Ended(self._ending(closed)) from None
        envelope = self._wire.decode(frame, Envelope)
        if envelope.id is not None and envelope.type in ("ok", "error", "pong"):
            self._answer(envelope, envelope.id, frame)
            return None
        if envelope.type == "goodbye":
            self._goodbye = self._wire.decode(frame, Goodbye)
            return None
        if envelope.type == "error" and envelope.topic is None:
            if self._wire.decode(frame, Error).code == "unauthorized":
                self.token_expired.set()
            return None
        return Push(envelope, frame)

    async def close(self) -> None:
        """Close the connection and wait until it is gone, at most `CLOSE_SECONDS`."""
        try:
            # The answer to our close frame may come behind much that nobody will read.
            await asyncio.gather(self._socket.close(), self._discard())
        finally:
            self._socket.transport.abort()
            self._fail_waiting()

    async def _discard(self) -> None:
        with suppress(ConnectionClosed):
            while True:
                await self._socket.recv(decode=False)

    def _answer(self, envelope: Envelope, id: int, frame: bytes) -> None:
        waiting = self._take(id)
        if waiting is None or waiting.outcome.done():
            return  # whoever asked was cancelled
        if envelope.type == "error":
            error = self._wire.decode(frame, Error)
            outcome: object = CommandFailed(error.code, error.message, error.retry_in_ms)
        else:
            outcome = self._wire.decode(frame, waiting.kind)
            if waiting.then is not None:
                waiting.then(outcome)
        waiting.outcome.set_result(outcome)

    def _take(self, id: int) -> _Waiting | None:
        waiting = self._waiting.pop(id, None)
        if waiting is not None:
            self._flow.end_command()
        return waiting

    def _fail_waiting(self) -> None:
        for id in list(self._waiting):
            waiting = self._take(id)
            if waiting is not None and not waiting.outcome.done():
                waiting.outcome.set_result(ConnectionLost("the connection broke before the answer"))

    def _ending(self, closed: ConnectionClosed) -> Ending:
        goodbye = self._goodbye
        if closed.rcvd is not None:
            code, reason = closed.rcvd.code, closed.rcvd.reason
        elif goodbye is not None:
            code, reason = goodbye.code, goodbye.reason
        else:
            return Ending(closed.sent.reason if closed.sent else "the connection broke")
        return Ending(reason, code, goodbye.reconnect_in_ms if goodbye else None)


def _is_loopback(host: str) -> bool:
    """Return whether `host` is this machine, where no proxy of the environment can lead."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


class _Problem(Struct):
    """As much of a problem+json body as is worth showing, RFC 9457."""

    detail: str


def _refusal(response: Response) -> str:
    try:
        return msgspec.json.decode(response.body or b"", type=_Problem).detail
    except (msgspec.DecodeError, UnicodeDecodeError):
        return f"HTTP {response.status_code} {response.reason_phrase}".strip()


def _failed(url: str, reason: str, code: int | None = None) -> ConnectFailed:
    return ConnectFailed(Ending(f"{urlsplit(url).netloc.rpartition('@')[2]}: {reason}", code))
