"""Requests to the operators' API."""

import asyncio
import time
from typing import Any
from urllib.parse import quote, urlencode

import msgspec

from ..client.api import Api
from ..client.errors import NotConnected

TIMEOUT_SECONDS = 10.0
"""How long an answer may take: all workers are given two seconds."""

MOST_BYTES = 16_777_216
RETRY_SECONDS = 0.5


class Asking:
    """Sends requests to one server.

    Args:
        url: of its WebSocket.
        token: an operator's.
        wait: seconds for which a server that is not there is awaited.
    """

    def __init__(self, url: str, token: str, wait: float | None) -> None:
        self._api = Api(url, None)
        self._token = token
        self._deadline = time.monotonic() + (wait or 0.0)

    async def get(self, *path: str, **query: object) -> Any:
        """Return the answer to a question; a query's None is left out.

        Raises:
            ClientError: there is none.
        """
        given = {name: value for name, value in query.items() if value is not None}
        segments = "/".join(quote(segment, safe="") for segment in path)
        return await self._ask(segments + (f"?{urlencode(given)}" if given else ""), None)

    async def post(self, verb: str, **fields: object) -> Any:
        """Return the answer to an order; a field's None is left out.

        Raises:
            ClientError: it was not taken, or nobody knows whether it was.
        """
        given = {name: value for name, value in fields.items() if value is not None}
        return await self._ask(verb, msgspec.json.encode(given))

    async def _ask(self, path: str, body: bytes | None) -> Any:
        while True:
            try:
                answer = await self._api.ask(
                    f"/api/admin/{path}",
                    self._token,
                    timeout=TIMEOUT_SECONDS,
                    most=MOST_BYTES,
                    body=body,
                )
            except NotConnected:
                # To give an order twice does no harm, but for an announcement.
                if time.monotonic() >= self._deadline:
                    raise
                await asyncio.sleep(RETRY_SECONDS)
            else:
                return msgspec.json.decode(answer)
