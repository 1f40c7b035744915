"""Gathers appends to one message, and stores the waiting ones as one event.

For each message one append is under way at a time. Appends that come meanwhile leave together with
the next one. Other changes of the message wait in the same queue, so that each message is changed
in the order of the calls (docs/design/messages.md).
"""

import asyncio
from asyncio import Future, TimerHandle
from collections import deque
from functools import partial
from typing import Final

from msgspec.structs import replace

from ..changes import STREAMING, Append, Change, ChangeResult, Outcome, Piece, Split, split_of
from ..protocol.errors import ChatError, Unavailable
from ..rates import Charge
from ..realtime.ports import EventLog
from ..settings import Settings

MAX_GATHERED: Final = 256
"""Maximum number of appends that are stored as one event."""

MAX_SPLITS: Final = 5
"""Attempts to append while other users edit the message between two attempts."""

BUSY_RETRY_MS: Final = 250
"""`retry_in_ms` while too many appends wait."""


class _Waiting:
    """A change without an answer; an append has one piece."""

    __slots__ = ("draft", "future")

    def __init__(self, draft: Change, future: "Future[ChangeResult]") -> None:
        self.draft = draft
        self.future = future


class _Line:
    """The queue of changes of one message since its first append, in the order of the calls.

    Attributes:
        waiting: changes not sent yet.
        sent: changes under way together.
        timer: runs while more appends are gathered.
        alone: the number of appends that must be sent one by one.
    """

    __slots__ = ("alone", "sent", "timer", "waiting")

    def __init__(self) -> None:
        self.waiting: deque[_Waiting] = deque()
        self.sent: list[_Waiting] = []
        self.timer: TimerHandle | None = None
        self.alone = 0


