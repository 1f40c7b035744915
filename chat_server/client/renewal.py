"""Renews the token of a connection before it expires."""

import asyncio
import logging
import random
import time
from contextlib import suppress
from typing import NoReturn

from msgspec import Struct

from ..protocol.commands import Auth
from ..protocol.errors import ANOTHER_USER, Unauthorized
from .connection import Connection
from .credentials import Credentials
from .ending import Backoff, Ending
from .errors import CommandFailed, ConnectFailed, ConnectionLost, NotConnected, TokenRejected

LEAD_SECONDS = 60.0
"""Seconds before its expiry at which a token is renewed, enough for several attempts. A token with
less than twice this lifetime is renewed at half of its remaining lifetime.
"""

LEAD_JITTER = 0.25
"""The share by which the lead is shortened at random, so clients do not renew simultaneously."""

MIN_RENEWAL_SECONDS = 0.5
"""Seconds between two renewals at least: a function may return the same token again, and a server
may consider no token fresh.
"""

MAX_TIMER_SECONDS = 7 * 86_400.0

MAX_EXPIRY = 2**53
"""Seconds: the latest expiry accepted. A server may send any integer, and not every integer fits a
float.
"""

logger = logging.getLogger("chat_server.client")


class _Renewed(Struct, frozen=True):
    """The server's answer to `auth`."""

    expires_at: float | None = None


async def keep_authorized(connection: Connection, credentials: Credentials) -> NoReturn:
    """Renew the token of `connection` before each expiry, until cancelled.

    If a token expires nevertheless (the function failed, or the clocks disagree), the connection
    holds its commands until the server has accepted another token.

    Raises:
        TokenRejected: the function returned another user's token.
    """
    loop = asyncio.get_running_loop()
    earliest = loop.time()
    expires_at: float | None = connection.welcome.expires_at
    while True:
        delay = None if expires_at is None else _delay(min(expires_at, MAX_EXPIRY) - time.time())
        with suppress(TimeoutError):
            async with asyncio.timeout(delay):
                await connection.token_expired.wait()
        await asyncio.sleep(earliest - loop.time())
        expires_at = await _renew(connection, credentials, expires_at)
        connection.token_renewed()
        earliest = loop.time() + MIN_RENEWAL_SECONDS


async def _renew(
    connection: Connection, credentials: Credentials, expires_at: float | None
) -> float | None:
    """Send the server a token that outlives `expires_at`, and return the expiry of this token."""
    # The connection ends with its token, so the attempts are close together.
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
            ending = Ending(str(error))  # the reconnector cancels this task soon
        logger.warning("the token could not be renewed: %s", ending)
        await asyncio.sleep(max(backoff.delay(ending), MIN_RENEWAL_SECONDS))


def _is_later(renewed: float | None, expires_at: float | None) -> bool:
    # Compared with each other, because the client's clock may disagree with the server's.
    return renewed is None or expires_at is None or renewed > expires_at


def _delay(left: float) -> float | None:
    """Return the seconds before the renewal of a token with a lifetime of `left` seconds.

    The lifetime is by the client's clock. None for a token that should have expired already: the
    clocks disagree, and the server will announce the expiry.
    """
    if left <= 0:
        return None
    lead = min(LEAD_SECONDS, left / 2) * (1 - LEAD_JITTER * random.random())  # noqa: S311
    return min(max(left - lead, MIN_RENEWAL_SECONDS), MAX_TIMER_SECONDS)
