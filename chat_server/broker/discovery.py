"""Finds servers: a service's master by asking sentinels, a cluster's shards by asking its nodes."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError, InvalidResponse

from ..settings import Address, Several, take_apart
from .lane import Argument, pack
from .link import LINK_ERRORS, Link, RedisLink, connections, connector


class Span(NamedTuple):
    """A run of a cluster's slots, and the master that serves them."""

    first: int
    last: int
    master: Address


async def ask(link: Link, *command: Argument) -> Any:
    """Send one command over a link that nobody else uses, and return the reply.

    Raises:
        LINK_ERRORS: the connection fails, or the reply is an error.
    """
    link.write(pack(*command))
    await link.drain()
    while not (replies := await link.read()):
        pass
    if isinstance(replies[0], Exception):
        raise replies[0]
    return replies[0]


class Sentinels:
    """Tells which server is the master now.

    Args:
        several: where the sentinels are, and what they call the servers.
    """

    def __init__(self, several: Several) -> None:
        self._make = connections(several.sentinel)
        self._seeds = list(several.seeds)
        self._service = several.service

    async def master(self, seconds: float) -> Address:
        """Ask one sentinel after the other, at most `seconds` in all.

        Raises:
            LINK_ERRORS: none of them knows.
        """
        trouble: Exception | None = None
        for seed in list(self._seeds):
            link = RedisLink(self._make(seed))
            try:
                # One that hangs leaves the others their share of the time.
                async with asyncio.timeout(seconds / len(self._seeds)):
                    await link.open(seconds)
                    found = await ask(link, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._service)
                if found is not None:
                    return Address(found[0].decode(), int(found[1]))
                trouble = trouble or ConnectionError(
                    f"the sentinels do not know a master named {self._service!r}"
                )
            except LINK_ERRORS as error:
                trouble = error
            finally:
                await link.close()
            # Whoever is of no use is asked last.
            self._seeds.remove(seed)
            self._seeds.append(seed)
        raise trouble or ConnectionError("there is no sentinel")


class MasterLink(RedisLink):
    """A link to whichever server the sentinels call the master when it is opened."""

    def __init__(self, connection: AbstractConnection, sentinels: Sentinels) -> None:
        super().__init__(connection)
        self._sentinels = sentinels

    async def open(self, seconds: float) -> None:
        """Ask the sentinels for the master, and connect to it."""
        async with asyncio.timeout(seconds):
            address = await self._sentinels.master(seconds * 0.75)
            self._connection.host, self._connection.port = address
            await super().open(seconds)
            role = await ask(self, "ROLE")
            if role[0] != b"master":
                # The sentinels are behind, or this server is yet to learn of its promotion.
                raise ConnectionError(f"{address.host}:{address.port} is no master")


def master_connector(several: Several) -> Callable[[], Link]:
    """Return a function that makes new, unopened links to the master.

    Raises:
        ValueError: the URL cannot be used.
    """
    make, sentinels = connections(several.data), Sentinels(several)
    return lambda: MasterLink(make(None), sentinels)


def connector_of(url: str) -> Callable[[], Link]:
    """Return a function that makes new, unopened links to the server, or the master, of `url`.

    Raises:
        ValueError: the URL cannot be used.
    """
    try:
        several = take_apart(url)
    except ValueError as error:
        raise ValueError(f"redis.url: {error}") from None
    return connector(url) if several is None else master_connector(several)


async def find_shards(
    connect: Callable[[Address], Link], nodes: Sequence[Address], seconds: float
) -> tuple[Address, list[Span]]:
    """Ask one node after the other, `seconds` each, who serves which slots of the cluster.

    Returns:
        The node that answered, and what it said.

    Raises:
        LINK_ERRORS: none of them knows.
    """
    trouble: Exception = ConnectionError("no node of the cluster is known")
    for node in nodes:
        link = connect(node)
        try:
            async with asyncio.timeout(seconds):
                await link.open(seconds)
                spans = _spans(await ask(link, "CLUSTER", "SLOTS"), node)
            if spans:
                return node, spans
            trouble = ConnectionError(f"{node.host}:{node.port} knows of no shard")
        except LINK_ERRORS as error:
            trouble = error
        finally:
            await link.close()
    raise trouble


def _spans(reply: Any, asked: Address) -> list[Span]:
    try:
        return [
            # A node that does not know its own name leaves the host out.
            Span(first, last, Address(master[0].decode() if master[0] else asked.host, master[1]))
            for first, last, master, *_ in reply
        ]
    except (TypeError, ValueError, AttributeError, IndexError) as error:
        raise InvalidResponse("CLUSTER SLOTS gave an answer that makes no sense") from error
