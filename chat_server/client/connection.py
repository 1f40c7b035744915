"""One WebSocket connection, from its handshake to its end."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from ssl import SSLContext
from typing import Any, NamedTuple, TypeVar

from msgspec import Struct
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed
from websockets.protocol import State

from ..protocol.commands import Command
from ..protocol.errors import TooLarge, Unauthorized
from ..protocol.messages import Error, Goodbye, Welcome
from .codec import ClientCodec, Envelope
from .ending import Ending
from .errors import (
    BadServer,
    ClientError,
    CommandFailed,
    ConnectFailed,
    ConnectionLost,
    NotConnected,
    failure,
)
from .flow import Flow
from .gate import Gate
from .opening import failed, open_websocket

ANSWER_SECONDS = 180.0
"""Seconds that the answer to a command may take. A server that spools publications answers after a
minute. A server that never answers must not block a command for ever.
"""

GOODBYE_SECONDS = 5.0
"""Seconds that the server may take to close the connection after its goodbye."""

MAX_EXPIRIES = 5
"""Repetitions of a command after failures because of an expired token."""

A = TypeVar("A", bound=Struct)


class Push(NamedTuple):
    """A message of the server that is not an answer."""

    envelope: Envelope
    payload: bytes


class Ended(Exception):
    """The connection has ended."""

    def __init__(self, ending: Ending) -> None:
        super().__init__(str(ending))
        self.ending = ending


class _Waiting(NamedTuple):
    """A command that waits for its answer."""

    kind: type[Any]
    outcome: "asyncio.Future[Any]"
    then: Callable[[Any], None] | None
    sent_at: float


class Connection:
    """An open connection: sends commands, assigns answers to commands, returns other messages.

    The owner must call `receive` repeatedly, otherwise no answer arrives.

    Args:
        renewable: True if the owner renews the token. Commands then wait while the token is
            expired.

    Attributes:
        token_expired: set from the token's expiry until its renewal.
    """

    def __init__(
        self, socket: ClientConnection, codec: ClientCodec, flow: Flow, *, renewable: bool
    ) -> None:
        self.welcome: Welcome
        self.token_expired = asyncio.Event()
        self._renewable = renewable
        self._gate = Gate()
        self._socket = socket
        self._codec = codec
        self._flow = flow
        self._goodbye: Goodbye | None = None
        self._said_goodbye = asyncio.Event()
        self._last_id = 0
        self._waiting: dict[int, _Waiting] = {}

    @classmethod
    async def open(
        cls,
        url: str,
        token: str,
        codec: ClientCodec,
        flow: Flow,
        *,
        renewable: bool,
        timeout: float,
        ssl: SSLContext | None,
    ) -> "Connection":
        """Connect, and wait for the server's welcome.

        Args:
            url: a ws:// or wss:// address.
            token: a JWT.
            codec: the encoding to speak.
            flow: counts the commands that wait for their answers.
            renewable: True if the owner renews the token.
            timeout: seconds that the whole opening may take.
            ssl: the TLS context for wss://; None trusts the system's certificates.

        Raises:
            ConnectFailed: the opening failed; a rejected token has `CloseCode.UNAUTHORIZED`.
        """
        try:
            async with asyncio.timeout(timeout):
                socket = await open_websocket(url, token, codec.subprotocol, ssl)
                connection = cls(socket, codec, flow, renewable=renewable)
                try:
                    await connection._be_welcomed()
                except BaseException:
                    socket.transport.abort()
                    raise
                return connection
        except TimeoutError as error:
            raise failed(url, f"timed out after {timeout:g} s") from error
        except BadServer as error:
            raise failed(url, "this is no chat server, or of another version") from error
        except Ended as error:
            raise ConnectFailed(error.ending) from error

    async def _be_welcomed(self) -> None:
        if self._socket.subprotocol != self._codec.subprotocol:
            raise BadServer(f"the server does not speak {self._codec.subprotocol}")
        while (push := await self.receive()) is None:
            pass
        if push.envelope.type != "welcome":
            raise BadServer("the server sent no welcome")
        self.welcome = self._codec.decode(push.payload, Welcome)

    @property
    def is_open(self) -> bool:
        """True if a command can be sent."""
        # The server accepts no commands after its goodbye.
        return self._socket.state is State.OPEN and self._goodbye is None

    async def command(
        self, command: Command, kind: type[A], then: Callable[[A], None] | None = None
    ) -> A:
        """Send `command` and wait for its answer; with an expired token, wait for a new one.

        Args:
            command: the command; this method sets its `id`.
            kind: the type of the answer.
            then: called with the answer before any later message is read.

        Raises:
            CommandFailed: the server answered with an error, or `command` is too large for the
                server.
            NotConnected: nothing was sent.
            ConnectionLost: no answer came.
        """
        expiries = 0
        while True:
            try:
                return await self.attempt(command, kind, then)
            except CommandFailed as error:
                expiries += 1
                if not error.expired or expiries > MAX_EXPIRIES:
                    raise

    async def attempt(
        self, command: Command, kind: type[A], then: Callable[[A], None] | None = None
    ) -> A:
        """Send `command` once, as soon as the token is valid, and wait for its answer.

        Raises:
            CommandFailed: as for `command`. With `expired` the server has not run the command, and
                the next attempt waits for the next token.
        """
        await self._gate.passed()
        try:
            return await self.exchange(command, kind, then)
        except CommandFailed as error:
            if error.expired:
                self._hold()
            raise

    async def exchange(
        self, command: Command, kind: type[A], then: Callable[[A], None] | None = None
    ) -> A:
        """Send `command` now, even with an expired token, and wait for its answer."""
        if not self.is_open:
            raise NotConnected("the connection is closing")
        self._last_id += 1
        command.id = id = self._last_id
        payload = self._codec.encode(command)
        most = self.welcome.limits.max_message_bytes
        if len(payload) > most:
            # The server would close the connection with 1009.
            raise CommandFailed(
                TooLarge.code, f"message: may have {most} bytes, not {len(payload)}"
            )
        loop = asyncio.get_running_loop()
        waiting = _Waiting(kind, loop.create_future(), then, loop.time())
        self._waiting[id] = waiting
        self._flow.begin_command()
        try:
            # Sent before the first await, so commands leave in the order of the calls.
            await self._socket.send(payload, text=not self._codec.binary)
            outcome = await waiting.outcome
        except ConnectionClosed as error:
            raise ConnectionLost("the connection broke while the command was sent") from error
        finally:
            self._pop(id)
        if isinstance(outcome, ClientError):
            raise outcome
        answer: A = outcome
        return answer

    def token_renewed(self) -> None:
        """Send the waiting commands, after the server has accepted a new token."""
        self.token_expired.clear()
        self._gate.open()

    def _hold(self) -> None:
        """Let commands wait for the next token, if the token is renewable."""
        if self._renewable and self.is_open:
            self._gate.close()
            self.token_expired.set()

    async def overdue(self) -> Ending:
        """Return once the server is late with an answer, or with the close after its goodbye."""
        loop = asyncio.get_running_loop()
        while not self._said_goodbye.is_set():
            oldest = next(iter(self._waiting.values()), None)
            left = ANSWER_SECONDS - (loop.time() - oldest.sent_at if oldest else 0.0)
            if left <= 0:
                return Ending(f"a command was not answered in {ANSWER_SECONDS:g} s")
            with suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._said_goodbye.wait()
        await asyncio.sleep(GOODBYE_SECONDS)
        return self._ending()

    async def receive(self) -> Push | None:
        """Read the next message; pass an answer to its command, and return any other message.

        Raises:
            BadServer: the message is not `chat.v1`.
            Ended: the connection has ended.
        """
        try:
            payload = await self._socket.recv(decode=False)
        except ConnectionClosed as closed:
            self._fail_waiting()
            raise Ended(self._ending(closed)) from None
        envelope = self._codec.decode(payload, Envelope)
        if envelope.id is not None and envelope.type in ("ok", "error", "pong"):
            self._answer(envelope, envelope.id, payload)
            return None
        if envelope.type == "goodbye":
            self._goodbye = self._codec.decode(payload, Goodbye)
            self._said_goodbye.set()
            return None
        if envelope.type == "error" and envelope.topic is None:
            if self._codec.decode(payload, Error).code == Unauthorized.code:
                self._hold()
            return None
        return Push(envelope, payload)

    async def close(self) -> None:
        """Close the connection and wait for its end, at most `CLOSE_SECONDS`."""
        try:
            # The answer to our close frame may come behind many messages that nobody reads.
            await asyncio.gather(self._socket.close(), self._discard())
        finally:
            self._socket.transport.abort()
            self._fail_waiting()

    async def _discard(self) -> None:
        with suppress(ConnectionClosed):
            while True:
                await self._socket.recv(decode=False)

    def _answer(self, envelope: Envelope, id: int, payload: bytes) -> None:
        waiting = self._waiting.get(id)
        if waiting is None or waiting.outcome.done():
            return  # The caller was cancelled.
        # Remove the command only after decoding: an invalid answer ends the connection, and the end
        # fails all waiting commands.
        if envelope.type == "error":
            error = self._codec.decode(payload, Error)
            expired = self._renewable and error.code == Unauthorized.code
            outcome: object = failure(error, expired=expired)
        else:
            outcome = self._codec.decode(payload, waiting.kind)
            if waiting.then is not None:
                waiting.then(outcome)
        self._pop(id)
        waiting.outcome.set_result(outcome)

    def _pop(self, id: int) -> _Waiting | None:
        waiting = self._waiting.pop(id, None)
        if waiting is not None:
            self._flow.end_command()
        return waiting

    def _fail_waiting(self) -> None:
        for id in list(self._waiting):
            waiting = self._pop(id)
            if waiting is not None and not waiting.outcome.done():
                waiting.outcome.set_result(ConnectionLost("the connection broke before the answer"))
        self._gate.open()  # `exchange` then raises NotConnected in waiting tasks

    def _ending(self, closed: ConnectionClosed | None = None) -> Ending:
        goodbye = self._goodbye
        if goodbye is not None:
            retry = goodbye.reconnect_in_ms
            return Ending(goodbye.reason, goodbye.code, retry, announced=True)
        if closed is not None and closed.rcvd is not None:
            return Ending(closed.rcvd.reason, closed.rcvd.code)
        sent = closed.sent if closed is not None else None
        return Ending(sent.reason if sent else "the connection broke")
