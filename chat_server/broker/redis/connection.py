"""One connection to Redis: writes pipelines, and reads one chunk of the socket at a time.

redis-py handles URLs, TLS, authentication and the handshake. Its commands are not used, for two
reasons. An await per reply costs ten times as much as the bytes. And redis-py may retry a command,
which would send a publication twice.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from redis._parsers.hiredis import NOT_ENOUGH_DATA, _AsyncHiredisParser
from redis.asyncio.connection import AbstractConnection, Connection, SSLConnection, parse_url
from redis.exceptions import ConnectionError, InvalidResponse, RedisError

from .urls import REDIS_URL_RULE, Address, parse_redis_url

READ_BYTES = 65_536
"""Bytes of one socket read: a few hundred small messages; larger reads would block the loop."""

CONNECTION_ERRORS = (RedisError, OSError)
"""Exceptions of a connection; `TimeoutError` is an `OSError`."""


class RedisConnection(Protocol):
    """A connection to one Redis server. Every method raises `CONNECTION_ERRORS`."""

    async def open(self, seconds: float) -> None:
        """Connect and authenticate within `seconds`, once."""
        ...

    @property
    def dead(self) -> bool:
        """True once the other side is known to have closed."""
        ...

    def write(self, data: bytes) -> None:
        """Queue packed commands."""
        ...

    async def drain(self) -> None:
        """Wait until the buffer has room again."""
        ...

    async def read(self) -> list[Any]:
        """Wait for data and return the complete replies, perhaps none.

        An error reply is an exception in the list.
        """
        ...

    def abort(self) -> None:
        """Drop the connection at once; a `read` under way raises."""
        ...

    async def close(self) -> None:
        """Drop the connection and wait until it is gone."""
        ...


class BatchParser(_AsyncHiredisParser):
    """redis-py's parser, plus a method that returns every reply of one socket read."""

    async def read_batch(self) -> list[Any]:
        """Read from the socket once and return the complete replies, perhaps none."""
        reader: Any = self._reader
        stream: Any = self._stream
        if reader is None or not self._connected:
            raise ConnectionError("the connection is closed")
        data = await stream.read(READ_BYTES)
        if not data:
            raise ConnectionError("Redis closed the connection")
        reader.feed(data)
        return list(iter(reader.gets, NOT_ENOUGH_DATA))


class RedisPyConnection:
    """A `RedisConnection` over a private connection of redis-py."""

    def __init__(self, connection: AbstractConnection) -> None:
        # redis-py types its commands, but little of its connections.
        self._connection: Any = connection

    async def open(self, seconds: float) -> None:
        """Connect and authenticate within `seconds`, once."""
        async with asyncio.timeout(seconds):
            await self._connection.connect()

    @property
    def dead(self) -> bool:
        """True once the connection cannot be written or read any more."""
        reader, writer = self._connection._reader, self._connection._writer
        return reader is None or writer is None or reader.at_eof() or writer.is_closing()

    def write(self, data: bytes) -> None:
        """Buffer `data` for sending."""
        writer: asyncio.StreamWriter | None = self._connection._writer
        if writer is None or writer.is_closing():
            raise ConnectionError("the connection is closed")
        writer.write(data)

    async def drain(self) -> None:
        """Wait until the buffer has room again."""
        writer: asyncio.StreamWriter | None = self._connection._writer
        if writer is None:
            raise ConnectionError("the connection is closed")
        await writer.drain()

    def read(self) -> Coroutine[Any, Any, list[Any]]:
        """Wait for data and return the complete replies, perhaps none."""
        parser = self._connection._parser
        if not isinstance(parser, BatchParser):
            raise InvalidResponse(f"redis-py replaced the parser by {type(parser).__name__}")
        return parser.read_batch()

    def abort(self) -> None:
        """Drop the connection with all unsent bytes."""
        writer = self._connection._writer
        if writer is not None:
            # close() would wait for ever to flush bytes that a stopped Redis does not read.
            writer.transport.abort()

    async def close(self) -> None:
        """Drop the connection, and release it."""
        self.abort()
        await self._connection.disconnect()


def connector(url: str) -> Callable[[], RedisConnection]:
    """Return a factory of unopened connections to the one server at `url`.

    Raises:
        ValueError: `url` cannot be used; the text hides the URL, which may hold a password.
    """
    make = connections(url)
    return lambda: RedisPyConnection(make(None))


def database_of(url: str) -> int:
    """Return the database number of `url`."""
    topology = parse_redis_url(url) if url else None
    options: dict[str, Any] = dict(parse_url(topology.data if topology else url)) if url else {}
    return int(options.get("db") or 0)


def connections(url: str) -> Callable[[Address | None], AbstractConnection]:
    """Return a factory of redis-py's connections to `url`, or to another address with its options.

    Raises:
        ValueError: `url` cannot be used; the text hides the URL, which may hold a password.
    """
    try:
        options: dict[str, Any] = dict(parse_url(url))
        connection_class = options.pop("connection_class", Connection)
        options |= {
            # RESP2, which every server speaks, and which is cheaper to parse. Replies come in the
            # order of the commands, so pushes need no type of their own.
            "protocol": 2,
            "parser_class": BatchParser,
            "socket_read_size": READ_BYTES,
            "decode_responses": False,
            # No retries (a publication must not be sent twice) and no deadlines of redis-py:
            # pipelines and the subscriber have their own.
            "retry": None,
            "retry_on_timeout": False,
            "retry_on_error": [],
            "health_check_interval": 0,
            # redis-py would read its own version from disk for every connection.
            "driver_info": None,
            "socket_timeout": None,
            "socket_connect_timeout": None,
        }
        sample = connection_class(**options)
        # get() reads the system's certificates from files: here, not in the running loop.
        tls = sample.ssl_context if isinstance(sample, SSLConnection) else None
        if tls is not None:
            tls.get()
    except (ValueError, TypeError, RedisError, OSError):
        raise ValueError(f"redis.url: {REDIS_URL_RULE}") from None

    def make(address: Address | None) -> AbstractConnection:
        connection: Any = connection_class(**options)
        if tls is not None:
            connection.ssl_context = tls
        if address is not None:
            connection.host, connection.port = address
        made: AbstractConnection = connection
        return made

    return make
