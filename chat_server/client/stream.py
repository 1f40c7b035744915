"""Writes a streamed message, for example the answer of a language model."""

import asyncio
import logging
import secrets
from types import TracebackType
from typing import Any, TypeVar

from msgspec import Raw, Struct

from ..protocol import commands
from .changes import Addition
from .data import check_data
from .delivery import Delivery
from .ending import retry_delay
from .errors import ClientError, CommandFailed
from .events import Published, Signal
from .folding import text_of
from .pace import Pace
from .publication import PublicationLog

MAX_WAITING = 16_384
"""Characters that may wait for sending; beyond this bound `write` waits."""

END_SECONDS = 10.0
"""Seconds that a block with an exception waits for the cancellation of its message."""

_OVER = frozenset({"gone", "not_found"})
"""Error codes after which no message exists that could be ended."""

P = TypeVar("P", bound=Struct)

logger = logging.getLogger("chat_server.client")


class Streams:
    """The streamed messages of one client; passes `cancel` signals to them."""

    def __init__(self) -> None:
        self._by_place: dict[tuple[str, float], Stream] = {}

    def add(self, stream: "Stream") -> None:
        """Let a stream receive signals."""
        self._by_place[stream.topic, stream.seq] = stream

    def discard(self, stream: "Stream") -> None:
        """Let a stream receive no further signals."""
        place = stream.topic, stream.seq
        # After a loss of the store the place may belong to another stream.
        if self._by_place.get(place) is stream:
            del self._by_place[place]

    def on_signal(self, signal: Signal) -> None:
        """Handle a signal of a subscribed topic."""
        seq = signal.data.get("cancel") if isinstance(signal.data, dict) else None
        # A seq may come as a double. True would be equal to 1.
        if isinstance(seq, int | float) and not isinstance(seq, bool):
            stream = self._by_place.get((signal.topic, seq))
            if stream is not None:
                stream.cancelled = True


