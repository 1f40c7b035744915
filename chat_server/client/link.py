"""The link to the server: one connection at a time, taken up again whenever it is lost."""

import asyncio
import logging
from collections.abc import Callable
from enum import StrEnum
from ssl import SSLContext
from typing import NoReturn, Protocol

from msgspec import Struct

from ..protocol.close_codes import STOP, CloseCode
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
from .wire import Wire

STEADY_SECONDS = 10.0
"""A connection that lasted this long shows that all is well: after it, waits begin short again."""

LEAST_REFUSALS = 3
REFUSED_SECONDS = 60.0
"""A client gives up when so many fresh tokens were refused in a row, over so long a time. An issuer
that changes its keys has its new tokens refused until the server has fetched the new keys."""

ODD_CONNECTIONS = 3
"""A client gives up when so many connections in a row ended with what is not `chat.v1`. One frame
that something on the way has spoilt ends no client."""

logger = logging.getLogger("chat_server.client")


class LinkState(StrEnum):
    """How a client stands with its server."""

    ONLINE = "online"
    RECONNECTING = "reconnecting"
    CLOSED = "closed"


class LinkOptions(Struct, frozen=True, kw_only=True):
    """How connections are made; `client.connect` explains each."""

    url: str
    start_wait: float
    open_timeout: float
    ssl: SSLContext | None
    on_state: Callable[[LinkState, str], None] | None


class LinkUser(Protocol):
    """Whom a link serves; none of the plain calls may raise."""

    def on_push(self, push: Push) -> None:
        """Take a message that answers no command."""
        ...

    def on_lost(self) -> None:
        """Note that the connection is gone."""
        ...

    def on_end(self, error: ClientError | None) -> None:
        """Note that there will be no other connection; without `error`, because it was closed."""
        ...

    async def keep(self, connection: Connection) -> NoReturn:
        """Do what has to be done for as long as `connection` lives."""
        ...


