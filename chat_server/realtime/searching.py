"""What a worker asks of an index of messages."""

from collections.abc import Sequence
from typing import Protocol

from msgspec import Struct


class Hit(Struct, frozen=True):
    """A message that was searched for.

    Args:
        id: where to go on: greater for messages that were stored later.
        topic: the topic.
        payload: the message as it now is.
        text: what of it can be searched for.
    """

    id: int
    topic: str
    payload: bytes
    text: str


class Search(Protocol):
    """Finds messages by their words."""

    def words_of(self, question: str) -> list[str]:
        """Return the words of a question; there may be none."""
        ...

    def snippet(self, text: str, words: Sequence[str]) -> list[str]:
        """Return a part of a text in pieces: every second one is a word that was asked for."""
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
            before: only hits in front of this id.
            limit: hits at most.

        Raises:
            Unavailable: the index cannot be used now.
        """
        ...
