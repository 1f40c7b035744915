"""Sends commands to Redis in pipelines: commands queued during one form the next."""

import asyncio
import hashlib
import logging
import time
from asyncio import Future
from bisect import bisect_left
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib.resources import files
from itertools import islice
from operator import attrgetter
from typing import Any, Final, TypeVar

from hiredis import pack_command
from redis.exceptions import (
    AskError,
    ClusterDownError,
    ConnectionError,
    InvalidResponse,
    NoScriptError,
    TryAgainError,
)

from ...logs import LogThrottle
from ...metrics.families import BOUNDS
from ...metrics.numbers import StoreNumbers
from ...protocol.errors import RateLimited, Unavailable
from ..common import busy, fail, failed, rejected, unavailable
from .connection import CONNECTION_ERRORS, RedisConnection
from .refusals import CLUSTER, Moved, Refusal, StoreRefuses, refusal_of
from .urls import Address

log = logging.getLogger(__name__)

T = TypeVar("T")
Argument = str | bytes | int

BATCH_BYTES = 1_048_576
"""Approximate bytes of one pipeline. A slow network carries them in a moment, so the deadline tests
Redis and not the size of messages."""

SCRIPT_ATTEMPTS = 3
"""Attempts to send a pipeline while Redis has lost the scripts; a second loss means that another
client flushes the scripts."""

WRONG_SERVER = (ClusterDownError, ConnectionError)
"""Error replies about the server or our authentication, not about one command: MASTERDOWN, LOADING,
NOAUTH. Another connection may lead to a working server."""


def pack(*command: Argument) -> bytes:
    """Return a command in the encoding of Redis."""
    # hiredis declares a tuple of one item.
    packer: Any = pack_command
    packed: bytes = packer(command)
    return packed


def bulk(argument: bytes) -> bytes:
    """Return one argument of a command in the encoding of Redis."""
    return b"$%d\r\n%b\r\n" % (len(argument), argument)


def redirection(reply: Exception) -> Moved | None:
    """Return the redirection in an error reply of a cluster, or None for another error."""
    if isinstance(reply, AskError):
        return Moved(Address(*reply.node_addr) if reply.host else None)
    return Moved(None) if isinstance(reply, TryAgainError) else None


class Script:
    """A Lua script of scripts/, called by its digest.

    Args:
        names: names of the files, without `.lua`; several files form one script.

    Attributes:
        digest: SHA-1 of the text, for EVALSHA.
        load: the packed command that loads the script into a server.
    """

    def __init__(self, *names: str) -> None:
        folder = files(__package__).joinpath("scripts")
        text = b"\n".join(folder.joinpath(f"{name}.lua").read_bytes() for name in names)
        self.digest: Final = hashlib.sha1(text, usedforsecurity=False).hexdigest()
        self.load: Final = pack("SCRIPT", "LOAD", text)


class _Request:
    """A command and the future of its answer.

    Attributes:
        key: the first key of a script; the log takes the topic from it.
    """

    __slots__ = ("command", "decode", "future", "key", "scripted")

    def __init__(
        self, command: bytes, decode: Callable[[Any], Any], scripted: bool, key: str = ""
    ) -> None:
        self.command = command
        self.decode = decode
        self.scripted = scripted
        self.key = key
        self.future: Future[Any] = asyncio.get_running_loop().create_future()

    def succeed(self, reply: Any) -> Exception | None:
        """Resolve the future; return an error if another program wrote to the keys."""
        if self.future.done():
            return None
        try:
            self.future.set_result(self.decode(reply))
        except RateLimited as error:
            fail(self.future, error)
        except Exception as error:
            fail(self.future, rejected())
            return error
        return None


_command = attrgetter("command")


