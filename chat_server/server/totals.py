"""The numbers of all workers of a server: each tells its supervisor, which adds them up.

Both ends of a worker's socket speak lines of JSON. The worker tells its samples once a second, so
that little is lost with one that is killed, and asks for the totals when it is scraped; the
supervisor then asks all others for theirs.
"""

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress

import msgspec

from ..metrics.samples import Samples, single, sum_of, without_gauges

logger = logging.getLogger(__name__)

TELL_SECONDS = 1.0
"""Seconds between two unasked reports of a worker."""

ANSWER_SECONDS = 1.0
"""Seconds for which the answers of the other workers are awaited: one may be blocked."""

LINE_BYTES = 2**20
"""The longest line; samples have some 10 KB."""


class Line(msgspec.Struct, omit_defaults=True):
    """What one end tells the other.

    Args:
        samples: a worker's; or the totals, in the answer to `ask`.
        ask: the worker wants the totals; or the supervisor wants the worker's samples.
    """

    samples: Samples | None = None
    ask: bool = False


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Line).decode


class Report:
    """A worker's end: tells its samples, and asks for the totals.

    Args:
        end: the socket to the supervisor; closed at the end.
        own: returns the worker's samples.
    """

    def __init__(self, end: socket.socket, own: Callable[[], Awaitable[Samples]]) -> None:
        self._socket = end
        self._own = own
        self._waiting: asyncio.Future[Samples] | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to tell."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name="metrics")

    async def stop(self) -> None:
        """Tell for the last time, and close."""
        if self._task is not None:
            with suppress(OSError):
                await self._tell()
            self._task.cancel()
            await asyncio.wait([self._task])
        self._socket.close()

    async def totals(self) -> Samples:
        """Return the samples of all workers, or of this one if the supervisor does not answer."""
        if self._writer is None:
            return await self._own()
        if self._waiting is None or self._waiting.done():
            self._waiting = asyncio.get_running_loop().create_future()
            await self._tell(ask=True)
        with suppress(TimeoutError):
            # Several scrapes of one moment share the answer.
            async with asyncio.timeout(2 * ANSWER_SECONDS):
                return await asyncio.shield(self._waiting)
        logger.warning("the supervisor does not tell the numbers of the other workers")
        return await self._own()

    async def _tell(self, *, ask: bool = False) -> None:
        if self._writer is not None and not self._writer.is_closing():
            self._writer.write(_encode(Line(await self._own(), ask)) + b"\n")

    async def _run(self) -> None:
        reader, self._writer = await asyncio.open_unix_connection(
            sock=self._socket, limit=LINE_BYTES
        )
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._tell_again())
                while text := await reader.readline():
                    line = _decode(text)
                    if line.ask:
                        await self._tell()
                    elif self._waiting is not None and not self._waiting.done():
                        self._waiting.set_result(line.samples or {})
                raise asyncio.CancelledError  # The supervisor is gone.
        except OSError:
            pass
        finally:
            writer, self._writer = self._writer, None
            writer.close()

    async def _tell_again(self) -> None:
        while True:
            await asyncio.sleep(TELL_SECONDS)
            await self._tell()


class _Source:
    """A worker, as the supervisor hears it."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self.writer = writer
        self.samples: Samples = {}
        self.heard: asyncio.Future[None] | None = None

    def ask(self) -> "asyncio.Future[None]":
        """Ask for the samples, and return what is done once they have come."""
        if self.heard is None or self.heard.done():
            self.heard = asyncio.get_running_loop().create_future()
            self.writer.write(_encode(Line(ask=True)) + b"\n")
        return self.heard

    def tell(self, samples: Samples) -> None:
        self.samples = samples
        if self.heard is not None and not self.heard.done():
            self.heard.set_result(None)


class Totals:
    """The supervisor's end: adds up what its workers tell, and keeps what ended ones have counted.

    What a worker that was killed has counted since its last report is lost: a second at most.
    """

    def __init__(self) -> None:
        self._sources: set[_Source] = set()
        self._ended: Samples = {}
        self._ends = 0
        self._tasks: set[asyncio.Task[None]] = set()

    def open(self) -> socket.socket:
        """Return a worker's end of a socket at which it is heard until it ends."""
        ours, theirs = socket.socketpair()
        self._spawn(self._hear(ours))
        return theirs

    def samples(self, sources: Iterable[_Source]) -> Samples:
        """Return the sum of what workers have told, and of what ended ones have counted."""
        parts = [each.samples for each in sources]
        return sum_of([self._ended, {"chat_workers_ended": single(self._ends)}, *parts])

    async def stop(self) -> None:
        """Hear nobody any more."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _spawn(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _hear(self, end: socket.socket) -> None:
        reader, writer = await asyncio.open_unix_connection(sock=end, limit=LINE_BYTES)
        source = _Source(writer)
        self._sources.add(source)
        try:
            while text := await reader.readline():
                line = _decode(text)
                source.tell(line.samples or {})
                if line.ask:
                    self._spawn(self._answer(source))
        except (OSError, msgspec.DecodeError, ValueError) as error:
            logger.warning("a worker's numbers cannot be read: %s", error)
        finally:
            self._sources.discard(source)
            source.tell(source.samples)
            # Without metrics a worker says nothing.
            self._ends += bool(source.samples)
            self._ended = sum_of([self._ended, without_gauges(source.samples)])
            writer.close()

    async def _answer(self, asker: _Source) -> None:
        others = [each.ask() for each in self._sources if each is not asker]
        if others:
            await asyncio.wait(others, timeout=ANSWER_SECONDS)
        if not asker.writer.is_closing():
            asker.writer.write(_encode(Line(self.samples(self._sources))) + b"\n")
