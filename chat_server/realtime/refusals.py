"""Refusals by a limit: each is counted once, wherever it is answered, and closes are logged."""

import logging

from ..logs import LogThrottle, shown
from ..metrics.numbers import Numbers
from ..protocol.close_codes import CloseCode
from ..protocol.errors import RateLimited

logger = logging.getLogger(__name__)


def count_refusal(numbers: Numbers, error: BaseException | None) -> None:
    """Count an error that is a refusal by a limit, unless that has been done."""
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
            code: of the close.
            limit: as the numbers name it.
            reason: of the close.
            user: whose connection it is; empty if that is not known.
            address: where the connection comes from.
            connection: its session.
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
