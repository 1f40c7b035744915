"""The query and the answer of a search, a request by HTTP only."""

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
    """The query of a search.

    Args:
        q: words, all of which a message must have; the last one may be the beginning of a word.
        topic: only messages of this topic.
        user: only messages of this user.
        before: only hits with a smaller id.
        limit: maximum number of hits.
    """

    q: Annotated[str, Meta(min_length=1, max_length=MAX_QUESTION)]
    topic: TopicName | None = None
    user: Annotated[str, Meta(min_length=1, max_length=255)] | None = None
    before: Annotated[int, Meta(ge=1, le=MAX_SEQ)] | None = None
    limit: Annotated[int, Meta(ge=1, le=MAX_HITS)] = DEFAULT_HITS


class SearchHit(Struct):
    """A message that a search has found.

    Args:
        id: greater for messages that were stored later.
        message: the message in its present state.
        snippet: an excerpt of the text in pieces; every second piece is a word of the query.
    """

    id: int
    message: Message
    snippet: list[str]


class SearchOk(Struct):
    """Hits, the newest first; `before` is for the next request, and null if no more hits follow."""

    hits: list[SearchHit]
    before: int | None = None
