"""Asks all workers a question, and awaits the replies until a deadline.

Questions go by the broker's pub/sub to all workers, replies to the asking worker. Pub/sub may lose
either; the caller then names the worker as missing.
"""

import asyncio
import logging
import secrets
from asyncio import Future, Task
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from contextlib import suppress
from typing import Any, Final

import msgspec
from msgspec import Raw, Struct

from ..events import Event
from ..protocol.errors import RateLimited, Unavailable
from ..realtime.ports import Broker

logger = logging.getLogger(__name__)

ALL: Final = "!operators"
"""The channel of questions; clients cannot name such a topic."""

SECONDS: Final = 2.0
"""Seconds that replies are awaited. A healthy worker answers within milliseconds."""

MAX_ASKING: Final = 32
"""Questions under way from one worker."""

MAX_ANSWERING: Final = 256
"""Questions that one worker answers at a time; further questions get no reply."""

Answer = Callable[[str, Raw], Awaitable[Any]]
"""Answers a question, given the kind and the fields; None sends no reply."""


class _Line(Struct, omit_defaults=True):
    """A question or a reply.

    Args:
        id: of the question.
        node: the asking or replying worker.
        kind: of the question; empty for a reply.
        body: of the question or the reply.
    """

    id: str
    node: str
    kind: str = ""
    body: Raw = Raw(b"null")


_decode = msgspec.json.Decoder(_Line).decode


class Exchange:
    """This worker's end of the exchange; a `realtime.ports.Listener`.

    Args:
        broker: carries questions and replies.
        node: this worker's name.
        answer: answers questions.
        on_restored: called when messages may have been missed.
    """

    def __init__(
        self, broker: Broker, node: str, answer: Answer, on_restored: Callable[[], None]
    ) -> None:
        self._broker = broker
        self._node = node
        self._answer = answer
        self._on_restored = on_restored
        self._own = f"{ALL}:{node}"
        self._asking: dict[str, tuple[set[str], dict[str, Raw], Future[None]]] = {}
        self._tasks: set[Task[None]] = set()

    async def start(self) -> None:
        """Subscribe to questions and replies; an unavailable broker subscribes once it is back."""
        for topic in (ALL, self._own):
            with suppress(Unavailable):  # The subscription is remembered.
                await self._broker.subscribe(topic)

    async def stop(self) -> None:
        """Unsubscribe, and cancel the answers under way."""
        for topic in (ALL, self._own):
            self._broker.unsubscribe(topic)
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def ask(self, kind: str, body: object, nodes: Collection[str]) -> dict[str, Raw]:
        """Return the replies by worker.

        Args:
            kind: of the question.
            body: of the question.
            nodes: the workers to wait for; other replies that come in time are returned too.

        Raises:
            Unavailable: the question cannot be sent.
            RateLimited: too many questions are under way.
        """
        if len(self._asking) >= MAX_ASKING:
            what = "too many questions of operators are under way"
            raise RateLimited.by("questions", what, retry_in_ms=1_000)
        id = secrets.token_hex(8)
        done: Future[None] = asyncio.get_running_loop().create_future()
        replies: dict[str, Raw] = {}
        self._asking[id] = (set(nodes), replies, done)
        line = _Line(id, self._node, kind, Raw(msgspec.json.encode(body)))
        try:
            await self._broker.signal(ALL, msgspec.json.encode(line))
            with suppress(TimeoutError):
                async with asyncio.timeout(SECONDS):
                    await done
        finally:
            del self._asking[id]
        return replies

    # Listener ------------------------------------------------------------------------------

    def on_events(self, events: Sequence[Event]) -> None:
        """Take questions and replies."""
        for event in events:
            if event.topic not in (ALL, self._own):
                continue
            try:
                line = _decode(event.payload)
            except msgspec.MsgspecError:
                continue  # Written by a foreign client of Redis.
            if event.topic == ALL:
                self._begin_to_answer(line)
            else:
                self._take_reply(line)

    def on_lost(self, topics: Iterable[str] | None = None) -> None:
        """Do nothing: `on_restored` has missed orders read once the store is back."""

    def on_restored(self, topics: Iterable[str] | None = None) -> None:
        """Report that messages may have been missed."""
        if topics is None or ALL in topics:
            self._on_restored()

    def _take_reply(self, line: _Line) -> None:
        found = self._asking.get(line.id)
        if found is not None:
            missing, replies, done = found
            # The body points into the broker's buffer.
            replies[line.node] = line.body.copy()
            missing.discard(line.node)
            if not missing and not done.done():
                done.set_result(None)

    def _begin_to_answer(self, line: _Line) -> None:
        if len(self._tasks) < MAX_ANSWERING:
            task = asyncio.get_running_loop().create_task(self._reply(line), name="operators")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _reply(self, line: _Line) -> None:
        try:
            answer = await self._answer(line.kind, line.body)
            if answer is None:
                return
            reply = _Line(line.id, self._node, body=Raw(msgspec.json.encode(answer)))
            await self._broker.signal(f"{ALL}:{line.node}", msgspec.json.encode(reply))
        except Unavailable:
            pass  # The asking worker gets the same error from the broker.
        except Exception:
            logger.exception("a question of an operator could not be answered")
