"""Publications by HTTP at the front door: parse a request's head, publish, and answer."""

import asyncio
import re
import time
from asyncio import Future
from collections.abc import Callable, Coroutine, Mapping
from typing import Any
from urllib.parse import unquote

import msgspec

from ..auth.bearer import bearer_token
from ..auth.claims import Claims
from ..extension import ChatServer
from ..http import problems
from ..http.commands import OK_HEADERS, publish_status
from ..http.quota import quota_headers
from ..http.requests import log_answer, request_id_of
from ..protocol.batch import BATCH_PATH
from ..protocol.codecs import JsonCodec
from ..protocol.commands import Publish
from ..protocol.errors import ChatError
from ..protocol.messages import PublishOk
from ..realtime.refusals import count_refusal
from ..service.actor import Actor
from ..service.answers import Answer, unfinished
from ..service.batch import publish_batch
from .request_head import Head, HeadPattern, Unusual
from .responses import REQUEST_ID, SECURITY, Responses, lines

PUBLISH = re.compile(rb"/api/topics/([!-.0-~]+)/messages")
BATCH = BATCH_PATH.encode()

MAX_KEPT_BYTES = 4_096
"""Bytes of the longest head that a connection keeps as a pattern."""

Respond = Callable[[bytes], None]


def _begin(status: int, headers: Mapping[str, str]) -> bytes:
    """Return the beginning of a response, up to the number in `content-length`."""
    return b"HTTP/1.1 %d \r\n%bcontent-length: " % (status, lines(headers))


_OK = {status: _begin(status, OK_HEADERS) for status in (200, 201)}


class Request:
    """A request that publishes, parsed from its head.

    A client that keeps its connection sends the same head repeatedly; only the length differs. The
    fields are therefore parsed once. The token is verified for every request.

    Args:
        head: the head of a hot request that publishes.
        data: the bytes of the head, and all bytes behind the head.
        address: the client's address.

    Raises:
        Unusual: the request has no token or no topic.

    Attributes:
        pattern: recognises the same head again; None for a head that is too long or unusual.
        is_batch: True if the body has many messages.
        address: the client's address.
        topic: the topic in the path, not checked yet; empty for a batch.
        path: the path of the request, for the log.
        token: the token of the request, not verified yet.
        request_id: the request id of the client.
        claims: the claims of the token at the last request.
        actor: the actor of the claims; may publish in the topic.
    """

    __slots__ = (
        *("actor", "address", "claims", "is_batch", "path", "pattern", "request_id"),
        *("token", "topic"),
    )

    def __init__(self, head: Head, data: bytes, address: str) -> None:
        self.address = address
        found = PUBLISH.fullmatch(head.path)
        topic = "" if found is None else found[1].decode("ascii")
        self.pattern = _pattern(data[: head.end])
        self.is_batch = found is None
        try:
            self.topic = unquote(topic, errors="strict") if "%" in topic else topic
            self.path = unquote(head.path)
            self.token = bearer_token(head.all(b"authorization"))
        except (ChatError, ValueError):
            raise Unusual from None
        self.request_id = head.get(REQUEST_ID) or ""
        self.claims: Claims | None = None
        self.actor: Actor


def _pattern(head: bytes) -> HeadPattern | None:
    try:
        return HeadPattern(head) if len(head) <= MAX_KEPT_BYTES else None
    except ValueError:
        return None


