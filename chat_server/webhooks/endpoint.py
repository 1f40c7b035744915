"""One endpoint: repeats each message until success, and parks the endpoint after too long."""

import asyncio
import logging
import random
from collections import Counter
from contextlib import suppress
from typing import Final

from msgspec import Struct

from ..clock import Clock
from ..consumers.ports import Outdated
from ..logs import LogThrottle
from ..protocol.errors import Unavailable
from ..settings import Webhook
from .backing_off import pause
from .sending import Sender, SendingError
from .signing import message_id, parse_secret, signed_headers
from .store import State, WebhookStore

logger = logging.getLogger(__name__)

POLL_SECONDS: Final = 5.0
"""Seconds between two looks of a parked or failing endpoint for an operator's replay."""

TIDY_MS: Final = 3_600_000

GONE: Final = 410
"""HTTP status of an endpoint that wants no further events."""


class _Failure(Struct, frozen=True):
    reason: str
    retry_after: float | None = None
    is_final: bool = False


class Endpoint:
    """Delivers to one endpoint, with several concurrent requests.

    Args:
        name: the endpoint's name in the settings.
        settings: the endpoint's settings.
        store: the endpoint's state and cursors in the database.
        sender: the connections to the endpoint.
        clock: for times of day. A new endpoint gets no events from before the creation of this
            object.
        keep_seconds: seconds for which the store keeps the position of an idle topic.
        counts: counts requests by name and outcome.
    """

    def __init__(
        self,
        name: str,
        settings: Webhook,
        store: WebhookStore,
        sender: Sender,
        clock: Clock,
        *,
        keep_seconds: float,
        counts: Counter[tuple[str, str]],
    ) -> None:
        self.name: Final = name
        self.settings: Final = settings
        self.store: Final = store
        self._sender = sender
        self._keys = [parse_secret(secret) for secret in settings.secrets]
        self._clock = clock
        self._keep_ms = int(keep_seconds * 1_000)
        self._counts = counts
        self._began = self.now()
        self._state: State | None = None
        # Time of the first failure of each failing message under way, in ms, by message id.
        self._failing: dict[str, int] = {}
        self._throttle = LogThrottle()
        self._tidied_at = self._began

    def now(self) -> int:
        """Return milliseconds since 1970."""
        return int(self._clock.time() * 1_000)

    async def open(self) -> State:
        """Wait until the endpoint is not parked, and return its state.

        Raises:
            Unavailable: the database cannot be used now.
        """
        while True:
            state = await self._read_state()
            if state.parked_at is None:
                return state
            await asyncio.sleep(POLL_SECONDS)
            self.distrust()

    def distrust(self) -> None:
        """Read the endpoint's state from the database before its next use."""
        self._state = None

    async def deliver(self, body: bytes, since: int) -> None:
        """Send a message until the endpoint accepts.

        Args:
            body: the message.
            since: `State.created_at` at the creation of the message.

        Raises:
            Unavailable: the database cannot be used now.
            Outdated: the endpoint begins anew, without this message.
        """
        id = message_id(self.name, body)
        failures, replays = 0, -1
        try:
            while True:
                state = await self.open()
                if state.created_at != since:
                    raise Outdated
                if state.replays != replays:
                    # An operator replays the endpoint: the time until parking begins again.
                    failures, replays = 0, state.replays
                    self._failing.pop(id, None)
                failure = await self._attempt(id, body)
                self._counts[self.name, "failed" if failure else "taken"] += 1
                if failure is None:
                    break
                failures += 1
                if not await self._note_failure(id, failure):
                    seconds = pause(failures, failure.retry_after, random.random)
                    await self._wait(seconds, replays)
        finally:
            had_failed = self._failing.pop(id, 0) > 0
        if had_failed or (self._state and self._state.failing_since is not None):
            await self._note_success()

    async def tidy(self) -> None:
        """Once an hour, delete cursors in topics that the store has forgotten.

        Raises:
            Unavailable: the database cannot be used now.
        """
        now = self.now()
        if now - self._tidied_at >= TIDY_MS:
            self._tidied_at = now
            await self.store.purge(self.name, now - self._keep_ms)

    async def close(self) -> None:
        """Close the connections."""
        await self._sender.close()

    async def _attempt(self, id: str, body: bytes) -> _Failure | None:
        """Send once; return the failure, or None after success."""
        now = self._clock.time()
        headers = signed_headers(self._keys, id, int(now), body)
        try:
            answer = await self._sender.send(body, headers, now=now)
        except SendingError as error:
            return _Failure(str(error))
        if answer.is_success:
            return None
        redirects = ", and redirects are not followed" if 300 <= answer.status < 400 else ""
        reason = f"the answer is HTTP {answer.status}{redirects}"
        return _Failure(reason, answer.retry_after, answer.status == GONE)

    async def _wait(self, seconds: float, replays: int) -> None:
        """Wait, unless an operator asks for another attempt."""
        while seconds > 0:
            step = min(seconds, POLL_SECONDS)
            await asyncio.sleep(step)
            seconds -= step
            if seconds > 0:
                with suppress(Unavailable):
                    self.distrust()
                    if (await self._read_state()).replays != replays:
                        return

    # State of the endpoint -----------------------------------------------------------------

    async def _read_state(self) -> State:
        if self._state is None:
            self._state = await self.store.begin(self.name, self._began)
        return self._state

    async def _note_failure(self, id: str, failure: _Failure) -> bool:
        """Note a failed attempt; return True if the failure parks the endpoint."""
        state = await self._read_state()
        now = self.now()
        if id not in self._failing:
            # The failures may have begun in an earlier process.
            first = not self._failing and state.failing_since is not None
            self._failing[id] = (state.failing_since if first else now) or now
        if failure.is_final or now - self._failing[id] >= self.settings.retry_seconds * 1_000:
            await self.store.park(self.name, now, failure.reason)
            self._counts[self.name, "parked"] += 1
            self._state = None
            logger.error(
                "webhook %s is parked: %s; `chat-server webhooks replay %s` lets it go on",
                *(self.name, failure.reason, self.name),
            )
            return True
        if self._throttle.due("failure"):
            logger.warning("webhook %s fails, and is tried again: %s", self.name, failure.reason)
        if (state.failing_since is None) or state.reason != failure.reason:
            since = min(self._failing.values())
            await self.store.write_failing(self.name, since, failure.reason)
            self._state = None
        return False

    async def _note_success(self) -> None:
        """Note the delivery of a message after failures, if no other message fails."""
        logger.info("webhook %s: a message that had failed was taken", self.name)
        if not self._failing:
            await self.store.write_failing(self.name, None, "")
            self._state = None