class Pipeline:
    """One connection with one pipeline at a time, so that commands run in the order given.

    The pipeline connects with its first command. When the connection fails, all waiting requests
    fail, and `on_trouble` is called. No command is sent twice, except for a command that Redis has
    not run because the script was lost.

    Args:
        connect: makes a connection.
        scripts: loaded into the server of every new connection.
        timeout_seconds: longest silence of Redis while an answer is due.
        limit: maximum number of waiting requests; further ones fail at once.
        batch_size: maximum number of commands sent together.
        on_trouble: called with every failure of the connection.
        on_refusal: called with every error reply that concerns the server as a whole.
        clustered: True if slots may move to other servers.
        throttle: shared limit of log lines.
        numbers: counters of the commands to Redis.
    """

    def __init__(
        self,
        connect: Callable[[], RedisConnection],
        scripts: Sequence[Script],
        *,
        timeout_seconds: float,
        limit: int,
        batch_size: int,
        on_trouble: Callable[[Exception], None],
        on_refusal: Callable[[Refusal, Exception], None] = lambda refusal, reply: None,
        clustered: bool = False,
        throttle: LogThrottle | None = None,
        numbers: StoreNumbers | None = None,
    ) -> None:
        self._connect = connect
        self._numbers = numbers or StoreNumbers()
        self._scripts = scripts
        self._timeout = timeout_seconds
        self._limit = limit
        self._batch_size = batch_size
        self._on_trouble = on_trouble
        self._on_refusal = on_refusal
        self._clustered = clustered
        self._connection: RedisConnection | None = None
        # True to reconnect before the next pipeline.
        self._outdated = False
        # Unsent requests, and the requests of the pipeline under way.
        self._queue: list[_Request] = []
        self._batch: list[_Request] = []
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._throttle = throttle or LogThrottle()

    def start(self) -> None:
        """Begin to send."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name="redis pipeline")

    async def stop(self) -> None:
        """Close the connection; waiting requests fail."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
        self._fail_all()

    def __len__(self) -> int:
        """Return the number of requests that wait for an answer."""
        return len(self._queue) + len(self._batch)

    def call(
        self,
        script: Script,
        keys: Sequence[str],
        arguments: Sequence[Argument],
        decode: Callable[[Any], T],
    ) -> "Future[T]":
        """Run a script; see `send`."""
        command = pack("EVALSHA", script.digest, len(keys), *keys, *arguments)
        return self.call_packed(command, keys[0], decode)

    def call_packed(self, command: bytes, key: str, decode: Callable[[Any], T]) -> "Future[T]":
        """Run a script whose packed call has `key` as its first key; see `send`."""
        return self._submit(_Request(command, decode, True, key))

    def send(self, command: bytes, decode: Callable[[Any], T]) -> "Future[T]":
        """Send a packed command after all earlier commands.

        Returns:
            A future of the decoded reply; fails with `Unavailable`. A cancelled future does not
            stop the command.
        """
        return self._submit(_Request(command, decode, scripted=False))

    def renew(self) -> None:
        """Reconnect before the next pipeline: the address may resolve to another server."""
        self._outdated = True

    def _submit(self, request: _Request) -> "Future[Any]":
        if self._task is None:
            return failed(unavailable())
        if len(self._queue) + len(self._batch) >= self._limit:
            return failed(busy())
        self._queue.append(request)
        # The task wakes in the next turn of the loop: all requests of this turn go together.
        self._wake.set()
        return request.future

    async def _run(self) -> None:
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                while self._queue:
                    self._fill_batch()
                    try:
                        await self._exchange()
                    except Exception as error:
                        await self._on_failure(error)
        finally:
            self._fail_all()
            await self._disconnect()

    async def _on_failure(self, error: Exception) -> None:
        self._numbers.errors["connection"] += 1
        if not isinstance(error, CONNECTION_ERRORS):
            log.error("a pipeline failed", exc_info=error)
        self._fail_all()
        if not self._outdated:
            self._on_trouble(error)
        await self._disconnect()

    def _fill_batch(self) -> None:
        count = size = 0
        for request in islice(self._queue, self._batch_size):
            count += 1
            size += len(request.command)
            if size >= BATCH_BYTES:
                break
        self._batch = self._queue[:count]
        del self._queue[:count]

    async def _exchange(self) -> None:
        """Send the batch until all requests are answered; after an error the rest stays in it."""
        connection = self._connection
        if connection is None or self._outdated or connection.dead:
            connection = await self._reconnect()
        for _ in range(SCRIPT_ATTEMPTS):
            replies: list[Any] = []
            trouble: Exception | None = None
            began = time.perf_counter()
            try:
                commands = list(map(_command, self._batch))
                self._numbers.commands += len(commands)
                await self._roundtrip(connection, commands, replies)
                # Like `Histogram.observe`, but without its call in each round trip.
                seconds, taken = time.perf_counter() - began, self._numbers.seconds
                taken.counts[bisect_left(BOUNDS, seconds)] += 1
                taken.total += seconds
            finally:
                trouble = self._match_replies(replies)
            if trouble is not None:
                raise trouble
            if not self._batch:
                return
            await self._load_scripts(connection)
        log.error("Redis forgets scripts as soon as they are loaded")
        self._fail(self._batch, rejected)
        self._batch = []

    async def _roundtrip(
        self, connection: RedisConnection, commands: list[bytes], replies: list[Any]
    ) -> None:
        # One deadline is moved for all waits, because nearly always there is only one wait.
        async with asyncio.timeout(self._timeout) as deadline:
            connection.write(b"".join(commands))
            await connection.drain()
            while len(replies) < len(commands):
                self._prolong(deadline)
                replies += await connection.read()
        if len(replies) > len(commands):
            raise InvalidResponse("Redis answered more than it was asked")

    def _prolong(self, deadline: asyncio.Timeout) -> None:
        """Restart a deadline if a sixteenth of it has passed."""
        due = asyncio.get_running_loop().time() + self._timeout
        if due - (deadline.when() or due) > self._timeout / 16:
            deadline.reschedule(due)

    def _match_replies(self, replies: list[Any]) -> Exception | None:
        """Resolve requests by their replies; the batch keeps the requests to send again.

        Returns:
            An error reply after which the connection must not be used.
        """
        again: list[_Request] = []
        trouble: Exception | None = None
        for request, reply in zip(self._batch, replies, strict=False):
            if not isinstance(reply, Exception):
                if again and request.scripted:
                    # The script was loaded meanwhile, and this request has overtaken earlier ones.
                    # To send these again would break the order of the calls.
                    self._fail(again, rejected)
                    again = []
                error = request.succeed(reply)
                if error is not None and self._throttle.due("nonsense"):
                    log.error("Redis holds what no worker of ours wrote: %r", error)
            elif isinstance(reply, NoScriptError):
                again.append(request)
            else:
                trouble = self._refuse(request, reply) or trouble
        self._batch = again + self._batch[len(replies) :]
        return trouble

    def _refuse(self, request: _Request, reply: Exception) -> Exception | None:
        """Fail a request by its error reply; return the reply if the server is unusable."""
        moved = redirection(reply) if self._clustered else None
        if moved is not None:
            fail(request.future, moved)
            if self._throttle.due("moved"):
                log.info("Redis serves a key elsewhere: %s", reply)
            return None
        refusal = refusal_of(reply)
        if refusal is not None and not (self._clustered and refusal is CLUSTER):
            self._numbers.errors[refusal.status] += 1
            fail(request.future, StoreRefuses(refusal))
            self._on_refusal(refusal, reply)
            return None
        if isinstance(reply, WRONG_SERVER):
            fail(request.future, unavailable())
            return reply
        self._numbers.errors["rejected"] += 1
        fail(request.future, rejected())
        if "WRONGTYPE" in str(reply):
            topic = request.key.partition("{")[2].rpartition("}")[0]
            if self._throttle.due(f"type of {topic}"):
                log.error("topic %s: another program wrote to its keys in Redis: %s", topic, reply)
        elif self._throttle.due(type(reply).__name__):
            log.error("Redis refuses a command: %s", reply)
        return None

    def _fail_all(self) -> None:
        failing = self._batch + self._queue
        self._batch, self._queue = [], []
        self._fail(failing)

    @staticmethod
    def _fail(
        requests: Sequence[_Request], reason: Callable[[], Unavailable] = unavailable
    ) -> None:
        for request in requests:
            fail(request.future, reason())

    async def _reconnect(self) -> RedisConnection:
        await self._disconnect()
        self._outdated = False
        self._connection = connection = self._connect()
        await connection.open(self._timeout)
        await self._load_scripts(connection)
        return connection

    async def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(*CONNECTION_ERRORS):
                await connection.close()

    async def _load_scripts(self, connection: RedisConnection) -> None:
        replies: list[Any] = []
        await self._roundtrip(connection, [script.load for script in self._scripts], replies)
        for reply in replies:
            if isinstance(reply, Exception):
                raise reply
