"""Keeps the token of one connection fresh."""

import asyncio
import logging
import random
import time
from contextlib import suppress
from typing import NoReturn

from msgspec import Struct

from ..protocol.errors import ANOTHER_USER, Unauthorized
from ..protocol.messages import Auth
from .connection import Connection
from .credentials import Credentials
from .ending import Backoff, Ending
from .errors import CommandFailed, ConnectFailed, ConnectionLost, NotConnected, TokenRejected

LEAD_SECONDS = 60.0
"""How long before its end a token is renewed: enough for some attempts. One with less than twice
that left is renewed at half of it."""

LEAD_JITTER = 0.25
"""By how much of it the lead is shortened at random: not all clients ask the issuer together."""

LEAST_SECONDS = 0.5
"""The least time from one renewal to the next: for functions that return the same token again, and
for servers that take no token as one that helps."""

LONGEST_SECONDS = 7 * 86_400.0

FOREVER = 2**53
"""The latest time that a server is believed: any integer may come, and not all make a float."""

logger = logging.getLogger("chat_server.client")


class _Renewed(Struct, frozen=True):
    """The server's answer to `auth`."""

    expires_at: float | None = None


async def keep_authorized(connection: Connection, credentials: Credentials) -> NoReturn:
    """Renew the token of `connection` before it expires, again and again.

    Should it expire all the same (the function failed, or the clocks disagree), the connection
    holds its commands until the server has taken another.

    Raises:
        TokenRejected: the function returned another user's token.
    """
    loop = asyncio.get_running_loop()
    earliest = loop.time()
    expires_at: float | None = connection.welcome.expires_at
    while True:
        delay = None if expires_at is None else _delay(min(expires_at, FOREVER) - time.time())
        with suppress(TimeoutError):
            async with asyncio.timeout(delay):
                await connection.token_expired.wait()
        await asyncio.sleep(earliest - loop.time())
        expires_at = await _renew(connection, credentials, expires_at)
        connection.token_renewed()
        earliest = loop.time() + LEAST_SECONDS


async def _renew(
    connection: Connection, credentials: Credentials, expires_at: float | None
) -> float | None:
    """Give the server another token than the one until `expires_at`; return when that expires."""
    # The connection ends with its token, so attempts stay close together.
    backoff = Backoff(first=1.0, longest=5.0)
    while True:
        try:
            token = await credentials.token()
            renewed = (await connection.exchange(Auth(token=token), _Renewed)).expires_at
            if not connection.token_expired.is_set() or _is_later(renewed, expires_at):
                return renewed
            ending = Ending("the function returned the token that has expired")
        except ConnectFailed as error:
            ending = error.ending
        except CommandFailed as error:
            if error.code == Unauthorized.code and error.message == ANOTHER_USER:
                raise TokenRejected(f"the token was refused: {error.message}") from error
            ending = Ending(str(error), retry_in_ms=error.retry_in_ms)
        except (NotConnected, ConnectionLost) as error:
            ending = Ending(str(error))  # whoever serves the connection ends this in a moment
        logger.warning("the token could not be renewed: %s", ending)
        await asyncio.sleep(max(backoff.delay(ending), LEAST_SECONDS))


def _is_later(renewed: float | None, expires_at: float | None) -> bool:
    # Compared with each other, not with our clock, which may disagree with the server's.
    return renewed is None or expires_at is None or renewed > expires_at


def _delay(left: float) -> float | None:
    """Return how long to wait before a token is renewed that has `left` seconds by our clock.

    None if it should have expired: then the clocks disagree, and the server will say when it has.
    """
    if left <= 0:
        return None
    lead = min(LEAD_SECONDS, left / 2) * (1 - LEAD_JITTER * random.random())  # noqa: S311
    return min(max(left - lead, LEAST_SECONDS), LONGEST_SECONDS)