class HotPublications:
    """Executes publications for the front doors of a worker.

    Args:
        chat: the worker's `ChatServer`.
        responses: makes the bytes of the answers.
        vary: the header `Vary` of every answer; empty for none.

    Attributes:
        numbers: the worker's counters.
        timers: the worker's timers.
        timeout: seconds that a request may take.
        encode: returns the JSON of a body.
    """

    def __init__(self, chat: ChatServer, responses: Responses, vary: str) -> None:
        self._service = chat.service
        self._verifier = chat.verifier
        self._codec = JsonCodec(chat.service.commands)
        self._responses = responses
        self._always = {"Vary": vary} if vary else {}
        self.numbers = chat.node.numbers
        self.timers = chat.node.timers
        self.timeout = chat.settings.http.request_timeout_seconds
        self.encode = msgspec.json.Encoder().encode
        self._rates = chat.node.message_rates
        self._clock = chat.node.clock

    def carry_out(
        self, request: Request, body: bytes, respond: Respond
    ) -> Coroutine[Any, Any, None] | None:
        """Execute a publication, and call `respond` with the answer, now or later.

        Returns:
            A coroutine that the caller must run for the answer; None if the answer comes without
            one.

        Raises:
            Unusual: the request is refused without any effect.
        """
        service = self._service
        try:
            claims = self._verifier.verify_now(request.token)
            if claims is None:
                raise Unusual
            if claims is not request.claims:
                actor = Actor(claims)
                actor.peer = request.address
                if not request.is_batch:
                    service.authorize(actor, Publish, request.topic)
                request.actor, request.claims = actor, claims
            if request.is_batch:
                return self._publish_batch(request, body, _Pending(self, request, respond))
            command = self._codec.decode_publication(body, request.topic)
        except Exception:  # also a fault: Quart answers and logs faults
            raise Unusual from None
        pending = _Pending(self, request, respond)
        # From here on the request counts against the rate, so a second execution is not allowed.
        try:
            service.limit_requests(request.actor, len(body), request.topic)
            answer = service.execute(request.actor, command, authorized=True)
            assert isinstance(answer, Answer)  # noqa: S101 - `publish` returns an Answer
        except (Exception, asyncio.CancelledError) as error:  # A hook may raise any exception.
            pending.refuse(error)
        else:
            pending.expect(answer)
        return None

    async def _publish_batch(self, request: Request, body: bytes, pending: "_Pending") -> None:
        try:
            self._service.limit_requests(request.actor)
            ok = await publish_batch(self._service, request.actor, body)
        except asyncio.CancelledError:
            pending.refuse(unfinished())
            raise
        except Exception as error:
            pending.refuse(error)
        else:
            pending.end(_OK[200], self.encode(ok))

    def response(self, begin: bytes, body: bytes, actor: Actor, request_id: str) -> bytes:
        """Return the bytes of a response, with the quota headers of a publication.

        Args:
            begin: the beginning of the response, up to the number in `content-length`.
            body: the body of the response.
            actor: the sender of the request.
            request_id: the request id, sent or generated.
        """
        end = quota_headers(self._rates, actor, self._clock.monotonic()) | self._always
        begin = b"%b%d\r\n%b" % (begin, len(body), SECURITY)
        return self._responses.make(begin, body, request_id, end)


class _Pending:
    """A publication under way.

    Args:
        hot: makes the response.
        request: the request.
        respond: called once.
    """

    __slots__ = ("_answer", "_began_at", "_hot", "_id", "_request", "_respond", "_slot")

    def __init__(self, hot: HotPublications, request: Request, respond: Respond) -> None:
        self._hot = hot
        self._request = request
        self._respond: Respond | None = respond
        self._id = request_id_of(request.request_id)
        self._began_at = time.monotonic()
        self._slot: int | None = None
        self._answer: Answer

    def expect(self, answer: Answer) -> None:
        """Respond with the outcome of `answer`, or with an error after the timeout."""
        self._answer = answer
        if answer.future.done():
            self._on_outcome(answer.future)
            return
        self._wait()
        answer.future.add_done_callback(self._on_outcome)

    def _wait(self) -> None:
        left = self._began_at + self._hot.timeout - time.monotonic()
        self._slot = self._hot.timers.schedule(self._on_timer, left)

    def _on_timer(self) -> None:
        # A slotted timer with a long delay may fire too early.
        self._slot = None
        if time.monotonic() < self._began_at + self._hot.timeout:
            self._wait()
        else:
            self.refuse(unfinished())

    def _on_outcome(self, future: "Future[object]") -> None:
        try:
            ok = self._answer.make_ok(future.result())
            assert isinstance(ok, PublishOk)  # noqa: S101 - as `publish` makes it
        except asyncio.CancelledError:
            self.refuse(unfinished())
        except Exception as error:
            self.refuse(error)
        else:
            self._count("ok")
            self.end(_OK[publish_status(ok)], self._hot.encode(ok))

    def _count(self, outcome: str) -> None:
        """Count a publication by its outcome; the messages of a batch are counted separately."""
        if not self._request.is_batch:
            numbers = self._hot.numbers
            numbers.commands[Publish, outcome] += 1
            if outcome == "ok":
                numbers.publish_seconds.observe(time.monotonic() - self._began_at)

    def refuse(self, error: BaseException) -> None:
        """Respond with an error."""
        self._count(error.code if isinstance(error, ChatError) else "internal")
        count_refusal(self._hot.numbers, error)
        problem = problems.problem_of(error, self._id)
        headers = problems.headers_of(problem)
        self.end(_begin(problem.status, headers), problems.encode(problem))

    def end(self, begin: bytes, body: bytes) -> None:
        """Respond, unless a response was sent already."""
        if self._slot is not None:
            self._hot.timers.cancel(self._on_timer, self._slot)
        respond, self._respond = self._respond, None
        if respond is None:
            return  # The timeout has answered already.
        status = int(begin[9:12])
        self._hot.numbers.http_responses[status] += 1
        log_answer("POST", self._request.path, status, self._began_at, self._id)
        respond(self._hot.response(begin, body, self._request.actor, self._id))