class Appends:
    """Sends appends to the log, gathered by message.

    Args:
        event_log: the log.
        settings: the namespaces' times to gather, and the maximum number of waiting changes.
    """

    def __init__(self, event_log: EventLog, settings: Settings) -> None:
        self._event_log = event_log
        self._settings = settings
        self._limit = settings.broker.max_pending
        self._count = 0
        # Queues by topic and target.
        self._lines: dict[tuple[str, int], _Line] = {}

    def append(self, draft: Append) -> "Future[ChangeResult]":
        """Add one piece to a message; resolved once the piece's text is stored.

        The future fails with `Unavailable`. Then every waiting change of the message fails as well,
        so that no change is stored after a missing one.
        """
        key = (draft.topic, draft.target)
        return self._stand(key, self._lines.get(key) or _Line(), draft)

    def change(self, change: Change) -> "Future[ChangeResult]":
        """Change a message in another way, after the waiting appends to the message."""
        key = (change.topic, change.target)
        line = self._lines.get(key)
        return self._event_log.change(change) if line is None else self._stand(key, line, change)

    def _stand(self, key: tuple[str, int], line: _Line, change: Change) -> "Future[ChangeResult]":
        future: Future[ChangeResult] = asyncio.get_running_loop().create_future()
        if self._count >= self._limit:
            future.set_exception(
                Unavailable("too many changes are waiting", retry_in_ms=BUSY_RETRY_MS)
            )
            return future
        self._lines[key] = line
        self._count += 1
        line.waiting.append(_Waiting(change, future))
        self._gather(key, line)
        return future

    def stop(self) -> None:
        """Fail every unsent change."""
        for key, line in list(self._lines.items()):
            if line.timer is not None:
                line.timer.cancel()
                line.timer = None
            self._fail(list(line.waiting), Unavailable("the server stops", retry_in_ms=1_000))
            line.waiting.clear()
            if not line.sent:
                del self._lines[key]

    def _gather(self, key: tuple[str, int], line: _Line) -> None:
        """Send the waiting changes: now, or after the window together with later appends."""
        if line.sent or not line.waiting:
            return
        window = self._settings.namespace(key[0]).append_window_ms / 1_000
        grows = _grows(line.waiting[0].draft) and _grows(line.waiting[-1].draft)
        if window and grows and not line.alone and len(line.waiting) < MAX_GATHERED:
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
        first = line.waiting.popleft()
        line.sent = [first]
        draft = first.draft
        if isinstance(draft, Append):
            most = 1 if line.alone else MAX_GATHERED
            line.alone = max(0, line.alone - 1)
            pieces = list(draft.pieces)
            while line.waiting and len(pieces) < most:
                next = line.waiting[0].draft
                if not isinstance(next, Append) or not _together(draft, pieces, next):
                    break
                pieces += next.pieces
                draft = replace(next, charges=_sum(draft.charges, next.charges))
                line.sent.append(line.waiting.popleft())
            if len(pieces) > 1:
                draft = replace(draft, pieces=tuple(pieces))
        self._try(key, line, draft, MAX_SPLITS)

    def _try(self, key: tuple[str, int], line: _Line, draft: Change, attempts: int) -> None:
        future = self._event_log.change(draft)
        future.add_done_callback(partial(self._answered, key, line, draft, attempts))

    def _answered(
        self,
        key: tuple[str, int],
        line: _Line,
        draft: Change,
        attempts: int,
        answer: "Future[ChangeResult]",
    ) -> None:
        error = None if answer.cancelled() else answer.exception()
        if answer.cancelled() or error is not None:
            if not isinstance(error, ChatError):
                error = Unavailable("the change was given up", retry_in_ms=BUSY_RETRY_MS)
            line.sent, sent = [], line.sent
            self._fail([*sent, *line.waiting], error)
            line.waiting.clear()
            self._next(key, line)
            return
        result = answer.result()
        if result.outcome is Outcome.SPLIT and isinstance(draft, Append) and attempts:
            where = split_of(result.data, result.version)
            if where is None and not any(piece.text for piece in draft.pieces):
                # No text is added to a message without text: the append only ends the message.
                where = Split(result.version, result.data, b"", 0)
            if where is not None:
                # The first attempt has counted against the rates.
                again = replace(draft, split=where, charges=())
                self._try(key, line, again, attempts - 1)
                return
        sent, line.sent = line.sent, []
        if result.outcome is not Outcome.STORED and len(sent) > 1:
            # Appends that are refused together may pass alone: the first may fit, one may only end
            # a message without text, and one may repeat a stored append.
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

    def _resolve(self, sent: list[_Waiting], result: ChangeResult) -> None:
        self._count -= len(sent)
        for number, waiting in enumerate(sent):
            if not waiting.future.done():
                whole = len(sent) == 1
                each = result if whole else replace(result, places=result.places[number:][:1])
                waiting.future.set_result(each)

    def _fail(self, waiting: list[_Waiting], error: BaseException) -> None:
        self._count -= len(waiting)
        for each in waiting:
            if not each.future.done():
                each.future.set_exception(error)
                # The caller's connection may be gone; then nobody else reads the error.
                each.future.exception()


def _grows(change: Change) -> bool:
    """Return whether more text may follow a change, so that waiting makes sense."""
    return isinstance(change, Append) and change.state == STREAMING


def _sum(first: tuple[Charge, ...], second: tuple[Charge, ...]) -> tuple[Charge, ...]:
    """Return the charges of two appends of one user to one message as one."""
    return tuple(
        replace(one, cost=one.cost + other.cost) for one, other in zip(first, second, strict=True)
    )


def _together(last: Append, pieces: list[Piece], next: Append) -> bool:
    """Return whether an append can be one event with the appends before.

    The append must have the same user, the same rights, and the same epoch of its message. A
    repetition waits: the store looks for the keys of all pieces before storing one.
    """
    key = next.pieces[0].key
    return (
        last.state == STREAMING
        and last.tail == next.tail
        and last.author == next.author
        and last.epoch == next.epoch
        and len(last.charges) == len(next.charges)
        and (key is None or all(piece.key != key for piece in pieces))
    )
