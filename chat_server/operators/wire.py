"""Questions between workers, and the rows of the replies."""

from collections.abc import Mapping
from typing import Generic, TypeVar

import msgspec
from msgspec import Raw, Struct

from ..turns import in_turns
from .questions import TopicsQuery

T = TypeVar("T")


class Obey(Struct):
    """Asks a worker to obey the orders up to a number."""

    era: str
    number: int


class Topics(Struct):
    """Asks for topics, within the patterns of an operator's grant."""

    query: TopicsQuery
    within: tuple[str, ...]
    operator: str


class Session(Struct):
    """Asks for a connection."""

    session: str


class Done(Struct):
    """The number of connections that an order has concerned."""

    connections: int


class Found(Struct, Generic[T]):
    """Rows, and whether there are more."""

    rows: list[T]
    more: bool


async def rows_of(replies: Mapping[str, Raw], kind: type[Found[T]]) -> list[tuple[list[T], bool]]:
    """Return the rows of each reply, and whether there are more."""
    found: list[tuple[list[T], bool]] = []
    async for some in in_turns(replies.values(), 1):
        answers = [msgspec.json.decode(reply, type=kind) for reply in some]
        found += [(answer.rows, answer.more) for answer in answers]
    return found
