"""Answers questions about this worker's connections and topics."""

import heapq
import os
import platform
import socket
from collections.abc import Callable, Iterable
from operator import attrgetter
from typing import Any, Final, Protocol, TypeVar

import msgspec
from msgspec import Raw, Struct

from ..auth.claims import Claims, TopicGrants
from ..auth.permissions import allows
from ..realtime.node import Node
from ..realtime.registry import Client
from ..realtime.topic import Topic
from ..sessions.connection import Connection
from ..turns import in_turns
from ..version import __version__
from .keeper import Keeper
from .questions import (
    ConnectionRow,
    ConnectionsQuery,
    ConnectionView,
    NodeRow,
    TopicRow,
    TopicsQuery,
)

AT_ONCE: Final = 1_000
"""Names looked at in one turn of the event loop."""

MAX_BYTES: Final = 262_144
"""Bytes of JSON in the rows of one answer, about; fewer rows than asked for may fit."""


class Row(Protocol):
    """A row with a place in a list."""

    @property
    def key(self) -> str:
        """The key that orders rows."""
        ...


R = TypeVar("R", bound=Row)
T = TypeVar("T")

_NO_CLAIMS: Final = Claims("", TopicGrants())


class Looking:
    """Reads a worker's state.

    Args:
        node: the worker.
        keeper: follows the orders.
    """

    def __init__(self, node: Node, keeper: Keeper) -> None:
        self._node = node
        self._keeper = keeper

    async def node(self) -> NodeRow:
        """Return the worker's own row."""
        node, clock = self._node, self._node.clock
        uptime = clock.monotonic() - node.started_at
        health = await node.broker.health(ping=False)
        return NodeRow(
            node=node.name,
            pid=os.getpid(),
            host=socket.gethostname(),
            version=__version__,
            python=platform.python_version(),
            started_at=int(clock.time() - uptime),
            uptime_seconds=round(uptime, 3),
            connections=len(node.registry),
            users=node.registry.user_count,
            topics=node.hub.topic_count,
            lag_ms=round(self._keeper.lag_seconds * 1_000, 3),
            broker=health.status,
            draining=node.drain.announced,
            orders=self._keeper.mark.number,
        )

    async def connections(self, query: ConnectionsQuery) -> tuple[list[Raw], bool]:
        """Return connections of this worker, as JSON, and whether more follow."""
        registry, client, topic = self._node.registry, query.client, query.topic
        found: Iterable[Any] = registry
        if query.user is not None:
            found = registry.of_user(query.user)
        elif query.address is not None:
            found = registry.of_address(query.address)

        def fits(each: Client) -> bool:
            return (
                isinstance(each, Connection)
                and (query.user is None or each.user == query.user)
                and (query.address is None or each.address == query.address)
                and (client is None or client.lower() in each.agent.lower())
                and (topic is None or topic in each.topics)
            )

        clients = await _smallest(found, attrgetter("id"), query.after, query.limit, fits)
        return _bounded([self._row(each) for each in clients], query.limit)

    def connection(self, session: str) -> ConnectionView | None:
        """Return everything about a connection of this worker, or None."""
        found = self._node.registry.session(session)
        if not isinstance(found, Connection):
            return None
        claims = found.claims or _NO_CLAIMS
        return ConnectionView(
            connection=self._row(found),
            topics=sorted(found.topics),
            name=claims.name,
            expires_at=claims.expires_at,
            issued_at=claims.iat,
            jti=claims.jti,
            kid=claims.kid,
            grants=msgspec.structs.asdict(claims.topics),
            reads=found.transport.writable,
        )

    async def topics(
        self, query: TopicsQuery, within: tuple[str, ...], operator: str
    ) -> tuple[list[Raw], bool]:
        """Return topics of this worker, as JSON, and whether more follow.

        Args:
            query: the filter and the page.
            within: patterns of the operator's grant.
            operator: the operator's name, for patterns with a user in them.
        """
        topics = self._node.hub.topics
        found: Iterable[Topic] = topics.values()
        if query.user is not None:
            of_user = self._node.registry.of_user(query.user)
            names = {
                name for each in of_user if isinstance(each, Connection) for name in each.topics
            }
            found = [topics[name] for name in names if name in topics]
        pattern = query.topic

        def fits(topic: Topic) -> bool:
            return (pattern is None or allows((pattern,), topic.name, operator)) and (
                "**" in within or allows(within, topic.name, operator)
            )

        chosen = await _smallest(found, attrgetter("name"), query.after, query.limit, fits)
        return _bounded([_topic_row(each) for each in chosen], query.limit)

    def _row(self, client: Connection) -> ConnectionRow:
        transport, encoding = client.sort
        return ConnectionRow(
            session=client.id,
            user=client.user,
            node=self._node.name,
            address=client.address,
            client=client.agent,
            transport=transport,
            encoding=encoding,
            opened_at=client.opened_at,
            topics=len(client.topics),
        )


def _topic_row(topic: Topic) -> TopicRow:
    here = topic.position
    return TopicRow(
        topic=topic.name, subscribers=topic.subscriber_count, epoch=here.epoch, seq=here.seq
    )


async def _smallest(
    items: Iterable[T], key: Callable[[T], str], after: str, limit: int, fits: Callable[[T], bool]
) -> list[T]:
    """Return at most `limit` + 1 fitting items, the smallest keys behind `after` first.

    An item beyond `limit` says that more follow. All items are looked at, never sorted as a whole,
    and the event loop runs in between.
    """
    best: list[T] = []
    async for some in in_turns(items, AT_ONCE):
        worst = key(best[-1]) if len(best) > limit else None
        chosen = [
            each
            for each in some
            if (name := key(each)) > after and (worst is None or name < worst) and fits(each)
        ]
        if chosen:
            best = heapq.nsmallest(limit + 1, best + chosen, key=key)
    return best


def _bounded(rows: list[Any], limit: int) -> tuple[list[Raw], bool]:
    """Return as many rows as one answer may have, as JSON, and whether there are more."""
    encoded: list[Raw] = []
    size = 0
    for row in rows[:limit]:
        text = msgspec.json.encode(row)
        size += len(text)
        if size > MAX_BYTES and encoded:
            return encoded, True
        encoded.append(Raw(text))
    return encoded, len(rows) > limit


class Merged(Struct):
    """Rows of several workers.

    Args:
        rows: in the order of their keys.
        more: whether further rows follow.
    """

    rows: list[Any]
    more: bool


def merge(answers: Iterable[tuple[list[R], bool]], limit: int) -> Merged:
    """Merge the rows of several workers.

    A worker with a full answer may have more rows behind its last one. Rows behind the first such
    end are left to the next page, which would otherwise miss the rows in between.

    Args:
        answers: rows of each worker, and whether that worker has more.
        limit: maximum number of different keys.
    """
    answers = list(answers)
    ends = [rows[-1].key for rows, more in answers if more and rows]
    end = min(ends, default=None)
    found: dict[str, list[R]] = {}
    for rows, _ in answers:
        for row in rows:
            if end is None or row.key <= end:
                found.setdefault(row.key, []).append(row)
    keys = heapq.nsmallest(limit, found)
    more = bool(ends) or len(found) > len(keys)
    return Merged([row for key in keys for row in found[key]], more)
