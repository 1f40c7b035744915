"""The public calls of the client."""

import asyncio
import inspect
from collections.abc import Callable, Iterable
from contextlib import AbstractAsyncContextManager
from ssl import SSLContext
from types import TracebackType

from ..protocol import commands, messages
from ..protocol.searching import DEFAULT_HITS
from .batches import Batches, NewMessage, Outcome
from .codec import ClientCodec, Done, Encoding
from .credentials import TOKEN_SECONDS, Credentials, TokenSource
from .ending import Backoff
from .errors import CommandFailed
from .events import Page, Position, Published
from .flow import Flow
from .pace import Pace
from .publication import Publication, PublicationLog
from .reconnector import ClientState, ConnectOptions, Reconnector
from .search import Hits, find
from .signals import typing
from .stream import Stream, Streams
from .subscription import Beginning, Subscription
from .subscriptions import Subscriptions
from .url import websocket_url
from .verbs import Verbs

KEPT_MESSAGES = 300
"""Messages that a subscription holds with their changes, by default."""


def connect(
    url: str,
    *,
    token: TokenSource,
    encoding: Encoding = "json",
    on_state: Callable[[ClientState, str], None] | None = None,
    max_held: int = 1_000,
    start_wait: float = 0.0,
    open_timeout: float = 10.0,
    token_timeout: float = TOKEN_SECONDS,
    backoff: Backoff | None = None,
    ssl: SSLContext | None = None,
) -> "Client":
    """Return a client for the server at `url`, to be entered with `async with`.

    Entering the client connects. From then on the client reconnects automatically and resumes its
    subscriptions, until the client is closed or the server rejects the client for good.

        async with connect("http://127.0.0.1:8000", token=token) as chat:
            async with chat.subscribe("room:lobby", last=10) as room:
                async for event in room:
                    print(event)

    Args:
        url: the server's http(s):// or ws(s):// address, with or without /ws.
        token: a JWT, or a function (plain or async) that returns a fresh JWT. The client calls the
            function for each connection and before a token expires, and a plain function in a
            thread.
        encoding: `json` or `msgpack`; the data published and received is the same in both.
        on_state: a plain function, called with each new state and the reason for the change; its
            exceptions are logged.
        max_held: events held at most for slow consumers; see `Flow`.
        start_wait: seconds for which entering the client retries while the server cannot be
            reached; `math.inf` for ever.
        open_timeout: seconds that an attempt to connect may take.
        token_timeout: seconds that the token function may take.
        backoff: computes the waits between attempts.
        ssl: the TLS context for wss://; None trusts the system's certificates.

    Raises:
        TypeError: `on_state` is an async function.
        ValueError: `url` has another form.
    """
    if any(map(inspect.iscoroutinefunction, (on_state, type(on_state).__call__))):
        raise TypeError("on_state: must be a plain function; nobody would await an async one")
    codec = ClientCodec(encoding)
    flow = Flow(max_held)
    options = ConnectOptions(
        url=websocket_url(url),
        start_wait=start_wait,
        open_timeout=open_timeout,
        ssl=ssl,
        on_state=on_state,
    )
    credentials = Credentials(token, token_timeout)
    reconnector = Reconnector(options, credentials, backoff or Backoff(), codec, flow)
    return Client(reconnector, codec, flow)


