"""Finds servers: asks sentinels for a master, and nodes of a cluster for its shards."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError, InvalidResponse

from .connection import (
    CONNECTION_ERRORS,
    RedisConnection,
    RedisPyConnection,
    connections,
    connector,
)
from .pipeline import Argument, pack
from .urls import Address, RedisTopology, parse_redis_url


class SlotRange(NamedTuple):
    """A range of a cluster's slots, and the range's master."""

    first: int
    last: int
    master: Address


async def ask(connection: RedisConnection, *command: Argument) -> Any:
    """Send one command over a private connection, and return the reply.

    Raises:
        CONNECTION_ERRORS: the connection fails, or the reply is an error.
    """
    connection.write(pack(*command))
    await connection.drain()
    while not (replies := await connection.read()):
        pass
    if isinstance(replies[0], Exception):
        raise replies[0]
    return replies[0]


class Sentinels:
    """Asks sentinels for the master.

    Args:
        topology: addresses of the sentinels, and the name of the service.
    """

    def __init__(self, topology: RedisTopology) -> None:
        self._make = connections(topology.sentinel)
        self._seeds = list(topology.seeds)
        self._service = topology.service

    async def master(self, seconds: float) -> Address:
        """Ask one sentinel after the other, within `seconds` in all.

        Raises:
            CONNECTION_ERRORS: no sentinel knows the master.
        """
        trouble: Exception | None = None
        for seed in list(self._seeds):
            connection = RedisPyConnection(self._make(seed))
            try:
                # A sentinel that hangs leaves the other sentinels their share of the time.
                async with asyncio.timeout(seconds / len(self._seeds)):
                    await connection.open(seconds)
                    found = await ask(
                        connection, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._service
                    )
                if found is not None:
                    return Address(found[0].decode(), int(found[1]))
                trouble = trouble or ConnectionError(
                    f"the sentinels do not know a master named {self._service!r}"
                )
            except CONNECTION_ERRORS as error:
                trouble = error
            finally:
                await connection.close()
            # A sentinel without an answer is asked last next time.
            self._seeds.remove(seed)
            self._seeds.append(seed)
        raise trouble or ConnectionError("there is no sentinel")


class MasterConnection(RedisPyConnection):
    """A connection to the server that is the master at the time of opening."""

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
                # The sentinels are late, or this server does not know of its promotion yet.
                raise ConnectionError(f"{address.host}:{address.port} is no master")


def master_connector(topology: RedisTopology) -> Callable[[], RedisConnection]:
    """Return a factory of unopened connections to the master.

    Raises:
        ValueError: the URL cannot be used.
    """
    make, sentinels = connections(topology.data), Sentinels(topology)
    return lambda: MasterConnection(make(None), sentinels)


def connector_of(url: str) -> Callable[[], RedisConnection]:
    """Return a factory of unopened connections to the server, or the master, of `url`.

    Raises:
        ValueError: the URL cannot be used.
    """
    try:
        topology = parse_redis_url(url)
    except ValueError as error:
        raise ValueError(f"redis.url: {error}") from None
    return connector(url) if topology is None else master_connector(topology)


async def find_shards(
    connect: Callable[[Address], RedisConnection], nodes: Sequence[Address], seconds: float
) -> tuple[Address, list[SlotRange]]:
    """Ask one node after the other, for `seconds` each, for the owners of the slots.

    Returns:
        The node that answered, and the ranges of slots.

    Raises:
        CONNECTION_ERRORS: no node knows the owners.
    """
    trouble: Exception = ConnectionError("no node of the cluster is known")
    for node in nodes:
        connection = connect(node)
        try:
            async with asyncio.timeout(seconds):
                await connection.open(seconds)
                ranges = _slot_ranges(await ask(connection, "CLUSTER", "SLOTS"), node)
            if ranges:
                return node, ranges
            trouble = ConnectionError(f"{node.host}:{node.port} knows of no shard")
        except CONNECTION_ERRORS as error:
            trouble = error
        finally:
            await connection.close()
    raise trouble


def _slot_ranges(reply: Any, asked: Address) -> list[SlotRange]:
    try:
        return [
            # A node that does not know its own address leaves the host out.
            SlotRange(
                first, last, Address(master[0].decode() if master[0] else asked.host, master[1])
            )
            for first, last, master, *_ in reply
        ]
    except (TypeError, ValueError, AttributeError, IndexError) as error:
        raise InvalidResponse("CLUSTER SLOTS gave an answer that makes no sense") from error
