"""The connection on which a worker hears of events, and the subscriptions that it holds."""

import asyncio
import builtins
import logging
from asyncio import Future
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import islice
from typing import Any

from redis.exceptions import ConnectionError, InvalidResponse, ResponseError, TimeoutError

from ...events import Event, Kind
from ...logs import LogThrottle
from ..base import GuardedListener, busy, fail, failed, refused, unavailable
from .connection import CONNECTION_ERRORS, RedisConnection
from .pipeline import pack, redirection
from .refusals import Closed, Moved, refusal_of

log = logging.getLogger(__name__)

PING_SECONDS = 3.0
"""Seconds of silence before a PING. A connection that a firewall has forgotten stays silent; these
seconds plus the deadline of the answer bound how long a worker is deaf without knowing."""

CHANNELS_PER_COMMAND = 500
"""Channels named in one command when all subscriptions are made again: large enough to be quick,
small enough that Redis serves others in between."""

_PING = b"pong"
_KINDS = {kind.encode(): kind for kind in Kind}
_VERSION = b"1"


def signal_message(payload: bytes) -> bytes:
    """Return what is sent to a channel for a signal; for stored events publish.lua does this."""
    return b"1  0 signal " + payload


class _Command:
    """A command whose confirmations are awaited, one per channel."""

    __slots__ = ("answer", "channels", "due", "future", "refusal")

    def __init__(self, answer: bytes, channels: Sequence[bytes]) -> None:
        self.answer = answer
        self.channels = channels
        self.due = len(channels) or 1
        self.refusal: Exception | None = None
        self.future: Future[None] = asyncio.get_running_loop().create_future()

    def confirm(self) -> bool:
        """Count one confirmation, and say whether it was the last."""
        self.due -= 1
        if self.due == 0 and not self.future.done():
            self.future.set_result(None)
        return self.due == 0


