"""Reads the position of a topic by HTTP, because no WebSocket command returns the position."""

from collections.abc import Awaitable, Callable
from urllib.parse import quote

import msgspec
from msgspec import Struct

from ..events import Position, Seq
from .api import no_api

MAX_ANSWER_BYTES = 65_536


class _Answer(Struct):
    epoch: str
    seq: Seq


async def read_position(ask: Callable[..., Awaitable[bytes]], topic: str) -> Position:
    """Return the position of `topic`.

    Args:
        ask: sends an HTTP request, as `Reconnector.ask`.
        topic: the topic.

    Raises:
        ClientError: as of `ask`.
        BadServer: the address does not have this API.
    """
    path = f"/api/topics/{quote(topic, safe=':@')}/position"
    body = await ask(path, most=MAX_ANSWER_BYTES)
    try:
        answer = msgspec.json.decode(body, type=_Answer)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise no_api(path) from None
    return Position(answer.epoch, answer.seq)
