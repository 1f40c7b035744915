"""Searches messages by HTTP."""

from collections.abc import Awaitable, Callable
from urllib.parse import urlencode

import msgspec
from msgspec import Struct

from ..protocol.searching import SEARCH_PATH
from .api import no_api
from .events import Message

MAX_ANSWER_BYTES = 33_554_432


class Hit(Struct, frozen=True):
    """A message of the search result.

    Args:
        id: greater for messages that were stored later.
        message: the message with its changes applied.
        snippet: a part of the text in pieces; every second piece is a word of the query.
    """

    id: int
    message: Message
    snippet: list[str]


class Hits(Struct, frozen=True):
    """The result of a search, the newest message first.

    Args:
        hits: the messages.
        before: the `before` of the next query; None at the end.
    """

    hits: list[Hit]
    before: int | None = None


async def find(ask: Callable[..., Awaitable[bytes]], **query: object) -> Hits:
    """Return messages with given words.

    Args:
        ask: sends an HTTP request, as `Reconnector.ask`.
        query: the fields of the query; None omits a field.

    Raises:
        ClientError: as of `ask`.
        BadServer: the address does not have this API.
    """
    given = {name: value for name, value in query.items() if value is not None}
    body = await ask(f"{SEARCH_PATH}?{urlencode(given)}", most=MAX_ANSWER_BYTES)
    try:
        return msgspec.json.decode(body, type=Hits)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise no_api(SEARCH_PATH) from None
