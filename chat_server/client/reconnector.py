"""Keeps a client connected: one connection at a time, replaced after each loss."""

import asyncio
import logging
from collections.abc import Callable
from enum import StrEnum
from ssl import SSLContext
from typing import NoReturn, Protocol

from msgspec import Struct

from ..protocol.close_codes import STOP, CloseCode
from .api import Api
from .codec import ClientCodec
from .connection import Connection, Ended, Push
from .credentials import Credentials
from .ending import Backoff, Ending
from .errors import (
    BadServer,
    ClientClosed,
    ClientError,
    ConnectFailed,
    Disconnected,
    NotConnected,
    TokenRejected,
)
from .flow import Flow
from .gate import Gate
from .renewal import keep_authorized

STEADY_SECONDS = 10.0
"""Seconds after which a connection counts as good: after its end the waits start short again."""

MIN_REJECTED = 3
REJECTED_SECONDS = 60.0
"""Seconds in which at least `MIN_REJECTED` fresh tokens in a row must be rejected; then the client
gives up. After an issuer has changed its keys, the server refuses the new tokens until the
server has fetched the new keys.
"""

MAX_BAD_CONNECTIONS = 3
"""Connections in a row that may end with a message that is not `chat.v1`; then the client gives up.
A single corrupt message does not end the client.
"""

logger = logging.getLogger("chat_server.client")


class ClientState(StrEnum):
    """The state of a client's connection."""

    ONLINE = "online"
    RECONNECTING = "reconnecting"
    CLOSED = "closed"


class ConnectOptions(Struct, frozen=True, kw_only=True):
    """Options of connections; `client.connect` explains each."""

    url: str
    start_wait: float
    open_timeout: float
    ssl: SSLContext | None
    on_state: Callable[[ClientState, str], None] | None


class PushHandler(Protocol):
    """The callbacks of a reconnector; the plain functions must not raise."""

    def on_push(self, push: Push) -> None:
        """Handle a message that is not an answer."""
        ...

    def on_lost(self) -> None:
        """Handle the end of a connection."""
        ...

    def on_end(self, error: ClientError | None) -> None:
        """Handle the end of the client: closed by its user, or given up because of `error`."""
        ...

    async def keep(self, connection: Connection) -> NoReturn:
        """Work on `connection` until cancelled."""
        ...


