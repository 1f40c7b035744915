"""The numbers and the health of all workers of a server, collected by the supervisor.

Both ends of a worker's socket send lines of JSON. A worker sends its samples once a second, so a
killed worker loses little. For a scrape a worker asks the supervisor for the totals, and the
supervisor asks all other workers for their samples. The supervisor asks for health only at the
request of a worker.
"""

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress

import msgspec

from ..metrics.samples import Samples, single, sum_of, without_gauges
from ..settings import Settings

logger = logging.getLogger(__name__)

TELL_SECONDS = 1.0
"""Seconds between two unrequested reports of a worker."""

ANSWER_SECONDS = 1.0
"""Seconds to wait for the answers of the other workers: a worker may be blocked."""

LINE_BYTES = 2**20
"""Bytes of the longest line; samples have some 10 KB."""


class Line(msgspec.Struct, omit_defaults=True):
    """A line from one end to the other.

    Args:
        samples: the samples of a worker; in the answer to `ask`, the totals.
        ask: from a worker, a request for the totals; from the supervisor, for the worker's samples.
        health: the health of a worker; in the answer to `ask_health`, the health of all other
            workers.
        silent: the numbers of workers that did not answer.
        ask_health: as `ask`, for the health.
        sent_away: from a stopping worker, the number of its clients.
    """

    samples: Samples | None = None
    ask: bool = False
    health: list[msgspec.Raw] | None = None
    silent: list[int] = []
    ask_health: bool = False
    sent_away: int = 0


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Line).decode


def health_seconds(settings: Settings) -> float:
    """Return the seconds for a worker's health report, which needs an answer of the store."""
    return settings.redis.timeout_seconds + ANSWER_SECONDS


class Report:
    """A worker's end: sends its samples, and asks for the totals.

    Args:
        end: the socket to the supervisor; closed at the end.
        own: returns the worker's samples; None for a worker without samples.
        own_health: returns the worker's health, as JSON.
    """

    def __init__(
        self,
        end: socket.socket,
        own: Callable[[], Awaitable[Samples]] | None,
        own_health: Callable[[], Awaitable[bytes]],
    ) -> None:
        self._socket = end
        self._own = own
        self._own_health = own_health
        self._waiting_health: asyncio.Future[Line] | None = None
        self._waiting: asyncio.Future[Samples] | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to send reports."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name="metrics")

    async def stop(self, sent_away: int) -> None:
        """Send the last report with the number of disconnected clients, and close."""
        if self._task is not None:
            with suppress(OSError):
                await self._tell()
                self._write(Line(sent_away=sent_away))
            self._task.cancel()
            await asyncio.wait([self._task])
        self._socket.close()

    async def totals(self) -> Samples:
        """Return the samples of all workers, or of this one if the supervisor does not answer."""
        assert self._own is not None  # noqa: S101  (called only if there are samples)
        if self._writer is None:
            return await self._own()
        if self._waiting is None or self._waiting.done():
            self._waiting = asyncio.get_running_loop().create_future()
            await self._tell(ask=True)
        with suppress(TimeoutError):
            # Simultaneous scrapes share one answer.
            async with asyncio.timeout(2 * ANSWER_SECONDS):
                return await asyncio.shield(self._waiting)
        logger.warning("the supervisor does not tell the numbers of the other workers")
        return await self._own()

    async def others_health(self, seconds: float) -> tuple[list[msgspec.Raw], list[int]]:
        """Return the health of the other workers, and the numbers of silent workers.

        Args:
            seconds: seconds that the supervisor may take; without an answer both lists are empty.
        """
        if self._writer is None or self._writer.is_closing():
            return [], []
        if self._waiting_health is None or self._waiting_health.done():
            self._waiting_health = asyncio.get_running_loop().create_future()
            self._writer.write(_encode(Line(ask_health=True)) + b"\n")
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                line = await asyncio.shield(self._waiting_health)
                return line.health or [], line.silent
        logger.warning("the supervisor does not tell the health of the other workers")
        return [], []

    async def _tell(self, *, ask: bool = False) -> None:
        if self._own is not None:
            self._write(Line(await self._own(), ask))

    async def _tell_health(self) -> None:
        self._write(Line(health=[msgspec.Raw(await self._own_health())]))

    def _write(self, line: Line) -> None:
        if self._writer is not None and not self._writer.is_closing():
            self._writer.write(_encode(line) + b"\n")

    async def _run(self) -> None:
        reader, self._writer = await asyncio.open_unix_connection(
            sock=self._socket, limit=LINE_BYTES
        )
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._tell_again())
                while text := await reader.readline():
                    line = _decode(text)
                    if line.ask_health:
                        # Asking the store may take time; the numbers must not wait for it.
                        group.create_task(self._tell_health())
                    elif line.health is not None:
                        if self._waiting_health is not None and not self._waiting_health.done():
                            self._waiting_health.set_result(line)
                    elif line.ask:
                        await self._tell()
                    elif self._waiting is not None and not self._waiting.done():
                        self._waiting.set_result(line.samples or {})
                raise asyncio.CancelledError  # The supervisor has closed its end.
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
    """A worker, from the supervisor's side."""

    def __init__(self, number: int, writer: asyncio.StreamWriter) -> None:
        self.number = number
        self.writer = writer
        self.health: asyncio.Future[msgspec.Raw] | None = None
        self.samples: Samples = {}
        self.heard: asyncio.Future[None] | None = None

    def ask(self) -> "asyncio.Future[None]":
        """Ask for the samples; return a future that is done after their arrival."""
        if self.heard is None or self.heard.done():
            self.heard = asyncio.get_running_loop().create_future()
            self.writer.write(_encode(Line(ask=True)) + b"\n")
        return self.heard

    def ask_health(self) -> "asyncio.Future[msgspec.Raw]":
        """Ask for the health, and return the future answer."""
        if self.health is None or self.health.done():
            self.health = asyncio.get_running_loop().create_future()
            self.writer.write(_encode(Line(ask_health=True)) + b"\n")
        return self.health

    def tell(self, samples: Samples) -> None:
        self.samples = samples
        if self.heard is not None and not self.heard.done():
            self.heard.set_result(None)


