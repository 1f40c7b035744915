"""The interface between a worker and an index of messages."""

from collections.abc import Sequence
from typing import Protocol

from msgspec import Struct


class Hit(Struct, frozen=True):
    """A message that a search has found.

    Args:
        id: the place to continue a search from: greater for messages that were stored later.
        topic: the topic.
        payload: the message in its present state.
        text: the searchable text of the message.
    """

    id: int
    topic: str
    payload: bytes
    text: str


class Search(Protocol):
    """Finds messages by their words."""

    def words_of(self, question: str) -> list[str]:
        """Return the words of a query; the list may be empty."""
        ...

    def snippet(self, text: str, words: Sequence[str]) -> list[str]:
        """Return an excerpt of a text in pieces; every second piece is a word of the query."""
        ...

    async def find(
        self,
        words: Sequence[str],
        *,
        topic: str | None = None,
        user: str | None = None,
        before: int | None = None,
        limit: int,
    ) -> list[Hit]:
        """Find messages with all of these words, the newest first.

        Args:
            words: at least one; the last one may be the beginning of a word.
            topic: only messages of this topic.
            user: only messages of this user.
            before: only hits with a smaller id.
            limit: maximum number of hits.

        Raises:
            Unavailable: the index cannot be used now.
        """
        ...
