"""Counts each refusal by a limit once, and logs the connections that limits close."""

import logging

from ..logs import LogThrottle, shown
from ..metrics.numbers import Numbers
from ..protocol.close_codes import CloseCode
from ..protocol.errors import RateLimited

logger = logging.getLogger(__name__)


def count_refusal(numbers: Numbers, error: BaseException | None) -> None:
    """Count an error if the error is a refusal by a limit, and not counted yet."""
    if isinstance(error, RateLimited) and not error.counted:
        error.counted = True
        numbers.rate_limited[error.limit] += 1


class ClosedByLimits:
    """Logs connections that a limit closes, one line for each limit and minute."""

    def __init__(self) -> None:
        self._throttle = LogThrottle()

    def log(
        self,
        code: CloseCode,
        limit: str,
        reason: str,
        *,
        user: str,
        address: str,
        connection: str,
    ) -> None:
        """Log that a connection is closed.

        Args:
            code: the close code.
            limit: the limit's name in the numbers.
            reason: the reason of the close.
            user: the connection's user; empty if unknown.
            address: the client's address.
            connection: the connection's session.
        """
        if self._throttle.due(limit):
            logger.warning(
                "a connection is closed with %d: %s",
                *(code, shown(reason)),
                extra={
                    "limit": limit,
                    "user": user or "unknown",
                    "address": address,
                    "connection": connection,
                },
            )