class Client(Verbs):
    """A lasting connection to a chat server, over any number of sockets; made by `connect`."""

    def __init__(self, reconnector: Reconnector, codec: ClientCodec, flow: Flow) -> None:
        streams = Streams()
        subscriptions = Subscriptions(reconnector, codec, flow, streams.on_signal)
        log = PublicationLog(reconnector, codec, subscriptions)
        super().__init__(reconnector, codec, log)
        self.pace = Pace(self.wait_online)
        """Limits the rate of streams, of `publish_many` and of `publish_all`."""
        self._batches = Batches(reconnector, codec, log, self.pace)
        self._flow = flow
        self._streams = streams
        self._subscriptions = subscriptions
        self._log = log

    async def __aenter__(self) -> "Client":
        """Connect.

        Raises:
            ConnectFailed: the server could not be reached within `start_wait`, or is not a chat
                server.
            TokenRejected: the server does not accept the token.
            Disconnected: the server rejects this client for good.
        """
        await self._reconnector.start(self._subscriptions)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the connection, with or without an exception."""
        await self.close()

    async def close(self) -> None:
        """Close the client for good: subscriptions end, commands fail. May be repeated."""
        await self._reconnector.stop()

    @property
    def online(self) -> bool:
        """True if the client is connected at the moment."""
        return self._reconnector.online

    async def wait_online(self) -> messages.Welcome:
        """Wait until the client is connected, and return the server's welcome.

        Raises:
            ClientError: the client has ended.
        """
        return (await self._reconnector.wait()).welcome

    async def publish(
        self, topic: str, data: object, *, key: str | None = None, wait: bool = False
    ) -> Published:
        """Append a message to `topic`, and return its place there once the message is stored.

        Args:
            topic: the topic of the message.
            data: any value with a JSON form.
            key: an idempotency key of 1 to 64 characters. Of one user's publications to a topic
                with one key, the server stores only the first within its window.
            wait: wait for a connection instead of raising `NotConnected`; with a `key`, also
                publish again if the connection breaks before the answer.

        Raises:
            CommandFailed: the server refused, or cannot store the message now; with `definite`
                nothing was stored for certain.
            NotConnected: there is no connection, and nothing was sent.
            ConnectionLost: the connection broke before the answer. The message may be stored;
                publishing again is safe only with a `key`.
            OutcomeUnknown: an earlier attempt with this `key` may have been stored, the server has
                forgotten the key meanwhile, and history does not tell.
            TypeError, ValueError: a part of `data` has no JSON form; the message names the place.
        """
        return await self.publication(topic, data, key).deliver(wait=wait)

    async def publish_many(
        self,
        messages: Iterable[NewMessage],
        *,
        on_refusal: Callable[[CommandFailed], None] | None = None,
        timeout: float | None = None,
    ) -> list[Outcome]:
        """Publish messages in batches by HTTP, and return the outcome of each, in order.

        The server stores each message once, even if its batch is resent, and messages to one topic
        in their order. A message that fails for good does not affect other messages. No message
        overtakes another, unless the store fails and returns within one batch.

        Args:
            messages: messages to any topics; the client holds all of them in memory.
            on_refusal: called with each refusal before messages are resent; its exceptions are
                logged.
            timeout: seconds after which unstored messages are given up; None waits for ever.

        Returns:
            For each message its place. In its stead there may be a `CommandFailed` after a final
            refusal, `OutcomeUnknown`, `TimedOut`, or the error that ended the client.

        Raises:
            TypeError, ValueError: some `data` has no JSON form; nothing was sent.
        """
        return await self._batches.publish(messages, on_refusal, timeout)

    @property
    def takes_batches(self) -> bool:
        """True if `publish_many` uses HTTP; False for a minute after batches have failed."""
        return self._batches.by_http

    def publication(self, topic: str, data: object, key: str | None) -> Publication:
        """Return the publication of `publish`, for callers that make each attempt themselves.

        Raises:
            TypeError, ValueError: as of `publish`.
        """
        return self._log.publication(topic, self._codec.data(data), key)

    async def learn_position(self, topic: str, on_refusal: Callable[[CommandFailed], None]) -> None:
        """Ask for a topic's position, from which history can later be searched for a publication.

        Args:
            topic: the topic.
            on_refusal: called with each refusal before the question is repeated.
        """
        await self._log.learn_position(topic, on_refusal)

    async def signal(self, topic: str, data: object) -> None:
        """Send `data` to the topic's present subscribers, without storing it.

        Raises:
            CommandFailed: the server refused.
            NotConnected: there is no connection, and nothing was sent.
            ConnectionLost: the connection broke before the answer came.
        """
        await self._command(commands.Signal(topic=topic, data=self._codec.data(data)), Done)

    def typing(self, topic: str) -> AbstractAsyncContextManager[None]:
        """Show in a topic that the user types, until the block is left.

            async with chat.typing("room:lobby"):
                text = await input()

        The client repeats the signal `{"typing": true}` every three seconds. Receivers show the
        signal for six seconds, or until the user's next message.

        Raises:
            CommandFailed: the server refused, on entering.
        """
        return typing(self.signal, topic)

    async def cancel(self, topic: str, seq: int) -> None:
        """Ask the writer of the streamed message `seq` to end it, by `{"cancel": seq}`.

        Raises:
            CommandFailed, NotConnected, ConnectionLost: as of `signal`.
        """
        await self.signal(topic, {"cancel": seq})

    def stream(self, topic: str, data: object = "") -> Stream:
        """Return a streamed message, to be entered with `async with`.

            async with chat.stream("room:lobby", {"text": ""}) as message:
                async for token in model:
                    await message.write(token)

        Args:
            topic: the topic of the message.
            data: the initial data: a text, or a map with a text in `text`.

        Raises:
            TypeError, ValueError: `data` has another form.
        """
        return Stream(self._log, self._streams, self.pace, topic, data, self._codec.data(data))

    async def history(
        self,
        topic: str,
        *,
        before: int | None = None,
        after: int | None = None,
        limit: int = commands.DEFAULT_HISTORY,
    ) -> Page:
        """Return stored messages: the newest, or those next to a seq.

        Args:
            topic: the topic to read.
            before: only the newest messages in front of this seq.
            after: only the oldest messages behind this seq.
            limit: messages at most, 1 to 300.

        Raises:
            CommandFailed: the server refused, or cannot read the messages now.
            NotConnected: there is no connection at the moment.
            ConnectionLost: the connection broke before the answer came.
        """
        command = commands.History(topic=topic, before=before, after=after, limit=limit)
        return await self._command(command, Page)

    async def search(
        self,
        words: str,
        *,
        topic: str | None = None,
        user: str | None = None,
        before: int | None = None,
        limit: int = DEFAULT_HITS,
    ) -> Hits:
        """Return archived messages with all of some words, the newest first.

        Args:
            words: the words; the last word may be a prefix.
            topic: only messages of this topic; None searches all topics where the token grants
                `history`.
            user: only messages of this user.
            before: only older messages; the `before` of the previous answer.
            limit: messages at most, 1 to 100.

        Raises:
            CommandFailed: the server refused, or cannot search now.
            NotConnected: the exchange failed.
            BadServer: the address does not have this API.
        """
        return await find(
            self._reconnector.ask, q=words, topic=topic, user=user, before=before, limit=limit
        )

    async def ping(self) -> float:
        """Return the round-trip time to the server in seconds.

        Raises:
            NotConnected: there is no connection at the moment.
            ConnectionLost: the connection broke before the answer came.
        """
        loop = asyncio.get_running_loop()
        began = loop.time()
        await self._command(commands.Ping(), Done)
        return loop.time() - began

    def subscribe(
        self,
        topic: str,
        *,
        last: int | None = None,
        since: Position | None = None,
        strict: bool = False,
        presence: bool = False,
        keep: int = KEPT_MESSAGES,
    ) -> Subscription:
        """Return a subscription to `topic`, to be entered with `async with` and iterated.

        Without `last` and `since` the subscription begins with the next event. Entering it raises
        `CommandFailed` if the server refuses, `NotConnected` or `ConnectionLost` if there is no
        connection.

        Args:
            topic: the topic to receive.
            last: messages to begin with, with their changes applied, 1 to 300.
            since: begin behind this position, an earlier `Subscription.position`.
            strict: raise `Unrecoverable` instead of yielding a `Gap` when the subscription cannot
                continue behind `since` or, on another connection, behind the last event received.
            presence: also yield users' arrivals and departures, as `Join`, `Leave` and `Presence`.
            keep: messages that `Subscription.messages` holds at most.

        Raises:
            ValueError: `last` and `since` are both given.
        """
        if last is not None and since is not None:
            raise ValueError("last, since: only one of them may be given")
        beginning = Beginning(since, last, strict, presence)
        return Subscription(self._subscriptions, self._flow, topic, beginning, keep=keep)