class Link:
    """Connects, and connects again: obeys close codes, asks for fresh tokens, waits its time."""

    def __init__(
        self,
        options: LinkOptions,
        credentials: Credentials,
        backoff: Backoff,
        wire: Wire,
        flow: Flow,
    ) -> None:
        self._options = options
        self._credentials = credentials
        self._backoff = backoff
        self._wire = wire
        self._flow = flow
        self._user: LinkUser
        self._connection: Connection | None = None
        self._name: str | None = None  # of the user whom all tokens must belong to
        self._error: ClientError | None = None
        self._odd = 0  # connections in a row that ended with what is not `chat.v1`
        self._settled = Gate()  # open if there is a connection, or there will never be one
        self._settled.close()
        self._runner: asyncio.Task[None] | None = None

    @property
    def online(self) -> bool:
        """Whether there is a connection."""
        return self._connection is not None and self._connection.is_open

    def connection(self) -> Connection:
        """Return the connection.

        Raises:
            NotConnected: there is none at the moment.
            ClientError: there will be none; the error that ended the link.
        """
        self._demand_entered()
        if self._error is not None:
            raise self._error
        if self._connection is None or not self._connection.is_open:
            # Its end may not have been noticed yet; let `wait` wait for the next one.
            self._settled.close()
            raise NotConnected("there is no connection to the server at the moment")
        return self._connection

    async def wait(self) -> Connection:
        """Wait for a connection and return it.

        Raises:
            ClientError: there will be none; the error that ended the link.
        """
        self._demand_entered()
        while True:
            await self._settled.passed()
            try:
                return self.connection()
            except NotConnected:
                continue  # `connection` has closed `_settled`

    def _demand_entered(self) -> None:
        if self._runner is None and self._error is None:
            raise RuntimeError(
                "the client is not connected: enter it first, as in `async with connect(...)"
                " as chat`"
            )

    async def start(self, user: LinkUser) -> None:
        """Connect for the first time, and from then on keep connected.

        Raises:
            ConnectFailed: the server could not be reached, also not within `start_wait`.
            TokenRejected: it does not accept the token.
            Disconnected: it does not want this client.
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
        refusals = _Refusals()
        while True:
            try:
                return await self._open()
            except ConnectFailed as failed:
                delay = self._backoff.delay(failed.ending)
                last = loop.time() + delay - began > self._options.start_wait
                self._give_up_after(failed.ending, refusals, last=last)
                if last:
                    raise
                self._report_wait(failed.ending, delay)
            await asyncio.sleep(delay)

    async def stop(self) -> None:
        """Close the connection, and end everything that waits for the server."""
        closed = ClientClosed("the client is closed")
        if self._runner is None:
            self._error = closed
            return
        self._runner.cancel()
        try:
            await asyncio.wait([self._runner])
            if self._connection is not None:  # cancelled before its first step
                await self._connection.close()
        finally:
            # Also for who gives up on a server that does not answer the close.
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
            # The first two return when the connection ends; should another job fail, so does this.
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            ending = done.pop().result()
        except BadServer as error:
            self._odd = 1 if loop.time() - began >= STEADY_SECONDS else self._odd + 1
            if self._odd >= ODD_CONNECTIONS:
                raise
            return Ending(str(error))
        else:
            self._odd = 0
            return ending
        finally:
            self._connection = None
            self._settled.close()
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
        refusals = _Refusals()
        while True:
            self._give_up_after(ending, refusals)
            delay = self._backoff.delay(ending)
            self._report_wait(ending, delay)
            await asyncio.sleep(delay)
            try:
                return await self._open()
            except ConnectFailed as failed:
                ending = failed.ending

    def _give_up_after(self, ending: Ending, refusals: "_Refusals", *, last: bool = False) -> None:
        """Raise what ends the client if `ending` does.

        Args:
            ending: of the latest attempt.
            refusals: counts the tokens refused.
            last: whether the client gives up in any case.
        """
        if not ending.announced:
            return
        if ending.code in STOP:
            raise Disconnected(ending)
        if ending.code == CloseCode.UNAUTHORIZED and (
            refusals.are_enough() or last or not self._credentials.renewable
        ):
            raise TokenRejected(f"the token was refused: {ending.reason}")

    async def _open(self) -> Connection:
        token = await self._credentials.token()
        connection = await Connection.open(
            self._options.url,
            token,
            self._wire,
            self._flow,
            renewable=self._credentials.renewable,
            timeout=self._options.open_timeout,
            ssl=self._options.ssl,
        )
        user = connection.welcome.user
        if self._name not in (None, user):
            # What waits to be sent was written by the user of before.
            await connection.close()
            raise TokenRejected(f"the token is another user's ({user}), not {self._name}'s")
        self._name = user
        return connection

    def _go_online(self, connection: Connection) -> None:
        self._connection = connection
        self._settled.open()
        self._report(LinkState.ONLINE, f"signed in as {connection.welcome.user}")

    def _end(self, error: ClientError) -> None:
        if self._error is not None:
            return
        self._error = error
        self._connection = None
        self._settled.open()
        self._user.on_end(None if isinstance(error, ClientClosed) else error)
        self._report(LinkState.CLOSED, str(error))

    def _report_wait(self, ending: Ending, delay: float) -> None:
        self._report(LinkState.RECONNECTING, f"{ending}; next attempt in {delay:.1f} s")

    def _report(self, state: LinkState, reason: str) -> None:
        logger.debug("%s: %s", state, reason)
        if self._options.on_state is None:
            return
        try:
            self._options.on_state(state, reason)
        except Exception:
            # A fault of the application's must not end the connection beside it.
            logger.exception("on_state failed")


class _Refusals:
    """Tokens refused one after the other."""

    def __init__(self) -> None:
        self._count = 0
        self._first_at = 0.0

    def are_enough(self) -> bool:
        """Count another, and return whether there is no hope."""
        now = asyncio.get_running_loop().time()
        if not self._count:
            self._first_at = now
        self._count += 1
        return self._count >= LEAST_REFUSALS and now - self._first_at >= REFUSED_SECONDS
