"""Gathers appends to one message: those that wait for the store are stored as one event.

For each message one append is under way at a time, and what comes meanwhile leaves with the next
one. So the order of the calls is the order of the text (docs/design/messages.md).
"""

import asyncio
from asyncio import Future, TimerHandle
from collections import deque
from functools import partial
from typing import Final

import msgspec
from msgspec import Raw
from msgspec.structs import replace

from ..changes import STREAMING, Append, ChangeResult, Outcome, Split
from ..protocol.errors import ChatError, Unavailable
from ..realtime.ports import EventLog
from ..settings import Settings

MAX_GATHERED: Final = 256
"""Maximum number of appends that are stored as one event."""

MAX_SPLITS: Final = 5
"""Attempts to append while others edit the message each time in between."""

BUSY_RETRY_MS: Final = 250
"""`retry_in_ms` while too many appends wait."""


class _Waiting:
    """An append that has no answer yet; its draft has one piece."""

    __slots__ = ("draft", "future")

    def __init__(self, draft: Append, future: "Future[ChangeResult]") -> None:
        self.draft = draft
        self.future = future


class _Line:
    """The appends to one message by one author, in the order of the calls.

    Attributes:
        waiting: not sent yet.
        sent: under way together.
        timer: runs while more is gathered.
        idle: resolved once nothing waits, if somebody asked.
        alone: the number of appends that have to be sent one by one.
    """

    __slots__ = ("alone", "idle", "sent", "timer", "waiting")

    def __init__(self) -> None:
        self.waiting: deque[_Waiting] = deque()
        self.sent: list[_Waiting] = []
        self.timer: TimerHandle | None = None
        self.idle: Future[None] | None = None
        self.alone = 0


