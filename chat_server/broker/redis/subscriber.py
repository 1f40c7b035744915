"""The subscriber connection of a worker, and its subscriptions."""

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
from ..common import GuardedListener, busy, fail, failed, rejected, unavailable
from .connection import CONNECTION_ERRORS, RedisConnection
from .pipeline import pack, redirection
from .refusals import Moved, StoreRefuses, refusal_of

log = logging.getLogger(__name__)

PING_SECONDS = 3.0
"""Seconds of silence before a PING. A connection that a firewall has dropped stays silent. These
seconds plus the deadline of the answer bound the time for which a worker is deaf unnoticed."""

CHANNELS_PER_COMMAND = 500
"""Channels per command when all subscriptions are restored: enough to be quick, but so few that
Redis serves other clients in between."""

_PING = b"pong"
_KINDS = {kind.encode(): kind for kind in Kind}
_VERSION = b"1"


def signal_message(payload: bytes, kind: Kind) -> bytes:
    """Return the channel message of a signal; publish.lua makes the channel message of an event."""
    return b"1  0 %b %b" % (kind.encode(), payload)


class _Command:
    """A command that waits for its confirmations, one per channel."""

    __slots__ = ("answer", "channels", "due", "future", "refusal")

    def __init__(self, answer: bytes, channels: Sequence[bytes]) -> None:
        self.answer = answer
        self.channels = channels
        self.due = len(channels) or 1
        self.refusal: Exception | None = None
        self.future: Future[None] = asyncio.get_running_loop().create_future()

    def confirm(self) -> bool:
        """Count one confirmation; return True for the last."""
        self.due -= 1
        if self.due == 0 and not self.future.done():
            self.future.set_result(None)
        return self.due == 0


