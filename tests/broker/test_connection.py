"""The one place that touches redis-py's insides: an upgrade that moves them fails here."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from importlib.metadata import version
from typing import Any

import pytest
from redis.asyncio.connection import SSLConnection, UnixDomainSocketConnection
from redis.exceptions import ConnectionError, ResponseError

from chat_server.broker.redis.connection import CONNECTION_ERRORS, RedisPyConnection, connector
from chat_server.broker.redis.pipeline import pack

from ..rig.redis_server import RedisServer

Serve = Callable[[list[bytes]], Awaitable[RedisPyConnection]]


def test_is_the_version_whose_private_parts_are_used() -> None:
    assert version("redis").startswith("8.1."), (
        "chat_server/broker/redis/connection.py uses private parts of redis-py's connections: read "
        "what changed in redis/asyncio/connection.py and redis/_parsers, run tests/broker, then "
        "move the bound in pyproject.toml and this one"
    )


async def test_a_connection_to_a_real_server(redis_server: RedisServer) -> None:
    connection = connector(redis_server.url)()
    states = [connection.dead]
    await connection.open(5)
    states.append(connection.dead)
    connection.write(pack("ECHO", b"\0\r\n\xff") + pack("NO-SUCH-COMMAND") + pack("ECHO", "ü"))
    await connection.drain()
    replies: list[Any] = []
    while len(replies) < 3:
        replies += await connection.read()
    assert replies[0] == b"\0\r\n\xff"
    assert isinstance(replies[1], ResponseError)
    assert replies[2] == "ü".encode()
    await connection.close()
    states.append(connection.dead)
    assert states == [True, False, True]
    await connection.close()


async def test_many_replies_come_in_few_reads(redis_server: RedisServer) -> None:
    connection = connector(redis_server.url)()
    await connection.open(5)
    connection.write(pack("PING") * 1_000)
    reads = [await connection.read()]
    while sum(map(len, reads)) < 1_000:
        reads.append(await connection.read())
    assert len(reads) < 50
    await connection.close()


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Run a server that sends the given pieces one by one, then closes."""
    servers: list[asyncio.Server] = []

    async def _serve(pieces: list[bytes]) -> RedisPyConnection:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0)
            writer.close()

        servers.append(await asyncio.start_server(answer, "127.0.0.1", 0))
        port = servers[-1].sockets[0].getsockname()[1]
        connection = connector(f"redis://127.0.0.1:{port}")()
        assert isinstance(connection, RedisPyConnection)
        await connection.open(5)
        return connection

    yield _serve
    for server in servers:
        server.close()
        await server.wait_closed()


async def test_replies_cut_at_every_byte(serve: Serve) -> None:
    stream = b"*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$4\r\n\r\n\r\n\r\n:7\r\n-ERR no\r\n+OK\r\n$-1\r\n"
    for cut in range(len(stream) + 1):
        connection = await serve([stream[:cut], stream[cut:]])
        replies: list[Any] = []
        while len(replies) < 5:
            replies += await connection.read()
        assert replies[:2] == [[b"message", b"a", b"\r\n\r\n"], 7]
        assert isinstance(replies[2], ResponseError)
        assert replies[3:] == [b"OK", None]
        with pytest.raises(ConnectionError):
            await connection.read()
        await connection.close()


async def test_what_is_no_redis_at_all(serve: Serve) -> None:
    connection = await serve([b"HTTP/1.1 400 Bad Request\r\n\r\n"])
    with pytest.raises(CONNECTION_ERRORS):
        await connection.read()
    await connection.close()


async def test_abort_ends_a_read(redis_server: RedisServer) -> None:
    connection = connector(redis_server.url)()
    await connection.open(5)
    reading = asyncio.create_task(connection.read())
    await asyncio.sleep(0)
    connection.abort()
    with pytest.raises(CONNECTION_ERRORS):
        await reading
    assert connection.dead
    with pytest.raises(CONNECTION_ERRORS):
        connection.write(pack("PING"))
    connection.abort()
    await connection.close()


async def test_a_closed_connection_cannot_be_used(redis_server: RedisServer) -> None:
    connection = connector(redis_server.url)()
    for _ in range(2):
        with pytest.raises(CONNECTION_ERRORS):
            connection.write(pack("PING"))
        with pytest.raises(CONNECTION_ERRORS):
            await connection.drain()
        with pytest.raises(CONNECTION_ERRORS):
            await connection.read()
        await connection.open(5)
        await connection.close()


@pytest.mark.parametrize(
    "url",
    [
        *("", "redis", "http://:s3cret@host", "//host", "redis://:s3cret/x@host:6379"),
        *("redis://host:s3cret", "redis://:s3cret@host?no_such_option=1"),
        *("redis://:s3cret@host?socket_timeout=s3cret", "rediss://:s3cret@host?ssl_cert_reqs=x"),
        "rediss://host?ssl_ca_certs=/no/s3cret",
    ],
)
def test_an_unusable_url_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(ValueError, match=r"^redis\.url: ") as caught:
        connector(url)
    assert "s3cret" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_urls_of_every_scheme() -> None:
    for url, kind in (
        ("rediss://:pw@host:1", SSLConnection),
        ("unix:///run/redis.sock?db=3", UnixDomainSocketConnection),
    ):
        connection = connector(url)()
        assert isinstance(connection, RedisPyConnection)
        assert type(connection._connection) is kind
        assert "pw" not in repr(connection)


def test_options_in_the_url_cannot_undo_ours() -> None:
    connect = connector("redis://host?protocol=3&decode_responses=yes&socket_timeout=9&db=2")
    connection = connect()
    assert isinstance(connection, RedisPyConnection)
    connection = connection._connection
    assert (connection.protocol, connection.db, connection.socket_timeout) == (2, 2, None)
    assert connection.retry.get_retries() == 0
    assert not connection.encoder.decode_responses


def test_tls_contexts_are_made_once() -> None:
    connect = connector("rediss://host")
    first, second = connect(), connect()
    assert isinstance(first, RedisPyConnection)
    assert isinstance(second, RedisPyConnection)
    assert first._connection.ssl_context is second._connection.ssl_context
    assert first._connection.ssl_context.context is not None