class Reconnector:
    """Connects and reconnects: obeys close codes, gets fresh tokens, backs off."""

    def __init__(
        self,
        options: ConnectOptions,
        credentials: Credentials,
        backoff: Backoff,
        codec: ClientCodec,
        flow: Flow,
    ) -> None:
        self._options = options
        self._credentials = credentials
        self._backoff = backoff
        self._codec = codec
        self._flow = flow
        self._api = Api(options.url, options.ssl)
        self._user: PushHandler
        self._connection: Connection | None = None
        self._name: str | None = None  # the user of all tokens
        self._error: ClientError | None = None
        self._bad_connections = 0  # in a row, ended by a message that is not `chat.v1`
        self._decided = Gate()  # open while there is a connection, and after the end
        self._decided.close()
        self._runner: asyncio.Task[None] | None = None

    @property
    def online(self) -> bool:
        """True if a connection is open."""
        return self._connection is not None and self._connection.is_open

    def connection(self) -> Connection:
        """Return the connection.

        Raises:
            NotConnected: there is no connection at the moment.
            ClientError: the client has ended, with this error.
        """
        self._demand_entered()
        if self._error is not None:
            raise self._error
        if self._connection is None or not self._connection.is_open:
            # The reader may not have noticed the end yet; let `wait` wait for the next connection.
            self._decided.close()
            raise NotConnected("there is no connection to the server at the moment")
        return self._connection

    async def wait(self) -> Connection:
        """Wait for a connection and return it.

        Raises:
            ClientError: the client has ended, with this error.
        """
        self._demand_entered()
        while True:
            await self._decided.passed()
            try:
                return self.connection()
            except NotConnected:
                continue  # `connection` has closed `_decided`

    async def ask(
        self,
        path: str,
        *,
        most: int,
        body: bytes | None = None,
        seconds: float = 0.0,
        fresh: bool = True,
    ) -> bytes:
        """Send an HTTP request to the server.

        Args:
            path: as of `Api.ask`.
            most: as of `Api.ask`.
            body: as of `Api.ask`.
            seconds: time for each step of the exchange, at least the time for opening.
            fresh: True gets a fresh token; False may use the last token.

        Raises:
            ClientError: as of `Api.ask`, or the client has ended, or there is no token.
        """
        self._demand_entered()
        if self._error is not None:
            raise self._error
        token = None if fresh else self._credentials.last
        if token is None:
            token = await self._credentials.token()
        seconds = max(seconds, self._options.open_timeout)
        return await self._api.ask(path, token, timeout=seconds, most=most, body=body)

    def _demand_entered(self) -> None:
        if self._runner is None and self._error is None:
            raise RuntimeError(
                "the client is not connected: enter it first, as in `async with connect(...)"
                " as chat`"
            )

    async def start(self, user: PushHandler) -> None:
        """Connect for the first time, and keep connected from then on.

        Raises:
            ConnectFailed: the server could not be reached within `start_wait`.
            TokenRejected: the server does not accept the token.
            Disconnected: the server rejects this client for good.
        """
        if self._runner is not None or self._error is not None:
            raise RuntimeError("a client can be entered only once")
        self._user = user
        connection = await self._connect_first()
        self._go_online(connection)
        self._runner = asyncio.create_task(self._run(connection), name="chat client")

    async def _connect_first(self) -> Connection:
        loop = asyncio.get_running_loop()
        began = loop.time()
        rejected = _RejectedTokens()
        while True:
            try:
                return await self._open()
            except ConnectFailed as failed:
                delay = self._backoff.delay(failed.ending)
                last = loop.time() + delay - began > self._options.start_wait
                self._give_up_after(failed.ending, rejected, last=last)
                if last:
                    raise
                self._report_wait(failed.ending, delay)
            await asyncio.sleep(delay)

    async def stop(self) -> None:
        """Close the connection, and fail all waiting calls."""
        closed = ClientClosed("the client is closed")
        if self._runner is None:
            self._error = closed
            return
        self._runner.cancel()
        try:
            await asyncio.wait([self._runner])
            if self._connection is not None:  # The task was cancelled before its first step.
                await self._connection.close()
        finally:
            # Also after a cancellation of the caller during an unanswered close.
            self._end(closed)
        if not self._runner.cancelled():
            self._runner.result()

    # One connection after another ----------------------------------------------------------

    async def _run(self, connection: Connection) -> None:
        try:
            while True:
                ending = await self._serve(connection)
                connection = await self._reconnect(ending)
                self._go_online(connection)
        except ClientError as error:
            self._end(error)
        except Exception as fault:
            self._end(ClientError(f"a fault of the client's own: {fault!r}"))
            raise

    async def _serve(self, connection: Connection) -> Ending:
        loop = asyncio.get_running_loop()
        began = loop.time()
        jobs = [self._read(connection), connection.overdue(), self._user.keep(connection)]
        if self._credentials.renewable:
            jobs.append(keep_authorized(connection, self._credentials))
        tasks = [asyncio.create_task(job) for job in jobs]
        try:
            # The first two jobs return when the connection ends; if another job fails, `result`
            # raises.
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            ending = done.pop().result()
        except BadServer as error:
            self._bad_connections = (
                1 if loop.time() - began >= STEADY_SECONDS else self._bad_connections + 1
            )
            if self._bad_connections >= MAX_BAD_CONNECTIONS:
                raise
            return Ending(str(error))
        else:
            self._bad_connections = 0
            return ending
        finally:
            self._connection = None
            self._decided.close()
            self._user.on_lost()
            if loop.time() - began >= STEADY_SECONDS:
                self._backoff.reset()
            for task in tasks:
                task.cancel()
            try:
                await asyncio.gather(*tasks, return_exceptions=True)
            finally:
                await connection.close()

    async def _read(self, connection: Connection) -> Ending:
        while True:
            await self._flow.may_read()
            try:
                push = await connection.receive()
            except Ended as ended:
                return ended.ending
            if push is not None:
                self._user.on_push(push)

    async def _reconnect(self, ending: Ending) -> Connection:
        rejected = _RejectedTokens()
        while True:
            self._give_up_after(ending, rejected)
            delay = self._backoff.delay(ending)
            self._report_wait(ending, delay)
            await asyncio.sleep(delay)
            try:
                return await self._open()
            except ConnectFailed as failed:
                ending = failed.ending

    def _give_up_after(
        self, ending: Ending, rejected: "_RejectedTokens", *, last: bool = False
    ) -> None:
        """Raise an error if `ending` ends the client.

        Args:
            ending: the end of the latest attempt.
            rejected: counts rejected tokens.
            last: True if there is no further attempt.
        """
        if not ending.announced:
            return
        if ending.code in STOP:
            raise Disconnected(ending)
        if ending.code == CloseCode.UNAUTHORIZED and (
            rejected.are_enough() or last or not self._credentials.renewable
        ):
            raise TokenRejected(f"the token was refused: {ending.reason}")

    async def _open(self) -> Connection:
        token = await self._credentials.token()
        connection = await Connection.open(
            self._options.url,
            token,
            self._codec,
            self._flow,
            renewable=self._credentials.renewable,
            timeout=self._options.open_timeout,
            ssl=self._options.ssl,
        )
        user = connection.welcome.user
        if self._name not in (None, user):
            # Waiting commands belong to the previous user.
            await connection.close()
            raise TokenRejected(f"the token is another user's ({user}), not {self._name}'s")
        self._name = user
        return connection

    def _go_online(self, connection: Connection) -> None:
        self._connection = connection
        self._decided.open()
        self._report(ClientState.ONLINE, f"signed in as {connection.welcome.user}")

    def _end(self, error: ClientError) -> None:
        if self._error is not None:
            return
        self._error = error
        self._connection = None
        self._decided.open()
        self._user.on_end(None if isinstance(error, ClientClosed) else error)
        self._report(ClientState.CLOSED, str(error))

    def _report_wait(self, ending: Ending, delay: float) -> None:
        self._report(ClientState.RECONNECTING, f"{ending}; next attempt in {delay:.1f} s")

    def _report(self, state: ClientState, reason: str) -> None:
        logger.debug("%s: %s", state, reason)
        if self._options.on_state is None:
            return
        try:
            self._options.on_state(state, reason)
        except Exception:
            # A fault of the application must not end the application's connection.
            logger.exception("on_state failed")


class _RejectedTokens:
    """Counts tokens rejected in a row."""

    def __init__(self) -> None:
        self._count = 0
        self._first_at = 0.0

    def are_enough(self) -> bool:
        """Count a rejection, and return True if the client should give up."""
        now = asyncio.get_running_loop().time()
        if not self._count:
            self._first_at = now
        self._count += 1
        return self._count >= MIN_REJECTED and now - self._first_at >= REJECTED_SECONDS