class PubSubConnection:
    """One connection in subscriber mode; the broker reopens it after a loss.

    Redis answers in the order of the commands. So each confirmation belongs to the oldest
    unconfirmed command, even if a topic is subscribed and unsubscribed quickly.

    Args:
        connect: makes a connection.
        channel: returns a topic's channel.
        timeout_seconds: longest silence of Redis while an answer is due.
        limit: maximum number of unconfirmed commands; further subscriptions fail.
        sharded: True for the pub/sub of clusters, where channels belong to slots.
        on_moved: called with a topic whose channel the server does not serve any more; the
            subscriber forgets the topic.
        throttle: shared limit of log lines.

    Attributes:
        publish: the command that sends to these channels.
        probe_channel: the channel on which `expect_probe` waits.
    """

    def __init__(
        self,
        connect: Callable[[], RedisConnection],
        channel: Callable[[str], str],
        *,
        timeout_seconds: float,
        limit: int,
        sharded: bool = False,
        on_moved: Callable[[str], None] = lambda topic: None,
        throttle: LogThrottle | None = None,
    ) -> None:
        self.publish = "SPUBLISH" if sharded else "PUBLISH"
        self.probe_channel = ""
        kind = b"s" if sharded else b""
        self._subscribe, self._unsubscribe = kind + b"subscribe", kind + b"unsubscribe"
        self._message = kind + b"message"
        # All channels of one command must be in one slot.
        self._together = 1 if sharded else CHANNELS_PER_COMMAND
        self._on_moved = on_moved
        self._connect = connect
        self._channel = channel
        self._timeout = timeout_seconds
        self._limit = limit
        self._listener: GuardedListener
        # Topics to subscribe to, by channel, also without a connection.
        self._topics: dict[bytes, str] = {}
        # Futures of the next probe.
        self._probes: set[Future[None]] = set()
        self._connection: RedisConnection | None = None
        self._reader: asyncio.Task[None] | None = None
        # Commands in the order of their answers.
        self._unconfirmed: deque[_Command] = deque()
        # Packed commands of this turn of the loop.
        self._unsent: list[bytes] = []
        # The timeout of the read under way, and the loop time at which the next answer is due.
        self._deadline: asyncio.Timeout | None = None
        self._answer_due = 0.0
        self._throttle = throttle or LogThrottle()
        # True once `open` has returned; later refusals are logged.
        self._opened = False

    async def open(self, listener: GuardedListener) -> None:
        """Connect and restore every subscription; `close` must follow in any case.

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
            # The reader resolves every command, even when it fails; the reader's error says more.
            await asyncio.wait([command.future])
        if self._reader.done():
            self._reader.result()
        for command in commands:
            if command.refusal is not None:
                raise command.refusal
            with suppress(Moved):  # `on_moved` was called
                command.future.result()
        self._opened = True

    async def wait_closed(
        self, within: float | None = None, unless: asyncio.Event | None = None
    ) -> None:
        """Wait for the end of the connection, for `within` seconds, or for the event `unless`.

        Raises:
            CONNECTION_ERRORS: the connection ended.
        """
        if self._reader is None:
            raise ConnectionError("there is no connection")
        reader, waiting = self._reader, [self._reader]
        if unless is not None:
            waiting.append(asyncio.create_task(_happen(unless), name="redis probe"))
        try:
            await asyncio.wait(waiting, timeout=within, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waiting[1:]:
                task.cancel()
        if reader.done():
            reader.result()

    async def close(self) -> None:
        """Close the connection; the topics stay remembered."""
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
        """Drop the connection; `wait_closed` raises soon."""
        if self._connection is not None:
            self._connection.abort()

    def ping(self) -> "Future[None]":
        """Send a PING; resolved when the answer comes."""
        return self._command(_PING, ()).future if self._is_open else failed(unavailable())

    def set_probe_channel(self, channel: str) -> None:
        """Keep a subscription to the probe's channel; see `expect_probe`."""
        self._topics.pop(self.probe_channel.encode(), None)
        self.probe_channel = channel
        # No topic is called "".
        self._topics[channel.encode()] = ""
        self.abort()

    def expect_probe(self) -> "Future[None]":
        """Return a future of the next message to the probe's channel."""
        if not self._is_open:
            return failed(unavailable())
        heard: Future[None] = asyncio.get_running_loop().create_future()
        self._probes.add(heard)
        heard.add_done_callback(self._probes.discard)
        return heard

    def subscribe(self, topic: str) -> "Future[None]":
        """Remember `topic`, and subscribe if there is a connection."""
        channel = self._channel(topic).encode()
        if not self._is_open:
            self._topics[channel] = topic
            return failed(unavailable())
        if len(self._unconfirmed) >= self._limit:
            return failed(busy())
        self._topics[channel] = topic
        return self._command(self._subscribe, (channel,)).future

    def remembers(self, channel: str) -> bool:
        """Return whether the topic of a channel is, or will be, subscribed."""
        return channel.encode() in self._topics

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
        if not self._unsent:
            loop.call_soon(self._flush)
        self._unsent.append(pack("PING" if answer == _PING else answer.upper(), *channels))
        return command

    def _flush(self) -> None:
        data = b"".join(self._unsent)
        self._unsent.clear()
        if self._connection is not None and data:
            with suppress(*CONNECTION_ERRORS):  # the reader meets the same error
                self._connection.write(data)

    async def _read(self, connection: RedisConnection) -> None:
        try:
            while True:
                self._on_replies(await self._receive(connection))
        finally:
            self._unsent.clear()
            while self._unconfirmed:
                fail(self._unconfirmed.popleft().future, unavailable())
            for heard in self._probes:
                fail(heard, unavailable())

    async def _receive(self, connection: RedisConnection) -> list[Any]:
        """Return the next replies; send a PING after a silence."""
        loop = asyncio.get_running_loop()
        self._answer_due = loop.time() + self._timeout
        while True:
            due = self._answer_due if self._unconfirmed else loop.time() + PING_SECONDS
            try:
                async with asyncio.timeout_at(due) as self._deadline:
                    replies = await connection.read()
            except builtins.TimeoutError:
                if not self._unconfirmed:
                    self.ping()
                elif loop.time() >= self._answer_due:
                    raise TimeoutError(f"no answer within {self._timeout:g} s") from None
            else:
                return replies
            finally:
                self._deadline = None

    def _on_replies(self, replies: list[Any]) -> None:
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
                self._on_probe()
            return None  # sent before the topic was unsubscribed
        try:
            version, epoch, seq, kind, content = payload.split(b" ", 4)
            if version != _VERSION:
                raise ValueError("another version")
            return Event(topic, epoch.decode(), int(seq), _KINDS[kind], content)
        except (ValueError, KeyError):
            if self._throttle.due("payload"):
                log.warning("dropped a message on %s that no publisher of ours wrote", channel)
            return None

    def _on_probe(self) -> None:
        for heard in self._probes:
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
        # Without any subscription Redis sends PONG as a plain reply.
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
            # With MISCONF Redis refuses PING like a write: a sign of life nevertheless.
            command.confirm()
            return
        fail(command.future, rejected() if refusal is None else StoreRefuses(refusal))
        command.refusal = reply
        if command.answer == _PING or not isinstance(reply, ResponseError):
            raise reply
        # While the connection opens, `open` raises the reply instead.
        if self._opened and self._throttle.due("subscription"):
            log.error("Redis refuses a subscription: %s", reply)

    def _is_eviction(self, reply: Any) -> bool:
        """Return True if the server ends a subscription because the channel's slot has moved."""
        if self._unsubscribe != b"sunsubscribe" or not isinstance(reply, list):
            return False
        if reply[0] != self._unsubscribe:
            return False
        command = self._unconfirmed[0] if self._unconfirmed else None
        # If both cross on the wire, one reply is left over, and the connection is made anew.
        asked = command is not None and command.answer == self._unsubscribe
        return not (asked and command is not None and reply[1] in command.channels)

    def _evict(self, channel: bytes) -> None:
        if channel == self.probe_channel.encode():
            raise ConnectionError("the probe's slot has moved")
        topic = self._topics.pop(channel, None)
        if topic is not None:
            self._on_moved(topic)


async def _happen(event: asyncio.Event) -> None:
    await event.wait()