class Stream:
    """A streamed message: an async context manager with `write`. Made by `Client.stream`.

    Entering the stream publishes the message. Text written during an append is sent with the next
    append, so a fast model stays within the server's rate limit. Leaving the block completes the
    message. An exception that leaves the block cancels the message.

    Appends survive lost connections: the server stores each append once, and in order. If the store
    has lost the message, the next append fails with `not_found`, and never reaches another message.

    Attributes:
        topic: the topic.
        text: the initial text and all stored text of this stream. Edits of other users do not
            change `text`; `Client.history` and `Subscription.messages` return the present text.
        cancelled: True if a user has requested the end of the message, by the signal `{"cancel":
            seq}` in a subscribed topic. The block should then end; the message ends as cancelled.
    """

    def __init__(
        self, log: PublicationLog, streams: Streams, pace: Pace, topic: str, data: Any, encoded: Raw
    ) -> None:
        text = text_of(data)
        if text is None:
            raise ValueError("data: must be a text, or a map with a text in `text`")
        self.topic = topic
        self.text = text
        self.cancelled = False
        self._log = log
        self._streams = streams
        self._pace = pace
        self._key = secrets.token_hex(12)
        self._opening = log.publication(topic, encoded, self._key, "streaming")
        self._place: Published | None = None
        self._epoch = ""
        self._appends = 0
        self._waiting: list[str] = []
        self._waiting_length = 0
        self._ends: commands.MessageState | None = None
        self._opened = asyncio.Event()  # set by the publication or its failure
        self._changed = asyncio.Event()  # set when text waits, or the message ends
        self._has_room = asyncio.Event()
        self._error: ClientError | None = None
        self._sender: asyncio.Task[None] | None = None

    @property
    def seq(self) -> int:
        """The message's seq."""
        return self._placed().seq

    @property
    def epoch(self) -> str:
        """The epoch of the message's seq."""
        self._placed()
        return self._epoch

    def _placed(self) -> Published:
        if self._place is None:
            raise RuntimeError("the message is not there yet: enter the stream with `async with`")
        return self._place

    async def __aenter__(self) -> "Stream":
        """Publish the message.

        Raises:
            CommandFailed: the server refused.
            OutcomeUnknown: the message may have been stored.
            ClientError: the client has ended.
        """
        if self._sender is not None:
            raise RuntimeError("a stream can be entered only once")
        self._sender = asyncio.create_task(self._run(), name="chat client stream")
        try:
            await self._opened.wait()
        except asyncio.CancelledError:
            await self._cancel()  # The message may be published by now.
            raise
        if self._error is not None:
            raise self._error
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Store the waiting text, and end the message.

        Raises:
            ClientError: a part of the message could not be stored.
        """
        if kind is not None:
            await self._cancel()
            return
        self._end("cancelled" if self.cancelled else "complete")
        try:
            await asyncio.wait([self._task()])
        except asyncio.CancelledError:
            await self._cancel()
            raise
        if self._error is not None:
            raise self._error

    async def write(self, text: str) -> None:
        """Add to the message's text; return at once unless too much text waits.

        Raises:
            CommandFailed: the server has refused an earlier append: the message would be too large,
                or is deleted.
            ClientError: the client has ended.
            TypeError, ValueError: `text` cannot be sent as text.
        """
        if not isinstance(text, str):
            raise TypeError(f"text: must be text, not {type(text).__name__}")
        check_data(text)
        self._placed()
        while self._error is None and self._ends is None and self._waiting_length >= MAX_WAITING:
            self._has_room.clear()
            await self._has_room.wait()
        if self._error is not None:
            raise self._error
        if self._ends is not None:
            raise RuntimeError("the message has ended")
        if text:
            self._waiting.append(text)
            self._waiting_length += len(text)
            self._changed.set()

    def _task(self) -> "asyncio.Task[None]":
        assert self._sender is not None  # noqa: S101 - a stream is entered before it is left
        return self._sender

    def _end(self, state: commands.MessageState) -> None:
        if self._ends is None:
            self._ends = state
        self._changed.set()
        self._has_room.set()

    async def _cancel(self) -> None:
        """End the message as cancelled, unless this takes too long."""
        self._end("cancelled")
        sender = self._task()
        try:
            await asyncio.wait([sender], timeout=END_SECONDS)
        finally:
            if not sender.done():
                sender.cancel()
                logger.warning("a message to %s was left unfinished", self.topic)

    # The task that sends -----------------------------------------------------------------------

    async def _run(self) -> None:
        """Publish the message, append the written text, and end the message."""
        try:
            self._place = place = await self._patiently(self._opening)
            self._epoch = place.epoch
            self._streams.add(self)
            self._opened.set()
            await self._append_all()
        except ClientError as error:
            self._error = error
            self._opened.set()
            self._has_room.set()
            await self._give_up(error)
        finally:
            if self._place is not None:
                self._streams.discard(self)

    async def _append_all(self) -> None:
        while True:
            await self._changed.wait()
            await self._pace.wait()
            self._changed.clear()
            text, self._waiting, self._waiting_length = "".join(self._waiting), [], 0
            self._has_room.set()
            state = self._ends or "streaming"
            if text or state != "streaming":
                await self._append(text, state)
            if state != "streaming":
                return

    async def _append(self, text: str, state: commands.MessageState) -> None:
        self._appends += 1
        command = commands.Append(
            topic=self.topic,
            seq=self.seq,
            text=text,
            state=state,
            epoch=self._epoch,
            key=f"{self._key}-{self._appends}",
        )
        changed = await self._patiently(Addition(self._log, command, self.text))
        self._epoch = changed.epoch  # The message may have a new epoch now.
        self.text += text

    async def _patiently(self, delivery: Delivery[Any]) -> Any:
        """Deliver, and retry after transient refusals."""
        refusals = 0
        while True:
            try:
                return await delivery.deliver(wait=True)
            except CommandFailed as error:
                if not error.transient:
                    raise
                await asyncio.sleep(retry_delay(error.retry_in_ms, refusals))
                refusals += 1

    async def _give_up(self, error: ClientError) -> None:
        """Try to end a message that will not be completed, so no reader waits for it."""
        if self._place is None or (isinstance(error, CommandFailed) and error.code in _OVER):
            return
        try:
            async with asyncio.timeout(END_SECONDS):
                await self._append("", "cancelled")
        except (ClientError, TimeoutError) as other:
            logger.warning("a message to %s was left unfinished: %s", self.topic, other)
