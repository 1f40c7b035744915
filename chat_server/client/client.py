"""The client as its users see it."""

import asyncio
import inspect
from collections.abc import Callable
from ssl import SSLContext
from types import TracebackType
from typing import TypeVar
from urllib.parse import urlsplit, urlunsplit

from msgspec import Struct
from websockets.exceptions import InvalidURI
from websockets.uri import parse_uri

from ..protocol import messages
from .connection import MAX_EXPIRIES
from .credentials import DEADLINE_SECONDS, Credentials, TokenSource
from .ending import Backoff
from .errors import CommandFailed, ConnectionLost, NotConnected
from .events import Page, Position, Published
from .flow import Flow
from .link import Link, LinkOptions, LinkState
from .publication import Outbox, Publication
from .registry import Registry
from .subscription import Subscription
from .wire import Done, Encoding, Wire

A = TypeVar("A", bound=Struct)


def connect(
    url: str,
    *,
    token: TokenSource,
    encoding: Encoding = "json",
    on_state: Callable[[LinkState, str], None] | None = None,
    max_held: int = 1_000,
    start_wait: float = 0.0,
    open_timeout: float = 10.0,
    token_timeout: float = DEADLINE_SECONDS,
    backoff: Backoff | None = None,
    ssl: SSLContext | None = None,
) -> "Client":
    """Return a client for the server at `url`, to be entered with `async with`.

    Entering it connects. From then on it reconnects by itself, and its subscriptions go on where
    they stood, until it is left or the server does not want it back.

        async with connect("http://127.0.0.1:8000", token=token) as chat:
            async with chat.subscribe("room:lobby", last=10) as room:
                async for event in room:
                    print(event)

    Args:
        url: the server's http(s):// or ws(s):// address, with or without /ws.
        token: a JWT, or a function (plain or async) that returns a fresh one: for each connection,
            and before the token of a connection expires. A plain one is called in a thread.
        encoding: `json` or `msgpack`; what is published and received is the same in both.
        on_state: a plain function, called with each new state and the reason for it. What it raises
            is logged.
        max_held: events held at most for consumers that are slower than the server; `Flow` says
            what happens then.
        start_wait: seconds for which entering it goes on trying while the server cannot be
            reached; `math.inf` for ever.
        open_timeout: seconds that an attempt to connect may take.
        token_timeout: seconds that the function may take to return a token.
        backoff: decides how long to wait between attempts.
        ssl: for wss://, if the system's certificates do not do.

    Raises:
        TypeError: `on_state` is an async function.
        ValueError: `url` is no such address.
    """
    if any(map(inspect.iscoroutinefunction, (on_state, type(on_state).__call__))):
        raise TypeError("on_state: must be a plain function; nobody would await an async one")
    wire = Wire(encoding)
    flow = Flow(max_held)
    options = LinkOptions(
        url=websocket_url(url),
        start_wait=start_wait,
        open_timeout=open_timeout,
        ssl=ssl,
        on_state=on_state,
    )
    link = Link(options, Credentials(token, token_timeout), backoff or Backoff(), wire, flow)
    return Client(link, wire, flow)


