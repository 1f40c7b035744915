"""Search in the archive: FTS5 in SQLite, full text in PostgreSQL, one interface for both."""

import re
import string
import unicodedata
from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import ColumnElement, Row, Select, func, literal_column, select, text

from ..database.database import Database
from ..protocol.searching import MAX_QUESTION
from ..realtime.searching import Hit
from .folding import Message
from .tables import MESSAGES, TOPICS

MAX_WORDS: Final = 10
"""Words of a query that count."""

SNIPPET: Final = 80
"""Characters in front of the first match, and at least as many behind the match."""

# Exactly the expression of the index. PostgreSQL's parser recognises hosts, numbers and paths in a
# text, and makes one word of each.
_SIGNS: Final[tuple[ColumnElement[str], ColumnElement[str]]] = (
    literal_column("'" + string.punctuation.replace("'", "''") + "'"),
    literal_column("'" + " " * len(string.punctuation) + "'"),
)

# As long as a query may be: PostgreSQL accepts up to 2,046 bytes.
_WORD = re.compile(rf"[^\W_]{{1,{MAX_QUESTION}}}")


def words_of(question: str) -> list[str]:
    """Return the words of a query; the last word may be a prefix."""
    return _WORD.findall(question)[:MAX_WORDS]


class ArchiveSearch:
    """Implements `realtime.searching.Search` over the archive.

    Args:
        database: the database.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def words_of(self, question: str) -> list[str]:
        """Return the words of a query."""
        return words_of(question)

    def snippet(self, text: str, words: Sequence[str]) -> list[str]:
        """Return a part of a text in pieces; see `realtime.searching.Search`."""
        return snippet(text, words)

    async def find(
        self,
        words: Sequence[str],
        *,
        topic: str | None = None,
        user: str | None = None,
        before: int | None = None,
        limit: int,
    ) -> list[Hit]:
        """Find messages with all of these words; see `realtime.searching.Search`."""
        matching = self._matching(words, before)
        query = (
            select(MESSAGES, TOPICS.c.name.label("topic"))
            .join(TOPICS, TOPICS.c.id == MESSAGES.c.topic_id)
            .where(matching)
            .order_by(MESSAGES.c.id.desc())
            .limit(limit)
        )
        if topic is not None:
            query = query.where(TOPICS.c.name == topic)
        if user is not None:
            query = query.where(MESSAGES.c.author == user)
        if before is not None:
            query = query.where(MESSAGES.c.id < before)
        async with self._database.session(read_only=True) as session:
            rows = (await session.execute(query)).all()
        return [_hit(row) for row in rows]

    def _matching(self, words: Sequence[str], before: int | None) -> ColumnElement[bool]:
        # The words contain letters and digits only, so no operators.
        if self._database.dialect == "sqlite":
            terms = " ".join(f'"{word}"' for word in words) + " *"
            found: Select[Any] = select(literal_column("rowid")).select_from(
                text("chat_archive_search")
            )
            found = found.where(text("chat_archive_search MATCH :terms").bindparams(terms=terms))
            if before is not None:
                found = found.where(literal_column("rowid") < before)
            return MESSAGES.c.id.in_(found)
        terms = " & ".join(f"'{word}'" for word in words) + ":*"
        plain = func.translate(MESSAGES.c.text, *_SIGNS)
        vector = func.to_tsvector(literal_column("'simple'::regconfig"), plain)
        asked = func.to_tsquery(literal_column("'simple'::regconfig"), terms)
        return MESSAGES.c.text.is_not(None) & vector.op("@@")(asked)


def _hit(row: Row[Any]) -> Hit:
    payload = Message.of_row(row).folded()
    return Hit(row.id, row.topic, payload, row.text or "")


def snippet(text: str, words: Sequence[str]) -> list[str]:
    """Return a part of a text in pieces: every second piece is a word of the query.

    Pieces rather than marks, because a user's text could imitate every mark.
    """
    *whole, beginning = (_plain(word) for word in words)
    spans: list[tuple[int, int]] = []
    end = len(text)
    for found in _WORD.finditer(text):
        if found.start() >= end:
            break
        word = _plain(found.group())
        if word in whole or word.startswith(beginning):
            if not spans:
                end = found.end() + 2 * SNIPPET
            spans.append(found.span())
    start = max(spans[0][0] - SNIPPET, 0) if spans else 0
    end = min(end, len(text)) if spans else min(2 * SNIPPET, len(text))
    pieces, at = ["…" if start else ""], start
    for first, last in spans:
        pieces[-1] += text[at:first]
        pieces += [text[first:last], ""]
        at = last
    pieces[-1] += text[at:end] + ("…" if end < len(text) else "")
    return pieces


def _plain(word: str) -> str:
    """Return a word without case and accents, as the indexes compare words."""
    if word.isascii():
        return word.lower()  # The same result in a tenth of the time.
    apart = unicodedata.normalize("NFKD", word.casefold())
    return "".join(letter for letter in apart if not unicodedata.combining(letter))