class Totals:
    """The supervisor's end: sums the workers' samples, including the counts of ended workers.

    The counts of a killed worker since its last report are lost: one second at most.

    Args:
        health_seconds: seconds to wait for the answers about the workers' health.

    Attributes:
        sent_away: number of clients of the stopped workers.
    """

    def __init__(self, health_seconds: float = ANSWER_SECONDS) -> None:
        self._health_seconds = health_seconds
        self.sent_away = 0
        self._sources: set[_Source] = set()
        self._ended: Samples = {}
        self._ends = 0
        self._tasks: set[asyncio.Task[None]] = set()

    def open(self, number: int) -> socket.socket:
        """Return the worker's end of a new socket pair, and read the other end."""
        ours, theirs = socket.socketpair()
        self._spawn(self._hear(number, ours))
        return theirs

    def samples(self, sources: Iterable[_Source]) -> Samples:
        """Return the sum of the samples of workers and of the counts of ended workers."""
        parts = [each.samples for each in sources]
        return sum_of([self._ended, {"chat_workers_ended": single(self._ends)}, *parts])

    async def stop(self) -> None:
        """Stop reading from all workers."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _spawn(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _hear(self, number: int, end: socket.socket) -> None:
        reader, writer = await asyncio.open_unix_connection(sock=end, limit=LINE_BYTES)
        source = _Source(number, writer)
        self._sources.add(source)
        try:
            while text := await reader.readline():
                line = _decode(text)
                if line.ask_health:
                    self._spawn(self._answer_health(source))
                elif line.health:
                    if source.health is not None and not source.health.done():
                        source.health.set_result(line.health[0])
                elif line.samples is not None:
                    source.tell(line.samples)
                self.sent_away += line.sent_away
                if line.ask:
                    self._spawn(self._answer(source))
        except (OSError, msgspec.DecodeError, ValueError) as error:
            logger.warning("a worker's numbers cannot be read: %s", error)
        finally:
            self._sources.discard(source)
            source.tell(source.samples)
            # A worker without metrics sends no samples.
            self._ends += bool(source.samples)
            self._ended = sum_of([self._ended, without_gauges(source.samples)])
            writer.close()

    async def _answer(self, asker: _Source) -> None:
        others = [each.ask() for each in self._sources if each is not asker]
        if others:
            await asyncio.wait(others, timeout=ANSWER_SECONDS)
        if not asker.writer.is_closing():
            asker.writer.write(_encode(Line(self.samples(self._sources))) + b"\n")

    async def _answer_health(self, asker: _Source) -> None:
        others = [each for each in self._sources if each is not asker]
        # Two workers may have the same number: a worker and its replacement.
        asked = [(each.number, each.ask_health()) for each in others]
        if asked:
            await asyncio.wait([answer for _, answer in asked], timeout=self._health_seconds)
        told = [answer.result() for _, answer in asked if answer.done()]
        silent = [number for number, answer in asked if not answer.done()]
        if not asker.writer.is_closing():
            asker.writer.write(_encode(Line(health=told, silent=silent)) + b"\n")
