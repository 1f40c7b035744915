"""Answers for this worker who and what is there."""

import asyncio
import heapq
import os
import platform
import socket
from collections.abc import Callable, Iterable
from typing import Any, Final, Protocol, TypeVar

import msgspec
from msgspec import Struct

from ..auth.claims import Claims, TopicGrants
from ..auth.permissions import allows
from ..realtime.node import Node
from ..sessions.connection import Connection
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
"""Names that are looked at in one turn of the loop."""

MAX_BYTES: Final = 262_144
"""JSON of the rows that a worker answers with, about; fewer than asked for may fit."""


class Row(Protocol):
    """Something with a place in a list."""

    @property
    def key(self) -> str:
        """What rows are ordered by."""
        ...


R = TypeVar("R", bound=Row)

_NO_CLAIMS: Final = Claims("", TopicGrants())


class Looking:
    """Looks at a worker.

    Args:
        node: the worker.
        keeper: follows the orders.
    """

    def __init__(self, node: Node, keeper: Keeper) -> None:
        self._node = node
        self._keeper = keeper

    async def node(self) -> NodeRow:
        """Return what the worker says of itself."""
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

    async def connections(self, query: ConnectionsQuery) -> tuple[list[ConnectionRow], bool]:
        """Return connections of this worker, and whether more follow."""
        registry, client, topic = self._node.registry, query.client, query.topic
        found: Iterable[Any] = registry
        if query.user is not None:
            found = registry.of_user(query.user)
        elif query.address is not None:
            found = registry.of_address(query.address)

        def fits(each: Connection) -> bool:
            return (
                (query.user is None or each.user == query.user)
                and (query.address is None or each.address == query.address)
                and (client is None or client.lower() in each.agent.lower())
                and (topic is None or topic in each.topics)
            )

        by_session = {each.id: each for each in found if isinstance(each, Connection)}
        names = await _smallest(
            by_session, query.after, query.limit, lambda name: fits(by_session[name])
        )
        rows = [self._row(by_session[name]) for name in names]
        return _bounded(rows, query.limit)

    def connection(self, session: str) -> ConnectionView | None:
        """Return everything about a connection, if it is here."""
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
    ) -> tuple[list[TopicRow], bool]:
        """Return topics of this worker, and whether more follow.

        Args:
            query: which.
            within: patterns of the operator's grant.
            operator: for whom the patterns are read.
        """
        hub = self._node.hub
        names: Iterable[str] = hub.topic_names()
        if query.user is not None:
            of_user = self._node.registry.of_user(query.user)
            names = {
                topic for each in of_user if isinstance(each, Connection) for topic in each.topics
            }
        pattern = query.topic

        def fits(name: str) -> bool:
            return (pattern is None or allows((pattern,), name, operator)) and (
                "**" in within or allows(within, name, operator)
            )

        found = await _smallest(names, query.after, query.limit, fits)
        rows = [row for name in found if (row := self._topic_row(name)) is not None]
        return _bounded(rows, query.limit)

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

    def _topic_row(self, name: str) -> TopicRow | None:
        found = self._node.hub.glance(name)
        if found is None:
            return None
        subscribers, position = found
        return TopicRow(topic=name, subscribers=subscribers, epoch=position.epoch, seq=position.seq)


async def _smallest(
    names: Iterable[str], after: str, limit: int, fits: Callable[[str], bool]
) -> list[str]:
    """Return the first names behind `after` that fit, and one more if there are more.

    All are looked at, but never sorted, and the loop does something else in between.
    """
    everything = list(names)
    best: list[str] = []
    for begin in range(0, len(everything), AT_ONCE):
        if begin:
            await asyncio.sleep(0)
        worst = best[-1] if len(best) > limit else None
        chunk = everything[begin : begin + AT_ONCE]
        chosen = [n for n in chunk if n > after and (worst is None or n < worst) and fits(n)]
        if chosen:
            best = heapq.nsmallest(limit + 1, best + chosen)
    return best


def _bounded(rows: list[R], limit: int) -> tuple[list[R], bool]:
    """Return as many rows as one answer may have, and whether there are more."""
    more = len(rows) > limit
    rows = rows[:limit]
    size = 0
    for number, row in enumerate(rows):
        size += len(msgspec.json.encode(row))
        if size > MAX_BYTES and number:
            return rows[:number], True
    return rows, more


class Merged(Struct):
    """Rows of several workers.

    Args:
        rows: in the order of their keys.
        more: whether others follow.
    """

    rows: list[Any]
    more: bool


def merge(answers: Iterable[tuple[list[R], bool]], limit: int) -> Merged:
    """Put the rows of several workers together.

    A worker whose answer had no room for all knows of others behind its last row. So nothing
    behind that is returned, or it would be left out of the next page.

    Args:
        answers: rows of each worker, and whether it has more.
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
