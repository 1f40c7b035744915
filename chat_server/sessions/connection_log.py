"""Logs the beginning and the end of each connection, at the level of `log.connections`."""

import logging
from typing import Protocol

from ..settings import LogSettings

logger = logging.getLogger(__name__)


class Logged(Protocol):
    """The logged properties of a connection."""

    id: str
    peer: str
    agent: str
    received: int

    @property
    def user(self) -> str:
        """The connection's user; empty before authentication."""
        ...

    @property
    def age(self) -> float:
        """Seconds since the connection was opened."""
        ...

    @property
    def sort(self) -> tuple[str, str]:
        """The transport and the encoding."""
        ...


def began(connection: Logged, settings: LogSettings) -> None:
    """Log that a client has connected, with or without a token."""
    level = logging.getLevelName(settings.connections)
    if logger.isEnabledFor(level):
        logger.log(level, "connected", extra=_who(connection))


def ended(connection: Logged, settings: LogSettings, code: int, reason: str) -> None:
    """Log that a connection has ended.

    Args:
        connection: the connection; its user is known if it had a token.
        settings: the level.
        code: the close code, RFC 6455 section 7.4; 1006 without a close.
        reason: the reason of the close.
    """
    level = logging.getLevelName(settings.connections)
    if logger.isEnabledFor(level):
        extra = {
            **_who(connection),
            "user": connection.user,
            "seconds": round(connection.age, 3),
            "messages": connection.received,
            "code": code,
            "reason": reason,
        }
        logger.log(level, "disconnected", extra=extra)


def _who(connection: Logged) -> dict[str, str]:
    transport, encoding = connection.sort
    return {
        "connection": connection.id,
        "address": connection.peer,
        "client": connection.agent,
        "transport": transport,
        "encoding": encoding,
    }
