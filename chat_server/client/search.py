"""Asks by HTTP for messages with given words."""

from collections.abc import Awaitable, Callable
from urllib.parse import urlencode

import msgspec
from msgspec import Struct

from ..protocol.searching import SEARCH_PATH
from .api import no_api
from .events import Message

MAX_ANSWER_BYTES = 33_554_432


class Hit(Struct, frozen=True):
    """A message that was found.

    Args:
        id: greater for messages that were stored later.
        message: the message as it now is.
        snippet: a part of its text in pieces; every second one is a word that was asked for.
    """

    id: int
    message: Message
    snippet: list[str]


class Hits(Struct, frozen=True):
    """What was found, the newest first.

    Args:
        hits: the messages.
        before: asks for more; None if there is nothing more.
    """

    hits: list[Hit]
    before: int | None = None


async def find(ask: Callable[..., Awaitable[bytes]], **query: object) -> Hits:
    """Return messages with given words.

    Args:
        ask: asks the server, as `Reconnector.ask`.
        query: the fields of the query; None leaves one out.

    Raises:
        ClientError: as of `ask`.
        BadServer: what answers has no such API.
    """
    given = {name: value for name, value in query.items() if value is not None}
    body = await ask(f"{SEARCH_PATH}?{urlencode(given)}", most=MAX_ANSWER_BYTES)
    try:
        return msgspec.json.decode(body, type=Hits)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise no_api(SEARCH_PATH) from None
