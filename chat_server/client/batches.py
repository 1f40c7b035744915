"""Many publications at once, by HTTP; the server stores each once, even if a batch is resent.

A batch saves round trips and most of the work for each message. The WebSocket carries a message
whose key the server may have forgotten. If batches fail, the WebSocket carries all messages.
"""

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Iterable, Sequence

import msgspec
from msgspec import Struct

from ..events import Seq
from ..protocol.batch import BATCH_MESSAGES, BATCH_PATH, MAX_BATCH, ItemError
from ..protocol.errors import RateLimited, Unauthorized
from .codec import ClientCodec
from .connection import Connection
from .ending import retry_delay
from .errors import (
    BadServer,
    ClientError,
    CommandFailed,
    ConnectFailed,
    NotConnected,
    OutcomeUnknown,
    TimedOut,
)
from .events import Published
from .pace import Pace
from .publication import Publication, PublicationLog
from .reconnector import Reconnector

MAX_ANSWER_BYTES = 4_194_304
ANSWER_SECONDS = 30.0
"""Seconds to wait for the answer. The server waits for its store, and then reports the outcomes."""

MAX_FAILURES = 1
"""Exchanges that may fail in a row; then the client uses the WebSocket with its precise errors."""

AVOID_SECONDS = 60.0
"""Seconds for which the client uses the WebSocket after HTTP has failed."""

EXCHANGE_RETRY_MS = 100
COUNT_BYTES = 4_096
"""Bytes per unit of the rate: each message costs one unit, and one more for this many bytes."""

Outcome = Published | ClientError

logger = logging.getLogger("chat_server.client")


class NewMessage(Struct, frozen=True):
    """A message to publish.

    Args:
        topic: the topic of the message.
        data: any value with a JSON form.
        key: an idempotency key of 1 to 64 characters, as of `Client.publish`; None generates a key.
    """

    topic: str
    data: object
    key: str | None = None


class _Result(Struct):
    topic: str | None = None
    seq: Seq | None = None
    epoch: str | None = None
    at: int | None = None
    duplicate: bool | None = None
    error: ItemError | None = None

    def place(self) -> Published:
        """Return the place of a stored message.

        Raises:
            BadServer: a part of the place is missing.
        """
        match self:
            case _Result(str(topic), int(seq), str(epoch), int(at), bool(duplicate)):
                return Published(topic, seq, epoch, at, duplicate)
        raise BadServer("a result of a batch has neither a place nor an error")


class _Answer(Struct):
    results: list[_Result]


class _Item:
    """A message with its JSON, its cost in the rate, and its outcome."""

    __slots__ = ("cost", "outcome", "publication", "text")

    def __init__(self, publication: Publication, text: bytes) -> None:
        self.publication = publication
        self.text = text
        self.cost = 1 + len(text) // COUNT_BYTES
        self.outcome: Outcome | None = None

    def settle(self, result: _Result) -> CommandFailed | None:
        """Apply the server's result; return a transient error, after which a retry may succeed."""
        if result.error is None:
            self.outcome = self.publication.conclude(result.place())
            return None
        told = result.error
        error = CommandFailed(told.code, told.message, told.retry_in_ms)
        self.publication.refuse(error)
        if error.transient:
            return error
        self.outcome = error
        return None


class Batches:
    """Publishes the batches of a client.

    Attributes:
        pace: limits the rate of all batches.
    """

    def __init__(
        self, reconnector: Reconnector, codec: ClientCodec, log: PublicationLog, pace: Pace
    ) -> None:
        self.pace = pace
        self._reconnector = reconnector
        self._codec = codec
        self._json = ClientCodec("json")
        self._log = log
        self._avoid_until = 0.0

    async def publish(
        self,
        messages: Iterable[NewMessage],
        on_refusal: Callable[[CommandFailed], None] | None,
        timeout: float | None,
    ) -> list[Outcome]:
        """See `Client.publish_many`."""
        run = secrets.token_hex(8)
        items = [self._item(message, f"{run}-{n}") for n, message in enumerate(messages)]
        failure: ClientError | None = None
        try:
            async with asyncio.timeout(timeout):
                await _Run(self, on_refusal).finish(items)
        except TimeoutError:
            pass
        except ClientError as error:  # the client has ended
            failure = error
        return [item.outcome or failure or _timed_out(item, timeout) for item in items]

    def _item(self, message: NewMessage, key: str) -> _Item:
        key = key if message.key is None else message.key
        data = self._json.data(message.data)
        text = msgspec.json.encode({"topic": message.topic, "data": data, "key": key})
        if self._codec.subprotocol != self._json.subprotocol:
            data = self._codec.data(message.data)
        return _Item(self._log.publication(message.topic, data, key), text)

    async def connection(self) -> Connection:
        """Wait for a connection, and return it."""
        return await self._reconnector.wait()

    @property
    def by_http(self) -> bool:
        """True if the client may try HTTP."""
        return time.monotonic() >= self._avoid_until

    def avoid_http(self) -> None:
        """Use the WebSocket for a while."""
        self._avoid_until = time.monotonic() + AVOID_SECONDS

    async def post(self, items: Sequence[_Item]) -> list[_Result]:
        """Send a batch, and return the results.

        Raises:
            CommandFailed: the server refused the whole batch.
            NotConnected, ConnectFailed: the exchange failed; any message may be stored.
            BadServer: the answer is not a chat server's.
        """
        body = b'{"messages":[%b]}' % b",".join([item.text for item in items])
        try:
            answer = await self._ask(body, fresh=False)
        except CommandFailed as error:
            if error.code != Unauthorized.code:
                raise
            # The token may have expired since the WebSocket's handshake.
            answer = await self._ask(body, fresh=True)
        try:
            results = msgspec.json.decode(answer, type=_Answer).results
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise BadServer(f"the answer to a batch cannot be read: {error}") from None
        if len(results) != len(items):
            raise BadServer("the answer to a batch has another number of results")
        return results

    async def _ask(self, body: bytes, *, fresh: bool) -> bytes:
        return await self._reconnector.ask(
            BATCH_PATH, most=MAX_ANSWER_BYTES, body=body, seconds=ANSWER_SECONDS, fresh=fresh
        )


