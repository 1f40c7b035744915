"""Jobs: at least once, retried, by any worker; pydocket keeps them in Redis.

The server imports pydocket only in `start`, and only with a registered kind of job, because
pydocket imports twenty packages.
"""

import asyncio
import importlib.util
import itertools
import logging
import re
import secrets
from asyncio import Task
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec import Struct

from ..logs import LogThrottle
from ..protocol.errors import TooLarge, Unavailable
from ..settings import RedisSettings, SettingsError

if TYPE_CHECKING:
    from docket import Docket, Worker

logger = logging.getLogger(__name__)

MAX_BYTES: Final = 65_536
"""Characters of JSON text of a job's data. Larger data belongs in the database."""

MAX_WAITING: Final = 10_000
"""Jobs that may wait; further jobs are refused."""

CONCURRENCY: Final = 4
"""Jobs that a worker runs concurrently."""

BACKOFF: Final = (timedelta(seconds=1), timedelta(minutes=10))
"""Time before the second attempt, and the longest time; doubled each time."""

REDELIVERY_SECONDS: Final = 30.0
"""Seconds after which another worker repeats the jobs of a killed worker."""

STOP_SECONDS: Final = 5.0
"""Seconds that a running job may take at a stop; another worker repeats a job that takes longer."""

RETRY_MS: Final = 1_000

RETRY_SECONDS: Final = (1.0, 15.0)
"""Seconds between two attempts to reach a Redis that was down at the start: first and most."""

_CLUSTER = re.compile(r"(rediss?\+cluster://(?:[^/?#]*@)?)([^/?#@]+)(.*)", re.DOTALL)

Work = Callable[[Any], Awaitable[None]]
"""Runs a job with its data, possibly more than once."""


class JobKind(Struct, frozen=True):
    """A kind of job.

    Args:
        name: the name of the kind, stable across versions of the program.
        work: runs a job of this kind.
        attempts: number of attempts. After the last failure the job is dropped and an error is
            logged.
        timeout_seconds: seconds that an attempt may take.
    """

    name: str
    work: Work
    attempts: int
    timeout_seconds: float


class Jobs:
    """The jobs of a server: any worker adds and runs jobs.

    With Redis an added job runs at least once, even if a worker is killed. Without Redis the jobs
    are in memory and end with the process.

    Args:
        settings: the address of Redis, and the prefix of its keys.
        redelivery_seconds: see `REDELIVERY_SECONDS`.
    """

    def __init__(
        self, settings: RedisSettings, *, redelivery_seconds: float = REDELIVERY_SECONDS
    ) -> None:
        self._settings = settings
        self._redelivery = timedelta(seconds=redelivery_seconds)
        self._kinds: dict[str, JobKind] = {}
        self._docket: Docket | None = None
        self._stack: AsyncExitStack | None = None
        self._running: Task[None] | None = None
        self._started: asyncio.Future[None] | None = None
        self._urls = itertools.cycle(_urls(settings.url))
        self._stopping = False
        self._taking = False
        self._throttle = LogThrottle()

    @staticmethod
    def possible() -> bool:
        """Return True if pydocket is installed."""
        return importlib.util.find_spec("docket") is not None

    def register(
        self, name: str, work: Work, *, attempts: int = 10, timeout_seconds: float = 60.0
    ) -> None:
        """Add a kind of job; every worker does so before `start`.

        Args:
            name: the name of the kind, stable across versions of the program.
            work: runs a job of this kind.
            attempts: number of attempts. After the last failure the job is dropped and an error is
                logged.
            timeout_seconds: seconds that an attempt may take.

        Raises:
            ValueError: the kind exists already, or the server runs already.
            SettingsError: pydocket is not installed.
        """
        if not self.possible():
            raise SettingsError("jobs need pydocket: pip install 'quart-chat[jobs]'")
        if name in self._kinds:
            raise ValueError(f"jobs: {name!r} is registered already")
        if self._taking:
            raise ValueError("jobs: must be registered before the server starts")
        self._kinds[name] = JobKind(name, work, attempts, timeout_seconds)

    async def add(
        self, name: str, data: object, *, key: str | None = None, delay_seconds: float = 0.0
    ) -> None:
        """Add a job; from then on the job survives this process.

        Args:
            name: the kind of the job.
            data: any value with at most `MAX_BYTES` of JSON.
            key: while a job with a key waits, a second job with the same key is not added.
            delay_seconds: seconds before the first attempt.

        Raises:
            KeyError: the kind does not exist.
            TooLarge: `data` is too large.
            Unavailable: Redis cannot be reached, too many jobs wait, or the server does not run.
        """
        kind = self._kinds[name]
        text = msgspec.json.encode(data).decode()
        if len(text) > MAX_BYTES:
            raise TooLarge(f"data: of a job may have {MAX_BYTES} characters of JSON")
        if self._docket is None and self._taking:
            await self._begin()
        docket = self._docket
        if docket is None:
            raise Unavailable("jobs are not taken now", retry_in_ms=RETRY_MS)
        when = datetime.now(UTC) + timedelta(seconds=delay_seconds)
        try:
            async with asyncio.timeout(self._settings.timeout_seconds):
                if await _waiting(docket) >= MAX_WAITING:
                    raise Unavailable("too many jobs wait", retry_in_ms=RETRY_MS)
                await docket.add(kind.name, when=when, key=key)(text)
        except _faults_of_redis() as error:
            if self._throttle.due("add"):
                logger.error("a job cannot be added: %s", error)
            raise Unavailable("jobs cannot be stored now", retry_in_ms=RETRY_MS) from error

    async def start(self) -> None:
        """Begin to accept and run jobs; without a registered kind, do nothing.

        Without Redis only `add` brings jobs: pydocket is imported with the first call.
        """
        if not self._kinds or self._taking:
            return
        self._taking = True
        if self._settings.url:
            await self._begin()

    async def _begin(self) -> None:
        """Begin to run jobs once, and wait until jobs can be added or Redis is down."""
        if self._started is None:
            self._stopping = False
            self._started = asyncio.get_running_loop().create_future()
            self._running = asyncio.create_task(self._run(self._started), name="jobs")
        await asyncio.shield(self._started)

    async def stop(self) -> None:
        """Let running jobs end, or leave them to another worker."""
        running, self._running = self._running, None
        self._taking, self._started = False, None
        if running is None:
            return
        self._stopping = True
        # The first cancellation stops the worker, the second the jobs that the worker still waits
        # for.
        for _ in range(2):
            running.cancel()
            await asyncio.wait({running}, timeout=STOP_SECONDS)
        if not running.done():
            logger.error("a job does not end when it is cancelled")

    async def _run(self, started: "asyncio.Future[None]") -> None:
        """Run jobs; begin again if Redis could not be reached at the start."""
        pause, longest = RETRY_SECONDS
        try:
            while not self._stopping:
                try:
                    # pydocket returns without an error after a cancellation.
                    await self._work(started)
                    continue
                except _faults_of_redis() as error:
                    if self._throttle.due("start"):
                        logger.error("jobs wait for Redis: %s", error)
                if not started.done():
                    started.set_result(None)
                await asyncio.sleep(pause)
                pause = min(2 * pause, longest)
        except Exception:
            logger.exception("jobs are not done any more")
        finally:
            if not started.done():
                started.set_result(None)

    async def _work(self, started: "asyncio.Future[None]") -> None:
        docket, worker = await asyncio.to_thread(self._make)
        for kind in self._kinds.values():
            docket.register(_task_of(kind), names=[kind.name])
        async with docket, worker:
            self._docket = docket
            if not started.done():
                started.set_result(None)
            try:
                await worker.run_forever()
            finally:
                self._docket = None

    def _make(self) -> "tuple[Docket, Worker]":
        # In a thread: the imports take half a second, and pydocket reads scripts.
        from docket import Docket, Worker

        # pydocket logs each job twice at INFO, and a traceback at each attempt to reach a Redis
        # that is down.
        logging.getLogger("docket").setLevel(logging.WARNING)
        for part in ("worker", "strikelist"):
            of_part = logging.getLogger(f"docket.{part}")
            if not any(isinstance(each, _OneLine) for each in of_part.filters):
                of_part.addFilter(_OneLine())
        docket = Docket(
            name=f"{self._settings.prefix}:jobs",
            url=next(self._urls),
            execution_ttl=timedelta(0),
        )
        worker = Worker(
            docket,
            concurrency=CONCURRENCY,
            redelivery_timeout=self._redelivery,
            schedule_automatic_tasks=False,
        )
        return docket, worker