class Subscriber:
    """One connection in subscriber mode; its owner opens it again when it is lost.

    Redis answers in the order it is asked, so each confirmation belongs to the oldest command that
    lacks one, however fast a topic is subscribed and unsubscribed.

    Args:
        connect: makes a connection.
        channel: names a topic's channel.
        timeout_seconds: how long Redis may stay silent while an answer is due.
        limit: commands that may be unconfirmed; further subscriptions fail.
        sharded: whether to use the pub/sub of clusters, whose channels belong to slots.
        on_evicted: called with a topic whose channel the server serves no longer; it is forgotten.
        throttle: keeps the log short, together with others.

    Attributes:
        publish: the command that sends to its channels.
        canary: the channel of `hear`.
    """

    def __init__(
        self,
        connect: Callable[[], RedisConnection],
        channel: Callable[[str], str],
        *,
        timeout_seconds: float,
        limit: int,
        sharded: bool = False,
        on_evicted: Callable[[str], None] = lambda topic: None,
        throttle: LogThrottle | None = None,
    ) -> None:
        self.publish = "SPUBLISH" if sharded else "PUBLISH"
        self.canary = ""
        kind = b"s" if sharded else b""
        self._subscribe, self._unsubscribe = kind + b"subscribe", kind + b"unsubscribe"
        self._message = kind + b"message"
        # Channels of one command have to be of one slot.
        self._together = 1 if sharded else CHANNELS_PER_COMMAND
        self._on_evicted = on_evicted
        self._connect = connect
        self._channel = channel
        self._timeout = timeout_seconds
        self._limit = limit
        self._listener: GuardedListener
        self._topics: dict[bytes, str] = {}
        self._hearing: set[Future[None]] = set()
        self._connection: RedisConnection | None = None
        self._reader: asyncio.Task[None] | None = None
        self._unconfirmed: deque[_Command] = deque()
        self._outbox: list[bytes] = []
        self._deadline: asyncio.Timeout | None = None
        self._answer_due = 0.0
        self._throttle = throttle or LogThrottle()
        self._opened = False

    async def open(self, listener: GuardedListener) -> None:
        """Connect and make every remembered subscription; `close` must follow in any case.

        Raises:
            CONNECTION_ERRORS: there is no connection, or a subscription is refused.
        """
        self._listener = listener
        self._opened = False
        connection = self._connection = self._connect()
        await connection.open(self._timeout)
        self._reader = asyncio.create_task(self._read(connection), name="redis subscriber")
        channels = iter(list(self._topics))
        commands: list[_Command] = []
        while chunk := list(islice(channels, self._together)):
            commands.append(self._command(self._subscribe, chunk))
        commands.append(self._command(_PING, ()))
        for command in commands:
            # The reader settles all of them, also when it fails; its error says more than theirs.
            await asyncio.wait([command.future])
        if self._reader.done():
            self._reader.result()
        for command in commands:
            if command.refusal is not None:
                raise command.refusal
            with suppress(Moved):  # Whoever was told of the eviction sees to it.
                command.future.result()
        self._opened = True

    async def lost(self, within: float | None = None, unless: asyncio.Event | None = None) -> None:
        """Wait for the end of the connection, `within` so many seconds, or for an event.

        Raises:
            CONNECTION_ERRORS: it ended, to say why.
        """
        if self._reader is None:
            raise ConnectionError("there is no connection")
        reader, waiting = self._reader, [self._reader]
        if unless is not None:
            waiting.append(asyncio.create_task(_happen(unless), name="redis canary"))
        try:
            await asyncio.wait(waiting, timeout=within, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waiting[1:]:
                task.cancel()
        if reader.done():
            reader.result()

    async def close(self) -> None:
        """End the connection; the topics stay remembered."""
        reader, self._reader = self._reader, None
        connection, self._connection = self._connection, None
        try:
            if reader is not None:
                reader.cancel()
                await asyncio.wait([reader])
        finally:
            if connection is not None:
                with suppress(*CONNECTION_ERRORS):
                    await connection.close()

    def abort(self) -> None:
        """Drop the connection; `lost` returns soon."""
        if self._connection is not None:
            self._connection.abort()

    def check(self) -> "Future[None]":
        """Find out now whether the connection works; resolved when it does."""
        return self._command(_PING, ()).future if self._is_open else failed(unavailable())

    def set_probe_channel(self, channel: str) -> None:
        """Subscribe to this channel, too, always; see `hear`."""
        self._topics.pop(self.canary.encode(), None)
        self.canary = channel
        # No topic is called "".
        self._topics[channel.encode()] = ""
        self.abort()

    def hear(self) -> "Future[None]":
        """Return a future of the next message to the canary's channel."""
        if not self._is_open:
            return failed(unavailable())
        heard: Future[None] = asyncio.get_running_loop().create_future()
        self._hearing.add(heard)
        heard.add_done_callback(self._hearing.discard)
        return heard

    def subscribe(self, topic: str) -> "Future[None]":
        """Remember `topic`, and subscribe to it if there is a connection."""
        channel = self._channel(topic).encode()
        if not self._is_open:
            self._topics[channel] = topic
            return failed(unavailable())
        if len(self._unconfirmed) >= self._limit:
            return failed(busy())
        self._topics[channel] = topic
        return self._command(self._subscribe, (channel,)).future

    def remembers(self, topic: str) -> bool:
        """Return whether `topic` is subscribed to, or will be when there is a connection."""
        return self._channel(topic).encode() in self._topics

    def unsubscribe(self, topic: str) -> None:
        """Forget `topic`."""
        channel = self._channel(topic).encode()
        if self._topics.pop(channel, None) is not None and self._is_open:
            self._command(self._unsubscribe, (channel,))

    @property
    def _is_open(self) -> bool:
        return self._reader is not None and not self._reader.done()

    def _command(self, answer: bytes, channels: Sequence[bytes]) -> _Command:
        loop = asyncio.get_running_loop()
        command = _Command(answer, channels)
        if not self._unconfirmed:
            self._answer_due = loop.time() + self._timeout
            if self._deadline is not None and not self._deadline.expired():
                self._deadline.reschedule(self._answer_due)
        self._unconfirmed.append(command)
        if not self._outbox:
            loop.call_soon(self._flush)
        self._outbox.append(pack("PING" if answer == _PING else answer.upper(), *channels))
        return command

    def _flush(self) -> None:
        data = b"".join(self._outbox)
        self._outbox.clear()
        if self._connection is not None and data:
            with suppress(*CONNECTION_ERRORS):  # The reader meets the same error.
                self._connection.write(data)

    async def _read(self, connection: RedisConnection) -> None:
        try:
            while True:
                self._take(await self._receive(connection))
        finally:
            self._outbox.clear()
            while self._unconfirmed:
                fail(self._unconfirmed.popleft().future, unavailable())
            for heard in self._hearing:
                fail(heard, unavailable())

    async def _receive(self, connection: RedisConnection) -> list[Any]:
        """Return the next replies; ask for a sign of life when none come by themselves."""
        loop = asyncio.get_running_loop()
        self._answer_due = loop.time() + self._timeout
        while True:
            due = self._answer_due if self._unconfirmed else loop.time() + PING_SECONDS
            try:
                async with asyncio.timeout_at(due) as self._deadline:
                    replies = await connection.read()
            except builtins.TimeoutError:
                if not self._unconfirmed:
                    self.check()
                elif loop.time() >= self._answer_due:
                    raise TimeoutError(f"no answer within {self._timeout:g} s") from None
            else:
                return replies
            finally:
                self._deadline = None

    def _take(self, replies: list[Any]) -> None:
        events: list[Event] = []
        for reply in replies:
            if type(reply) is list and reply[0] == self._message:
                event = self._parse(reply[1], reply[2])
                if event is not None:
                    events.append(event)
            else:
                self._confirm(reply)
        if events:
            self._listener.events(events)

    def _parse(self, channel: bytes, payload: bytes) -> Event | None:
        topic = self._topics.get(channel)
        if not topic:
            if topic is not None:
                self._heard()
            return None  # It was on its way when the topic was unsubscribed.
        try:
            version, epoch, seq, kind, content = payload.split(b" ", 4)
            if version != _VERSION:
                raise ValueError("another version")
            return Event(topic, epoch.decode(), int(seq), _KINDS[kind], content)
        except (ValueError, KeyError):
            if self._throttle.due("payload"):
                log.warning("dropped a message on %s that no publisher of ours wrote", channel)
            return None

    def _heard(self) -> None:
        for heard in self._hearing:
            if not heard.done():
                heard.set_result(None)

    def _confirm(self, reply: Any) -> None:
        if self._is_eviction(reply):
            self._evict(reply[1])
            return
        if not self._unconfirmed:
            raise InvalidResponse("Redis answered what it was not asked")
        command = self._unconfirmed[0]
        if isinstance(reply, Exception):
            self._refuse(self._unconfirmed.popleft(), reply)
            return
        # Without any subscription a PONG comes bare.
        answer = reply[0] if isinstance(reply, list) else _PING
        if answer != command.answer:
            raise InvalidResponse("Redis answered out of order")
        if command.confirm():
            self._unconfirmed.popleft()

    def _refuse(self, command: _Command, reply: Exception) -> None:
        if (moved := redirection(reply)) is not None:
            fail(command.future, moved)
            if command.answer == self._subscribe:
                self._evict(command.channels[0])
            return
        refusal = refusal_of(reply)
        if command.answer == _PING and refusal is not None and refusal.status == "readonly":
            # With MISCONF, Redis refuses PING as if it were a write: a sign of life all the same.
            command.confirm()
            return
        fail(command.future, refused() if refusal is None else Closed(refusal))
        command.refusal = reply
        if command.answer == _PING or not isinstance(reply, ResponseError):
            raise reply
        # Whoever opens the connection says it otherwise.
        if self._opened and self._throttle.due("subscription"):
            log.error("Redis refuses a subscription: %s", reply)

    def _is_eviction(self, reply: Any) -> bool:
        """Whether the server ends a subscription by itself: the channel's slot has moved."""
        if self._unsubscribe != b"sunsubscribe" or not isinstance(reply, list):
            return False
        if reply[0] != self._unsubscribe:
            return False
        command = self._unconfirmed[0] if self._unconfirmed else None
        # If both cross on the wire, a reply is left over at the end, and the connection made anew.
        asked = command is not None and command.answer == self._unsubscribe
        return not (asked and command is not None and reply[1] in command.channels)

    def _evict(self, channel: bytes) -> None:
        if channel == self.canary.encode():
            raise ConnectionError("the canary's slot has moved")
        topic = self._topics.pop(channel, None)
        if topic is not None:
            self._on_evicted(topic)


async def _happen(event: asyncio.Event) -> None:
    await event.wait()
