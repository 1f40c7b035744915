"""Requests to the operators' API."""

import asyncio
from asyncio import Task
from typing import Any
from urllib.parse import quote, urlencode

import msgspec

from ..client.api import Api, no_api
from ..client.errors import NotConnected

PATIENCE_SECONDS = 3.0
"""Seconds after which a request is sent again. A healthy worker answers sooner, even when the
other workers take their two seconds."""

ANSWER_SECONDS = 30.0
"""Seconds that an answer may take, repetitions included."""

MOST_BYTES = 16_777_216
RETRY_SECONDS = 0.5

ONCE = frozenset({"announce"})
"""Orders with a second effect when given twice, and so never sent again."""


class Asking:
    """Sends requests to one server.

    The kernel may hand a connection to a frozen worker, so an unanswered request is soon sent again
    by another connection. A worker that wakes up finds the first connection closed, and drops the
    request.

    Args:
        url: of the server's WebSocket.
        token: an operator's access token.
        wait: seconds to wait for a server that does not run yet.
    """

    def __init__(self, url: str, token: str, wait: float) -> None:
        self._api = Api(url, None)
        self._token = token
        self._wait = wait

    async def get(self, *path: str, **query: object) -> Any:
        """Return the answer to a question; fields that are None are left out of the query.

        Raises:
            ClientError: no answer has come.
        """
        given = _given(query)
        segments = "/".join(quote(segment, safe="") for segment in path)
        return await self._ask(segments + (f"?{urlencode(given)}" if given else ""), None)

    async def post(self, verb: str, **fields: object) -> Any:
        """Return the answer to an order; fields that are None are left out.

        Raises:
            ClientError: the order was refused, or its fate is unknown.
        """
        return await self._ask(verb, msgspec.json.encode(_given(fields)))

    async def _ask(self, path: str, body: bytes | None) -> Any:
        sent: set[Task[bytes]] = set()
        try:
            answer = _decoded(await self._first_answer(sent, path, body), path)
            # The effect may be that of an earlier attempt, so `already` says nothing.
            return answer | ({"already": False} if len(sent) > 1 else {})
        finally:
            for task in sent:
                task.cancel()
            await asyncio.gather(*sent, return_exceptions=True)

    async def _first_answer(self, sent: set[Task[bytes]], path: str, body: bytes | None) -> bytes:
        loop = asyncio.get_running_loop()
        began = loop.time()
        while True:
            if not sent or path not in ONCE:
                sent.add(loop.create_task(self._send(path, body)))
            done, _ = await asyncio.wait(
                sent, timeout=PATIENCE_SECONDS, return_when=asyncio.FIRST_COMPLETED
            )
            waited = loop.time() - began
            for task in done:
                error = task.exception()
                if error is None:
                    return task.result()
                sent.remove(task)
                if not isinstance(error, NotConnected) or not (sent or waited < self._wait):
                    raise error
            if waited >= max(ANSWER_SECONDS, self._wait):
                raise NotConnected(_silence(path, body))
            if done:
                await asyncio.sleep(RETRY_SECONDS)

    async def _send(self, path: str, body: bytes | None) -> bytes:
        # `_first_answer` gives up sooner, with a message that fits orders.
        seconds = 10 * ANSWER_SECONDS
        return await self._api.ask(
            f"/api/admin/{path}", self._token, timeout=seconds, most=MOST_BYTES, body=body
        )


def _given(fields: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in fields.items() if value is not None}


def _decoded(answer: bytes, path: str) -> dict[str, Any]:
    try:
        return msgspec.json.decode(answer, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise no_api(f"/api/admin/{path.partition('?')[0]}") from None


def _silence(path: str, body: bytes | None) -> str:
    silence = f"no worker has answered for {ANSWER_SECONDS:g} s"
    if body is None:
        return silence
    if path in ONCE:
        return f"{silence}; it may have been done all the same"
    return f"{silence}; it may have been done all the same, and to repeat it does no harm"