class Client:
    """A connection to a chat server that outlives its sockets; got from `connect`."""

    def __init__(self, link: Link, wire: Wire, flow: Flow) -> None:
        self._link = link
        self._wire = wire
        self._flow = flow
        self._subscriptions = Registry(link, wire, flow)
        self._outbox = Outbox(link, wire, self._subscriptions)

    async def __aenter__(self) -> "Client":
        """Connect.

        Raises:
            ConnectFailed: the server could not be reached (within `start_wait`), or is no chat
                server.
            TokenRejected: it does not accept the token.
            Disconnected: it does not want this client.
        """
        await self._link.start(self._subscriptions)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the connection, whatever ended the block."""
        await self.close()

    async def close(self) -> None:
        """Close the connection for good; subscriptions end, commands fail. May be repeated."""
        await self._link.stop()

    @property
    def online(self) -> bool:
        """Whether there is a connection at the moment."""
        return self._link.online

    async def wait_online(self) -> messages.Welcome:
        """Wait until there is a connection, and return what the server said when it was made.

        Raises:
            ClientError: there will be none any more.
        """
        return (await self._link.wait()).welcome

    async def publish(
        self, topic: str, data: object, *, key: str | None = None, wait: bool = False
    ) -> Published:
        """Append a message to `topic`, and return its place there once it is stored.

        Args:
            topic: to publish to.
            data: any value that JSON can express.
            key: 1 to 64 characters that make a repetition harmless: of publications to a topic by
                one user with one key, only the first within the server's window is stored.
            wait: wait for a connection instead of raising `NotConnected`; with a `key` also publish
                again when the connection breaks before the answer came.

        Raises:
            CommandFailed: the server refused, or cannot store it now; `definite` tells whether it
                is certain that nothing was stored.
            NotConnected: there is no connection, and nothing was sent.
            ConnectionLost: the connection broke before the answer came. The message may or may not
                be stored; only with a `key` can it be published again safely.
            OutcomeUnknown: an earlier attempt with this `key` may have been stored, it is too long
                ago for the server to recognize a repetition, and history does not tell.
            TypeError, ValueError: `data` holds what has no form in JSON; the message names the
                place.
        """
        publication = self.publication(topic, data, key)
        expiries = 0
        while True:
            try:
                return await publication.attempt(wait=wait)
            except NotConnected:
                if not wait:
                    raise
            except ConnectionLost:
                if not wait or key is None:
                    raise
            except CommandFailed as error:
                expiries += 1
                if not error.expired or expiries > MAX_EXPIRIES:
                    raise

    def publication(self, topic: str, data: object, key: str | None) -> Publication:
        """Return what `publish` sends, for those who want to see each attempt.

        Raises:
            TypeError, ValueError: as of `publish`.
        """
        return self._outbox.publication(topic, self._wire.data(data), key)

    async def learn_position(self, topic: str, on_refusal: Callable[[CommandFailed], None]) -> None:
        """Ask where a topic stands, so that a publication can be looked for in its history.

        Args:
            topic: to ask about.
            on_refusal: called with each refusal that is waited for.
        """
        await self._outbox.learn_position(topic, on_refusal)

    async def signal(self, topic: str, data: object) -> None:
        """Tell the topic's present subscribers something that nobody stores.

        Raises:
            CommandFailed: the server refused.
            NotConnected: there is no connection, and nothing was sent.
            ConnectionLost: the connection broke before the answer came.
        """
        await self._command(messages.Signal(topic=topic, data=self._wire.data(data)), Done)

    async def history(
        self,
        topic: str,
        *,
        before: int | None = None,
        after: int | None = None,
        limit: int = messages.DEFAULT_HISTORY,
    ) -> Page:
        """Return stored messages: the newest, those before a seq, or those after one.

        Args:
            topic: to read.
            before: only messages in front of this seq, the newest of them.
            after: only messages behind this seq, the oldest of them.
            limit: messages at most, 1 to 300.

        Raises:
            CommandFailed: the server refused, or cannot read them now.
            NotConnected: there is no connection at the moment.
            ConnectionLost: the connection broke before the answer came.
        """
        command = messages.History(topic=topic, before=before, after=after, limit=limit)
        return await self._command(command, Page)

    async def ping(self) -> float:
        """Return the seconds that a message to the server and its answer take.

        Raises:
            NotConnected: there is no connection at the moment.
            ConnectionLost: the connection broke before the answer came.
        """
        loop = asyncio.get_running_loop()
        began = loop.time()
        await self._command(messages.Ping(), Done)
        return loop.time() - began

    def subscribe(
        self, topic: str, *, last: int | None = None, since: Position | None = None
    ) -> Subscription:
        """Return a subscription to `topic`, to be entered with `async with` and iterated.

        Without `last` and `since` it begins with the next event. Entering it raises `CommandFailed`
        if the server refuses, `NotConnected` or `ConnectionLost` if there is no connection.

        Args:
            topic: to receive.
            last: begin with so many stored events, 1 to 300.
            since: begin behind this position, taken from `Subscription.position` earlier.

        Raises:
            ValueError: both are given.
        """
        if last is not None and since is not None:
            raise ValueError("last, since: only one of them may be given")
        return Subscription(self._subscriptions, self._flow, topic, since=since, last=last)

    async def _command(self, command: messages.Command, kind: type[A]) -> A:
        return await self._link.connection().command(command, kind)


def websocket_url(url: str) -> str:
    """Return the address of the WebSocket of the server at `url`.

    Raises:
        ValueError: `url` is not an http(s):// or ws(s):// address.
    """
    try:
        parts = urlsplit(url)
        scheme = {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}.get(parts.scheme)
        if scheme is None or not parts.hostname or parts.port == 0:
            raise ValueError("it has no such scheme, or no host or port")
        parse_uri(f"{scheme}://{parts.netloc}")
    except (ValueError, InvalidURI):  # of a port that is no number, a bracket without its pair, …
        shown = url.rpartition("@")[2]
        message = f"not an http://, https://, ws:// or wss:// address: {shown}"
        raise ValueError(message) from None
    path = parts.path.rstrip("/")
    if not path.endswith("/ws"):
        path += "/ws"
    return urlunsplit((scheme, parts.netloc, path, parts.query, ""))