class _Run:
    """Publishes the messages of one call.

    Args:
        batches: the batches of the client.
        on_refusal: called with each refusal before messages are resent.
    """

    def __init__(
        self, batches: Batches, on_refusal: Callable[[CommandFailed], None] | None
    ) -> None:
        self._batches = batches
        self._on_refusal = on_refusal
        self._refusals = 0
        self._failures = 0

    async def finish(self, items: list[_Item]) -> None:
        """Send until every item has its outcome; keep the order of each topic.

        Raises:
            ClientError: the client has ended.
        """
        while items:
            connection = await self._batches.connection()
            chunk = await self._next(items, connection)
            if len(chunk) > 1 and self._batches.by_http:
                await self._by_http(chunk, connection)
            else:
                for item in chunk:
                    await self._by_socket(item)
            items = [item for item in chunk if item.outcome is None] + items[len(chunk) :]

    async def _next(self, items: list[_Item], connection: Connection) -> list[_Item]:
        """Return the first items, as many as the rate and the maximum body size allow now."""
        budget = await self._batches.pace.budget()
        room = BATCH_MESSAGES * connection.welcome.limits.max_message_bytes - 100
        count, cost, size = 0, 0, 0
        for item in items[:MAX_BATCH]:
            size += len(item.text) + 1
            if count and (size > room or cost + item.cost > budget):
                break
            count += 1
            cost += item.cost
        self._batches.pace.spend(cost)
        return items[:count]

    async def _by_http(self, chunk: list[_Item], connection: Connection) -> None:
        ready = [item for item in chunk if item.publication.begin(connection)]
        if len(ready) < len(chunk):
            # The server may have forgotten keys, so the client reads history over the WebSocket.
            for item in chunk:
                await self._by_socket(item)
            return
        try:
            refused = await self._exchange(ready)
        except CommandFailed as error:
            await self._refused(ready, error)
        except (NotConnected, ConnectFailed, BadServer) as error:
            self._failures += 1
            if self._failures > MAX_FAILURES or isinstance(error, BadServer):
                self._batches.avoid_http()
            await asyncio.sleep(retry_delay(EXCHANGE_RETRY_MS, self._failures))
        else:
            self._failures = 0
            if len(refused) < len(ready):
                self._refusals = 0
            if refused:
                await self._wait(max(refused, key=lambda error: error.retry_in_ms or 0))

    async def _refused(self, items: list[_Item], error: CommandFailed) -> None:
        """Wait after a transient refusal of a batch; otherwise switch to the WebSocket."""
        for item in items:
            item.publication.refuse(error)
        if error.transient:
            await self._wait(error)
        else:
            self._batches.avoid_http()

    async def _exchange(self, items: list[_Item]) -> list[CommandFailed]:
        """Send a batch, settle its items, and return the transient refusals."""
        try:
            results = await self._batches.post(items)
            settled = [item.settle(each) for item, each in zip(items, results, strict=True)]
        except (NotConnected, BadServer, asyncio.CancelledError):
            for item in items:
                if item.outcome is None:
                    item.publication.lose()
            raise
        return [error for error in settled if error is not None]

    async def _by_socket(self, item: _Item) -> None:
        while item.outcome is None:
            try:
                item.outcome = await item.publication.deliver(wait=True)
            except OutcomeUnknown as error:
                item.outcome = error
            except CommandFailed as error:
                if error.transient:
                    await self._wait(error)
                else:
                    item.outcome = error
            else:
                self._refusals = 0

    async def _wait(self, error: CommandFailed) -> None:
        """Wait for the time that the server requests; the wait grows with each refusal in a row."""
        if error.code == RateLimited.code:
            self._batches.pace.exhaust()
        if self._on_refusal is not None:
            try:
                self._on_refusal(error)
            except Exception:
                logger.exception("on_refusal failed")
        await asyncio.sleep(retry_delay(error.retry_in_ms, self._refusals))
        self._refusals += 1


def _timed_out(item: _Item, timeout: float | None) -> TimedOut:
    return TimedOut(timeout or 0.0, maybe_stored=item.publication.maybe_stored)
