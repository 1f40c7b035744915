"""Exports and erasures: a row records a user's request, and jobs do the work.

The row stays until the work is done. A lost or failed job therefore delays a request by at most
half a minute. The work of each kind is idempotent.
"""

import asyncio
import logging
import math
import random
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any, Final

import msgspec
from msgspec import Struct

from ..accounts.accounts import Accounts
from ..archive import keeping
from ..clock import Clock
from ..database.database import Database
from ..jobs import Jobs
from ..protocol.errors import ChatError, NotFound, Unavailable
from ..service.reading import forget_cursors
from ..service.service import Service
from ..settings import Settings
from . import requests
from .erasing import erase_in_store
from .exporting import export, parts
from .requests import Kind

logger = logging.getLogger(__name__)

JOB: Final = "user data"

ATTEMPT_SECONDS: Final = 3_600.0
"""Seconds of an attempt. A repeated export continues; a repeated erasure finds less to do."""

LOOK_SECONDS: Final = 30.0
"""Seconds between two looks of a worker for requests without a job, ± a quarter."""

EXPORT_SECONDS: Final = 604_800
"""Seconds for which an export can be fetched."""

AGAIN_SECONDS: Final = 3_600
"""Seconds for which an export counts as new, so a request returns the same export."""

SETTLE_SECONDS: Final = 5.0
"""Seconds for the archive to receive deletions from the store."""

SECOND_PASS_SECONDS: Final = 60.0
"""Seconds after the expiry of the account's last token. Then its late messages are erased too."""


class Export(Struct, frozen=True):
    """An export of a user; times in milliseconds since 1970.

    Args:
        requested_at: the time of the request.
        done_at: the time of completion; None for an unfinished export.
        expires_at: the time of expiry; None for an unfinished export.
        bytes: the size.
    """

    requested_at: int
    done_at: int | None = None
    expires_at: int | None = None
    bytes: int = 0


class UserData:
    """The requests that users can make.

    Args:
        settings: the server's settings.
        database: the database.
        service: deletes messages in the store.
        jobs: run the work.
        clock: tells the time.
        accounts: the accounts of the server; None for a server without accounts.

    Raises:
        SettingsError: pydocket is not installed.
    """

    def __init__(
        self,
        settings: Settings,
        database: Database,
        service: Service,
        jobs: Jobs,
        clock: Clock,
        accounts: Accounts | None,
    ) -> None:
        self._database = database
        self._service = service
        self._jobs = jobs
        self._clock = clock
        self._accounts = accounts
        self._second_pass_ms = math.ceil(
            (settings.accounts.access_seconds + SECOND_PASS_SECONDS) * 1_000
        )
        self._looking: asyncio.Task[None] | None = None
        jobs.register(JOB, self._work, timeout_seconds=ATTEMPT_SECONDS)

    def start(self) -> None:
        """Begin to look for unfinished requests."""
        self._looking = asyncio.create_task(self._keep_looking(), name="user data")

    async def stop(self) -> None:
        """Stop looking for unfinished requests."""
        task, self._looking = self._looking, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    # Requests -----------------------------------------------------------------------------------

    async def request_export(self, user: str) -> Export:
        """Start an export of a user's messages, unless an export from the last hour exists.

        Raises:
            Unavailable: the database is down.
        """
        now = self._now()
        before = now - AGAIN_SECONDS * 1_000
        await requests.add(self._database, user, "export", now, again_before=before)
        await self._begin(user, "export")
        return await self.export(user)

    async def export(self, user: str) -> Export:
        """Return the state of a user's export.

        Raises:
            NotFound: the export does not exist, or has expired.
            Unavailable: the database is down.
        """
        async with self._database.session(read_only=True) as session:
            row = await requests.find(session, user, "export")
        if row is None:
            raise NotFound("there is no export: ask for one")
        if row.done_at is None:
            return Export(row.requested_at)
        expires_at = row.done_at + EXPORT_SECONDS * 1_000
        return Export(row.requested_at, row.done_at, expires_at, row.bytes)

    async def read_export(self, user: str) -> AsyncIterator[bytes]:
        """Return the parts of a finished export: JSON lines, compressed by gzip.

        Raises:
            NotFound: no finished export exists.
            Unavailable: the database is down.
        """
        async with self._database.session(read_only=True) as session:
            row = await requests.find(session, user, "export")
        if row is None or row.done_at is None:
            raise NotFound("the export is not ready")
        return parts(self._database, user, row.parts)

    async def request_erasure(self, user: str) -> None:
        """Close an account and start the erasure of all its messages; this cannot be undone.

        Raises:
            Unavailable: the database is down.
        """
        await requests.add(self._database, user, "account", self._now())
        await self._close(user)
        await self._begin(user, "account")

    # The work -----------------------------------------------------------------------------------

    async def _begin(self, user: str, kind: Kind) -> None:
        """Add a job for a request; after a failure `_keep_looking` finds the request later."""
        with suppress(Unavailable):
            await self._jobs.add(JOB, {"user": user, "kind": kind}, key=f"{kind}:{user}")

    async def _work(self, data: Any) -> None:
        user, kind = data["user"], data["kind"]
        if kind == "export":
            account = await self._account_line(user)
            await export(self._database, user, account, self._now)
        else:
            await self._erase(user, kind)

    async def _account_line(self, user: str) -> bytes:
        """Return the first line of an export: the account, or the user's id."""
        account = None if self._accounts is None else await self._accounts.record(user)
        known = {"id": user} if account is None else msgspec.to_builtins(account)
        return msgspec.json.encode({"type": "user", **known})

    async def _close(self, user: str) -> None:
        if self._accounts is not None:
            await self._accounts.close(user)

    async def _erase(self, user: str, kind: Kind) -> None:
        async with self._database.session(read_only=True) as session:
            row = await requests.find(session, user, kind)
        if row is None:
            return
        if kind == "account":
            await self._close(user)
            await forget_cursors(self._service, user)
        await erase_in_store(self._service, self._database, user)
        await asyncio.sleep(SETTLE_SECONDS)
        erased = await keeping.erase(self._database, user)
        logger.info(
            "erased %d messages, %d changes and %d reactions of a user",
            *(erased.messages, erased.changes, erased.reactions),
        )
        now = self._now()
        async with self._database.session() as session:
            await requests.remove(session, user, "export")
            if kind == "account" and row.done_at is None:
                # A valid access token still allowed the user to write.
                due = now + self._second_pass_ms
                await requests.change(session, user, kind, done_at=now, due_at=due)
            else:
                await requests.remove(session, user, kind)

    async def _keep_looking(self) -> None:
        """Resume requests left by a killed process or a failed job."""
        await self._database.wait_until_ready()
        while True:
            try:
                for user, kind in await requests.due(self._database, self._now()):
                    await self._begin(user, kind)
                before = self._now() - EXPORT_SECONDS * 1_000
                await requests.forget_exports(self._database, before)
            except ChatError:
                pass  # The database logs that it is down; there is time.
            except Exception:
                logger.exception("looking for requests of users has failed")
            await asyncio.sleep(LOOK_SECONDS * random.uniform(0.75, 1.25))  # noqa: S311

    def _now(self) -> int:
        return math.floor(self._clock.time() * 1_000)
