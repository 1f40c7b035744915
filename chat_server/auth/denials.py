"""Denials: blocked users, revoked tokens, closed topics. Each check is a few look-ups.

The lists belong to one worker. `operators` keeps the lists of all workers equal.
"""

import math
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Final, Literal

from msgspec import Struct

from ..clock import Clock
from ..protocol.errors import Blocked, ChatError, Forbidden, Unauthorized, Unavailable
from .claims import Claims

List = Literal["users", "tokens", "issued", "keys", "topics"]
"""The kind of denial: users, tokens by `jti`, a user's tokens by `iat`, tokens by `kid`, topics."""

REVOKED: Final = "token: is revoked"

UNKNOWN: Final = "the store is away, and who is kept out is not known yet"
UNKNOWN_RETRY_MS: Final = 1_000


class Denial(Struct, frozen=True, gc=False):
    """The terms of a denial.

    Args:
        until: milliseconds since 1970 at the end of the denial.
        at: seconds since 1970; in the list `issued`, the last time of issue that is denied.
        by: the operator.
        reason: the operator's reason.
    """

    until: int
    at: int
    by: str
    reason: str


class Denials:
    """The lists of a worker.

    A worker without news from the others for a while must not judge by its lists (`is_stale`)
    before it has asked for news (`renew`).

    Args:
        clock: tells the time.

    Attributes:
        known: False until the lists have been read; no user can be let in before.
        fresh_until: monotonic seconds up to which the lists are as new as those of other workers.
        renew: asks for news; never raises.
        topics: the closed topics.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.known = True
        self.fresh_until = math.inf
        self.renew: Callable[[], Awaitable[None]] = _nothing
        self._lists: dict[str, dict[str, Denial]] = {
            name: {} for name in ("users", "tokens", "issued", "keys", "topics")
        }
        self._users, self._tokens = self._lists["users"], self._lists["tokens"]
        self._issued, self._keys = self._lists["issued"], self._lists["keys"]
        self.topics = self._lists["topics"]

    def __len__(self) -> int:
        """Return the number of denials."""
        return sum(map(len, self._lists.values()))

    def __iter__(self) -> Iterator[tuple[List, str, Denial]]:
        """Iterate over all denials: the list, the target, and the terms."""
        for name, denied in self._lists.items():
            for target, denial in list(denied.items()):
                yield name, target, denial  # type: ignore[misc]

    @property
    def is_stale(self) -> bool:
        """Whether other workers may have news that this worker does not have."""
        return not self.known or self._clock.monotonic() > self.fresh_until

    def put(self, name: List, target: str, denial: Denial | None) -> None:
        """Deny a target, or allow the target again.

        Args:
            name: the list.
            target: the user, token, key or topic.
            denial: the terms; None to remove the target from the list.
        """
        if denial is None or denial.until <= self._clock.time() * 1_000:
            self._lists[name].pop(target, None)
            return
        # Interned, because an operator who blocks thousands gives the same reason for each.
        by, reason = sys.intern(denial.by), sys.intern(denial.reason)
        self._lists[name][target] = Denial(denial.until, denial.at, by, reason)

    def find(self, name: List, target: str) -> Denial | None:
        """Return the denial of a target, or None if the target is allowed."""
        denied = self._lists[name]
        denial = denied.get(target)
        if denial is not None and denial.until <= self._clock.time() * 1_000:
            del denied[target]
            return None
        return denial

    def all_of(self, name: List) -> Mapping[str, Denial]:
        """Return the denials of one list, by target."""
        return self._lists[name]

    def check(self, claims: Claims) -> None:
        """Check a verified token.

        Raises:
            Blocked: the user is blocked; gives the reason.
            Unauthorized: the token is revoked.
            Unavailable: the lists are not known yet.
        """
        if not self.known:
            raise Unavailable(UNKNOWN, retry_in_ms=UNKNOWN_RETRY_MS)
        try:
            self._check(claims)
        except ChatError as error:
            error.user = claims.sub
            raise

    def _check(self, claims: Claims) -> None:
        if self._users and (blocked := self.find("users", claims.sub)) is not None:
            raise Blocked(f"user: is blocked: {blocked.reason}")
        if self._tokens and claims.jti and self.find("tokens", claims.jti) is not None:
            raise Unauthorized(REVOKED)
        if self._keys and claims.kid and self.find("keys", claims.kid) is not None:
            raise Unauthorized(f"{REVOKED}, as all of its key")
        # A token without a time of issue may be as old as the revoked ones.
        if (
            self._issued
            and (revoked := self.find("issued", claims.sub)) is not None
            and (claims.iat is None or claims.iat <= revoked.at)
        ):
            raise Unauthorized(f"{REVOKED}, as all that this user had")

    def check_topic(self, topic: str) -> None:
        """Check that a topic is open.

        Raises:
            Forbidden: the topic is closed; gives the reason.
        """
        if self.topics and (closed := self.find("topics", topic)) is not None:
            raise Forbidden(f"topic: is closed: {closed.reason}", topic=topic)

    def forget(self) -> None:
        """Delete denials that are over."""
        now = self._clock.time() * 1_000
        for denied in self._lists.values():
            for target in [each for each, denial in denied.items() if denial.until <= now]:
                del denied[target]


async def _nothing() -> None:
    pass
