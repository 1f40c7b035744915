"""The question and the answer of a search, which is asked by HTTP only."""

from typing import Annotated, Final

from msgspec import Meta, Struct

from ..events import MAX_SEQ
from .messages import Message
from .topics import TopicName

SEARCH_PATH: Final = "/api/search"

MAX_QUESTION: Final = 256
MAX_HITS: Final = 100
DEFAULT_HITS: Final = 20


class SearchQuery(Struct):
    """What is searched for.

    Args:
        q: words, all of which a message must have; the last one may be the beginning of a word.
        topic: only in this topic.
        user: only messages of this user.
        before: only hits in front of this id.
        limit: hits at most.
    """

    q: Annotated[str, Meta(min_length=1, max_length=MAX_QUESTION)]
    topic: TopicName | None = None
    user: Annotated[str, Meta(min_length=1, max_length=255)] | None = None
    before: Annotated[int, Meta(ge=1, le=MAX_SEQ)] | None = None
    limit: Annotated[int, Meta(ge=1, le=MAX_HITS)] = DEFAULT_HITS


class SearchHit(Struct):
    """A message that was found.

    Args:
        id: greater for messages that were stored later.
        message: the message as it now is.
        snippet: a part of its text in pieces; every second piece is a word that was asked for.
    """

    id: int
    message: Message
    snippet: list[str]


class SearchOk(Struct):
    """What was found, the newest first; `before` asks for more, unless it is null."""

    hits: list[SearchHit]
    before: int | None = None