class _OneLine(logging.Filter):
    """Passes a warning of pydocket once a minute, with its cause instead of a traceback.

    While Redis is down pydocket logs errors in several places; the filter makes one warning of
    them.
    """

    def __init__(self) -> None:
        super().__init__()
        self._throttle = LogThrottle()

    def filter(self, record: logging.LogRecord) -> bool:
        """Return True if a record is logged."""
        cause = record.exc_info[1] if record.exc_info else None
        if isinstance(cause, _faults_of_redis()):
            record.levelno, record.levelname = logging.WARNING, "WARNING"
            record.msg, record.args, record.exc_info = "jobs wait for Redis: %s", (cause,), None
            return self._throttle.due("away")
        if record.levelno > logging.WARNING:
            return True
        record.msg, record.args = f"jobs: {record.getMessage()}", ()
        if cause is not None:
            record.msg, record.args, record.exc_info = "%s %s", (record.msg, cause), None
        return self._throttle.due(f"{record.msg}{cause}")


def _faults_of_redis() -> tuple[type[Exception], ...]:
    # Imported late: a server without Redis, and a command, start sooner without redis-py.
    from redis.exceptions import RedisError

    return RedisError, OSError, TimeoutError


def _urls(url: str) -> list[str]:
    """Return the addresses to try in turn: pydocket accepts one seed of a cluster, not several."""
    match = _CLUSTER.fullmatch(url)
    if match is None:
        return [url or f"memory://{secrets.token_hex(8)}"]
    head, seeds, rest = match.groups()
    return [f"{head}{seed}{rest}" for seed in seeds.split(",")]


async def _waiting(docket: "Docket") -> int:
    async with docket.redis() as redis:
        queued = await redis.xlen(docket.stream_key)
        scheduled = await redis.zcard(docket.queue_key)
    return int(queued) + int(scheduled)


def _task_of(kind: JobKind) -> Callable[..., Awaitable[None]]:
    """Return the function for pydocket; its default arguments have the rules for retries."""
    from docket import ExponentialRetry, Timeout

    retries = ExponentialRetry(kind.attempts, *BACKOFF)
    time = Timeout(timedelta(seconds=kind.timeout_seconds))

    async def task(text: str, retry: ExponentialRetry = retries, timeout: Timeout = time) -> None:
        try:
            await kind.work(msgspec.json.decode(text))
        except Exception as error:
            last = retry.attempt >= kind.attempts
            logger.log(
                logging.ERROR if last else logging.WARNING,
                "job %s failed in attempt %d of %d%s",
                *(kind.name, retry.attempt, kind.attempts, ", and is given up" if last else ""),
                exc_info=error,
            )
            raise

    return task
