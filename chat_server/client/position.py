"""Asks by HTTP where a topic stands: no command of the WebSocket tells it."""

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
        ask: asks the server, as `Reconnector.ask`.
        topic: the topic.

    Raises:
        ClientError: as of `ask`.
        BadServer: what answers has no such API.
    """
    path = f"/api/topics/{quote(topic, safe=':@')}/position"
    body = await ask(path, most=MAX_ANSWER_BYTES)
    try:
        answer = msgspec.json.decode(body, type=_Answer)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise no_api(path) from None
    return Position(answer.epoch, answer.seq)
