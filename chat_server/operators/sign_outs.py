"""Revokes the access tokens of users who sign out, by the operators' list `issued`."""

import asyncio
import logging
import math
from typing import Final

from ..logs import LogThrottle
from ..protocol.errors import TooLarge, Unavailable
from ..realtime.node import Node
from .grants import EVERYTHING, Operator
from .office import Office

logger = logging.getLogger(__name__)

MOST: Final = 10_000
"""Number of denials beyond which a sign-out revokes no tokens, which then expire by themselves. The
rest is for operators' orders, and the store keeps each order for an hour longer."""

SKEW_SECONDS: Final = 2.0
"""Seconds that a token's time of issue may be ahead of a worker's clock."""


class SignOuts:
    """Implements `accounts.access.Revoking` for a worker.

    Args:
        office: gives the orders.
        node: the worker's node.
    """

    def __init__(self, office: Office, node: Node) -> None:
        self._office = office
        self._denials = node.denials
        self._clock = node.clock
        self._seconds = node.settings.accounts.access_seconds
        self._throttle = LogThrottle()

    async def revoke(self, user: str, reason: str) -> None:
        """Revoke on all workers the tokens that were issued to a user up to now.

        If the order fails, the tokens stay valid until they expire, and the log has a warning.
        """
        if len(self._denials) >= MOST and self._denials.find("issued", user) is None:
            self._warn("there are too many denials")
            return
        now = self._clock.time()
        try:
            who = Operator(user, (EVERYTHING,))
            await self._office.revoke(who, "issued", user, now + self._seconds, reason, int(now))
        except (TooLarge, Unavailable) as error:
            self._warn(error.message)

    async def settle(self, user: str) -> None:
        """Wait until a new token of a user differs from the revoked tokens.

        The second of issue tells new tokens from revoked ones.
        """
        known = self._denials.find("issued", user)
        if known is not None:
            wait = known.at + 1 - self._clock.time()
            if 0 < wait <= SKEW_SECONDS:
                # uvloop's timers may fire up to a millisecond early.
                await asyncio.sleep(math.ceil(wait * 1_000 + 1) / 1_000)

    def _warn(self, why: str) -> None:
        if self._throttle.due("revoke"):
            logger.warning("the tokens of a user who signed out are valid until they end: %s", why)
