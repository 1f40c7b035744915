"""Inspects the servers behind `redis.url` once, for `chat-server doctor`."""

import asyncio
import re
import secrets
import time
from collections.abc import Callable
from functools import partial

from msgspec import Struct
from redis.exceptions import AuthenticationError, RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from ...settings import RedisSettings
from .connection import CONNECTION_ERRORS, RedisConnection, RedisPyConnection, connections
from .diagnosis import COMMANDS
from .refusals import refusal_of
from .topology import ask, connector_of, find_shards
from .urls import Address, parse_redis_url

OTHER_COMMANDS = {
    "exists": (),
    "pttl": (),
    "zrange": ("0", "0"),
    "zscore": ("m",),
}
"""Commands of the scripts besides `COMMANDS`, with their arguments after the key."""

FEED_COMMANDS = {"sadd": ("m",), "spop": ()}
"""Commands that the consumers of events need."""


_OTHER_PORT = "is it the port of Redis, and does it speak TLS (rediss://) or not (redis://)?"


class Inspection(Struct):
    """The result of one server's inspection.

    Args:
        name: the server's name, to tell several servers apart.
        error: why the server could not be asked; "" if it answered.
        clustered: True for a node of a cluster.
        latency_seconds: seconds of one round trip.
        clock_ahead_seconds: how far this machine's clock is ahead of the server's.
        info: the fields of INFO; empty if an ACL hides INFO.
        append_fsync: the setting `appendfsync`; "" if an ACL hides the setting.
        missing: rights that the ACL lacks, such as `+zadd`.
        refusal: why the server stores nothing; "" if it stores events.
    """

    name: str
    error: str = ""
    clustered: bool = False
    latency_seconds: float = 0.0
    clock_ahead_seconds: float = 0.0
    info: dict[str, str] = {}
    append_fsync: str = ""
    missing: list[str] = []
    refusal: str = ""


async def inspect(settings: RedisSettings, seconds: float, *, feeds: bool) -> list[Inspection]:
    """Inspect the server, the sentinels' master, or each master of a cluster.

    Args:
        settings: the address.
        seconds: maximum duration for each server.
        feeds: True to check the commands for consumers of events too.
    """
    topology = parse_redis_url(settings.url)
    if topology is None or topology.kind == "sentinel":
        name = "redis" if topology is None else f"redis master of {topology.service}"
        connect = connector_of(settings.url)
        return [await _inspect_one(name, connect, settings.prefix, seconds, False, feeds)]
    make = connections(topology.data)

    def connect_to(address: Address) -> RedisConnection:
        return RedisPyConnection(make(address))

    try:
        _, shards = await find_shards(connect_to, topology.seeds, seconds)
    except CONNECTION_ERRORS as error:
        return [Inspection("redis cluster", _reason(error), clustered=True)]
    masters = sorted({shard.master for shard in shards})
    return await asyncio.gather(
        *(
            _inspect_one(
                f"redis {host}:{port}",
                partial(connect_to, Address(host, port)),
                *(settings.prefix, seconds, True, feeds),
            )
            for host, port in masters
        )
    )


async def _inspect_one(
    name: str,
    connect: Callable[[], RedisConnection],
    prefix: str,
    seconds: float,
    clustered: bool,
    feeds: bool,
) -> Inspection:
    found = Inspection(name, clustered=clustered)
    connection = connect()
    try:
        async with asyncio.timeout(seconds):
            await connection.open(seconds)
            await _ask_time(connection, found)
            found.info = await _read_info(connection)
            found.append_fsync = await _read_setting(connection, "appendfsync")
            await _try_commands(connection, found, prefix, feeds)
    except CONNECTION_ERRORS as error:
        found.error = _reason(error)
    finally:
        await connection.close()
    return found


def _reason(error: Exception) -> str:
    text = str(error).rstrip(".")
    if isinstance(error, AuthenticationError):
        return f"{text}: give the user and the password"
    # redis-py's own of these is no TimeoutError.
    if isinstance(error, TimeoutError | RedisTimeoutError):
        return f"{text or 'no answer came in time'}: {_OTHER_PORT}"
    hung_up = text in ("Connection lost", "Connection closed by server")
    if hung_up or isinstance(error, ConnectionResetError):
        return f"{text}: {_OTHER_PORT}"
    return text or type(error).__name__


async def _ask_time(connection: RedisConnection, found: Inspection) -> None:
    began, sent_at = time.perf_counter(), time.time()
    try:
        seconds, microseconds = await ask(connection, "TIME")
    except AuthenticationError:
        raise  # Every other command is refused for that, and none of the trials would say so.
    except RedisError:
        return  # `_try_commands` names the missing right
    found.latency_seconds = time.perf_counter() - began
    there = int(seconds) + int(microseconds) / 1e6
    found.clock_ahead_seconds = sent_at + found.latency_seconds / 2 - there


async def _read_info(connection: RedisConnection) -> dict[str, str]:
    try:
        text = (await ask(connection, "INFO")).decode(errors="replace")
    except RedisError:
        return {}
    return dict(re.findall(r"^(\w+):(.*?)\r?$", text, re.MULTILINE))


async def _read_setting(connection: RedisConnection, name: str) -> str:
    try:
        reply = await ask(connection, "CONFIG", "GET", name)
        return str(reply[1].decode())
    except (RedisError, IndexError):
        return ""


async def _try_commands(
    connection: RedisConnection, found: Inspection, prefix: str, feeds: bool
) -> None:
    """Run each command of the scripts on a key of our own, which expires."""
    # The braces are those of a topic's keys, so that the ACL is asked about such names.
    key = f"{prefix}:{{doctor:{secrets.token_hex(8)}}}:meta"
    channel = f"{prefix}:{{doctor}}"
    commands = {name: (key, *rest) for name, rest in {**COMMANDS, **OTHER_COMMANDS}.items()}
    if feeds:
        commands |= {name: (key, *rest) for name, rest in FEED_COMMANDS.items()}
        commands["scan"] = ("0", "COUNT", "1")
    commands["time"] = ()
    commands["spublish" if found.clustered else "publish"] = (channel, "")
    commands["evalsha"] = ("0" * 40, "0")
    # The deletion comes last, so that no trial leaves a key behind.
    commands["del"] = commands.pop("del")
    missing = []
    for name, arguments in commands.items():
        try:
            await ask(connection, name, *arguments)
        except RedisError as error:
            refusal = refusal_of(error)
            if refusal is None:
                continue
            if refusal.reason.startswith("ACL: "):
                lacks = refusal.describe(prefix).removeprefix("ACL: ").removesuffix(" is missing")
                missing.append(lacks if lacks.startswith(("+", "~", "&")) else f"+{name}")
            elif name == "set":
                found.refusal = refusal.describe(prefix)
    found.missing = list(dict.fromkeys(missing))