class Appends:
    """Sends appends to the log, gathered by message.

    Args:
        event_log: the log.
        settings: how long a namespace gathers, and how many appends may wait in all.
    """

    def __init__(self, event_log: EventLog, settings: Settings) -> None:
        self._event_log = event_log
        self._settings = settings
        self._limit = settings.broker.max_pending
        self._count = 0
        # By topic and target, and by sender within.
        self._lines: dict[tuple[str, int], _Line] = {}

    def append(self, draft: Append) -> "Future[ChangeResult]":
        """Add one piece to a message; resolved once its text is stored.

        The future fails with `Unavailable`. Then every append to the message that waits fails as
        well: none of them is stored behind a hole.
        """
        future: Future[ChangeResult] = asyncio.get_running_loop().create_future()
        if self._count >= self._limit:
            future.set_exception(
                Unavailable("too many appends are waiting", retry_in_ms=BUSY_RETRY_MS)
            )
            return future
        key = (draft.topic, draft.target)
        line = self._lines.get(key)
        if line is None:
            line = self._lines[key] = _Line()
        self._count += 1
        line.waiting.append(_Waiting(draft, future))
        self._gather(key, line)
        return future

    def under_way(self, topic: str, target: int) -> "Future[None] | None":
        """Return a future that is resolved once no append to a message waits; None if none does."""
        line = self._lines.get((topic, target))
        if line is None:
            return None
        if line.timer is not None:
            line.timer.cancel()
            line.timer = None
            self._send((topic, target), line)
        if line.idle is None:
            line.idle = asyncio.get_running_loop().create_future()
        return asyncio.shield(line.idle)

    def stop(self) -> None:
        """Fail every append that has not been sent."""
        for line in list(self._lines.values()):
            if line.timer is not None:
                line.timer.cancel()
            self._fail(list(line.waiting), Unavailable("the server stops", retry_in_ms=1_000))
            line.waiting.clear()

    def _gather(self, key: tuple[str, int], line: _Line) -> None:
        """Send what waits: now, or a little later with what comes until then."""
        if line.sent or not line.waiting:
            return
        window = self._settings.namespace(key[0]).append_window_ms / 1_000
        ends = line.waiting[-1].draft.state != STREAMING
        if window and not ends and len(line.waiting) < MAX_GATHERED:
            if line.timer is None:
                loop = asyncio.get_running_loop()
                line.timer = loop.call_later(window, self._send, key, line)
            return
        self._send(key, line)

    def _send(self, key: tuple[str, int], line: _Line) -> None:
        if line.timer is not None:
            line.timer.cancel()
            line.timer = None
        if line.sent or not line.waiting:
            return
        line.sent = [line.waiting.popleft()]
        most = 1 if line.alone else MAX_GATHERED
        while line.waiting and len(line.sent) < most:
            last, next = line.sent[-1].draft, line.waiting[0].draft
            if last.state != STREAMING or not _alike(last, next):
                break
            line.sent.append(line.waiting.popleft())
        line.alone = max(0, line.alone - 1)
        pieces = tuple(each.draft.pieces[0] for each in line.sent)
        self._try(key, line, replace(line.sent[-1].draft, pieces=pieces), MAX_SPLITS)

    def _try(self, key: tuple[str, int], line: _Line, draft: Append, attempts: int) -> None:
        future = self._event_log.change(draft)
        future.add_done_callback(partial(self._answered, key, line, draft, attempts))

    def _answered(
        self,
        key: tuple[str, int],
        line: _Line,
        draft: Append,
        attempts: int,
        answer: "Future[ChangeResult]",
    ) -> None:
        error = None if answer.cancelled() else answer.exception()
        if answer.cancelled() or error is not None:
            if not isinstance(error, ChatError):
                error = Unavailable("the append was given up", retry_in_ms=BUSY_RETRY_MS)
            line.sent, sent = [], line.sent
            self._fail([*sent, *line.waiting], error)
            line.waiting.clear()
            self._next(key, line)
            return
        result = answer.result()
        if result.outcome is Outcome.SPLIT and attempts:
            where = split_of(result.data, result.version)
            if where is not None:
                self._try(key, line, replace(draft, split=where), attempts - 1)
                return
        sent, line.sent = line.sent, []
        if result.outcome is Outcome.TOO_LARGE and len(sent) > 1:
            # The first of them may fit.
            line.waiting.extendleft(reversed(sent))
            line.alone = len(sent)
        else:
            self._resolve(sent, result)
        self._next(key, line)

    def _next(self, key: tuple[str, int], line: _Line) -> None:
        if line.waiting:
            self._gather(key, line)
            return
        self._lines.pop(key, None)
        if line.idle is not None:
            line.idle.set_result(None)

    def _resolve(self, sent: list[_Waiting], result: ChangeResult) -> None:
        self._count -= len(sent)
        for number, waiting in enumerate(sent):
            if not waiting.future.done():
                places = result.places[number : number + 1]
                waiting.future.set_result(replace(result, places=places))

    def _fail(self, waiting: list[_Waiting], error: BaseException) -> None:
        self._count -= len(waiting)
        for each in waiting:
            if not each.future.done():
                each.future.set_exception(error)
                # The connection of its caller may be gone.
                each.future.exception()


def _alike(one: Append, other: Append) -> bool:
    """Return whether two appends can be one event: the same user's, with the same rights."""
    return one.tail == other.tail and one.author == other.author


def split_of(data: bytes, version: int) -> Split | None:
    """Return a message's data split where its text ends, or None if it has no text.

    Args:
        data: JSON; the text is the whole of it, or its member `text`.
        version: the version of the message.
    """
    value = msgspec.json.decode(data)
    if isinstance(value, str):
        return Split(version, data[:-1], data[-1:], len(value))
    if not isinstance(value, dict) or not isinstance(text := value.get("text"), str):
        return None
    members = msgspec.json.decode(data, type=dict[str, Raw])
    body = bytes(members.pop("text"))
    others = msgspec.json.encode(members)[:-1]
    comma = b"," if members else b""
    return Split(version, others + comma + b'"text":' + body[:-1], body[-1:] + b"}", len(text))
