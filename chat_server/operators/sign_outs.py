"""Takes back the access tokens of users who sign out, by the list that operators have for that."""

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
"""Denials beyond which users' tokens end by themselves: there must be room for operators' orders,
and the store keeps each for an hour longer."""

SKEW_SECONDS: Final = 2.0
"""How far a token's time of issue may be in front of a worker's clock."""


class SignOuts:
    """Keeps `accounts.access.Revoking` for a worker.

    Args:
        office: gives the orders.
        node: the worker's.
    """

    def __init__(self, office: Office, node: Node) -> None:
        self._office = office
        self._denials = node.denials
        self._clock = node.clock
        self._seconds = node.settings.accounts.access_seconds
        self._throttle = LogThrottle()

    async def revoke(self, user: str, reason: str) -> None:
        """Accept no token of a user that was issued up to now, on any worker.

        If that cannot be ordered, the tokens are valid until they expire, and the log says so.
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
        """Wait until a token that is issued to a user is none of those that are revoked.

        They are told apart by the second in which they were issued.
        """
        known = self._denials.find("issued", user)
        if known is not None:
            wait = known.at + 1 - self._clock.time()
            if 0 < wait <= SKEW_SECONDS:
                await asyncio.sleep(math.ceil(wait * 1_000) / 1_000)

    def _warn(self, why: str) -> None:
        if self._throttle.due("revoke"):
            logger.warning("the tokens of a user who signed out are valid until they end: %s", why)
