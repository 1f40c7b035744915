"""Where the client gets its token from."""

import inspect
import re
from collections.abc import Awaitable, Callable

from .ending import Ending
from .errors import ConnectFailed

TokenSource = str | Callable[[], str | Awaitable[str]]
"""A token, or a function (plain or async) that is asked for a fresh one before each connection."""

_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*", re.ASCII)
"""What may follow `Bearer` in a header, RFC 6750 section 2.1."""


class Credentials:
    """Gives out a token for each connection."""

    def __init__(self, source: TokenSource) -> None:
        self._source = source

    @property
    def renewable(self) -> bool:
        """Whether asking again may give another token."""
        return not isinstance(self._source, str)

    async def token(self) -> str:
        """Return a token.

        Raises:
            ConnectFailed: there is none to be had now.
        """
        try:
            token = self._source if isinstance(self._source, str) else self._source()
            if inspect.isawaitable(token):
                token = await token
        except Exception as error:  # the user's function, which may fail in any way
            raise ConnectFailed(Ending(f"no token: {error}")) from error
        if _TOKEN.fullmatch(token.strip()) is None:
            raise ConnectFailed(Ending("no token: it has characters that no JWT has"))
        return token.strip()
