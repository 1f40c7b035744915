"""The requests that the front door serves itself: WebSocket handshakes, and publications.

Here is decided what is hot. A hot request is carried out by the same functions as on its way
through Quart. One that is refused before it has had any effect is left to Quart, whose refusal is
then the only one (docs/design/front-door.md).
"""

import asyncio
import logging
import re
import time
from asyncio import Future
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from typing import Any
from urllib.parse import unquote
from wsgiref.handlers import format_date_time

import msgspec

from ..app import ChatServer
from ..auth.bearer import bearer_token
from ..http import hosts, problems
from ..http.commands import OK_HEADERS, publish_status
from ..http.requests import REQUEST_ID_HEADER, SECURITY_HEADERS, log_answer, request_id_of
from ..protocol.batch import BATCH_PATH
from ..protocol.codecs import JsonCodec
from ..protocol.commands import Publish
from ..protocol.messages import PublishOk
from ..service.actor import Actor
from ..service.answers import Answer, unfinished
from ..service.batch import publish_batch
from ..transports.opening import Handshake, Opening
from .request_head import Head, Unusual

logger = logging.getLogger(__name__)

_PUBLISH = re.compile(rb"/api/topics/([!-.0-~]+)/messages")
_BATCH = BATCH_PATH.encode()
# Of names that are longer, or have other characters, some are no hosts to Werkzeug.
_HOST = re.compile(
    rb"(?:[A-Za-z0-9-]{1,57}(?:\.[A-Za-z0-9-]{1,57})*|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?"
)
_QUERY_TOKEN = re.compile(rb"token=([A-Za-z0-9._-]+)")
_SUBPROTOCOLS = re.compile(r"[A-Za-z0-9._+/=-]+(?:, ?[A-Za-z0-9._+/=-]+)*")
_LENGTH = re.compile(rb"[0-9]{1,9}")

_CHANGING = frozenset(
    (b"expect", b"transfer-encoding", b"content-encoding", b"upgrade", b"origin", b"te")
)
"""Headers with which an HTTP request is unusual: `Origin` asks for those of CORS."""


def _lines(headers: Mapping[str, str]) -> str:
    return "".join(f"{name.lower()}: {value}\r\n" for name, value in headers.items())


_OK_LINES = _lines(OK_HEADERS)

Respond = Callable[[bytes], None]


class HotRequests:
    """Carries out hot requests for the front doors of a worker.

    Args:
        chat: the worker's.
        always: headers of every response, besides those for security.
        largest: the bytes that the body of a message and that of a batch may have.
    """

    def __init__(
        self, chat: ChatServer, always: Mapping[str, str], largest: tuple[int, int]
    ) -> None:
        settings = chat.settings
        self._service = service = chat.service
        self._verifier = chat.verifier
        self._opening = Opening(service)
        self._codec = JsonCodec(service.commands)
        self._drain = chat.node.drain
        self._largest = largest
        self._timeout = settings.http.request_timeout_seconds
        self._takes_sockets = not settings.gateway.leaves_sockets
        self._only_this_machine = hosts.restricts(settings)
        self._security = _lines(SECURITY_HEADERS)
        self._always = _lines(always)
        self._date = (0, "")

    @property
    def draining(self) -> bool:
        """Whether every answer is the last one of its connection."""
        return self._drain.announced

    def length_of(self, head: Head) -> int:
        """Return the number of bytes of the body behind a head.

        Raises:
            Unusual: the request is not hot.
        """
        if self.draining or _HOST.fullmatch(head.headers.get(b"host", b"")) is None:
            raise Unusual
        if self._only_this_machine and not hosts.is_this_machine(head.get(b"host") or ""):
            raise Unusual
        if head.method == b"GET":
            if head.path != b"/ws" or not self._takes_sockets or b"content-length" in head.headers:
                raise Unusual
            return 0
        length = head.headers.get(b"content-length", b"")
        is_batch = head.path == _BATCH
        if (
            (not is_batch and _PUBLISH.fullmatch(head.path) is None)
            or head.query
            or _LENGTH.fullmatch(length) is None
            or head.headers.get(b"connection", b"keep-alive").lower() != b"keep-alive"
            or not _CHANGING.isdisjoint(head.headers)
            or int(length) > self._largest[is_batch]
        ):
            raise Unusual
        return int(length)

    # WebSockets ----------------------------------------------------------------------------

    def admit(self, head: Head, peer: str | None) -> "Callable[[asyncio.Transport], None]":
        """Return what connects the client of a handshake, given its socket.

        Args:
            head: the handshake.
            peer: the address at the other end of the socket.

        Raises:
            Unusual: the handshake is refused, or its token cannot be judged at once.
        """
        handshake = _handshake(head, peer)
        try:
            accept = handshake.accept_key()
            admission = self._opening.admit_now(handshake)
        except Exception:  # also a fault, which Quart answers and logs
            raise Unusual from None
        if admission is None:
            raise Unusual
        return partial(
            self._opening.connect, handshake=handshake, accept=accept, admission=admission
        )

    # Publications --------------------------------------------------------------------------

    def carry_out(
        self, head: Head, body: bytes, respond: Respond
    ) -> Coroutine[Any, Any, None] | None:
        """Carry out a publication; `respond` is called with the answer, at once or later.

        Returns:
            What has to be run for the answer, if it does not come by itself.

        Raises:
            Unusual: the request is refused, and nothing has happened.
        """
        try:
            claims = self._verifier.verify_now(bearer_token(head.all(b"authorization")))
        except Exception:
            raise Unusual from None
        if claims is None:
            raise Unusual
        pending = _Pending(self, head, respond)
        if head.path == _BATCH:
            return self._publish_batch(Actor(claims), body, pending)
        self._publish(Actor(claims), head, body, pending)
        return None

    async def _publish_batch(self, actor: Actor, body: bytes, pending: "_Pending") -> None:
        try:
            self._service.limit_requests(actor)
            ok = await publish_batch(self._service, actor, body)
        except asyncio.CancelledError:
            pending.refuse(unfinished())
            raise
        except Exception as error:
            pending.refuse(error)
        else:
            pending.end(200, _OK_LINES, msgspec.json.encode(ok))

    def _publish(self, actor: Actor, head: Head, body: bytes, pending: "_Pending") -> None:
        found = _PUBLISH.fullmatch(head.path)
        topic = "" if found is None else found[1].decode("ascii")
        service = self._service
        try:
            if "%" in topic:
                topic = unquote(topic, errors="strict")
            service.authorize(actor, Publish, topic)
            command = self._codec.decode_body(body, Publish, {"topic": topic})
        except Exception:
            raise Unusual from None
        # From here on the request counts, so it must not be carried out once more.
        try:
            service.limit_requests(actor)
            service.charge_request(actor, len(body))
            reply = service.execute(actor, command)
            assert isinstance(reply, Answer)  # noqa: S101 - as `publish` returns it
        except (Exception, asyncio.CancelledError) as error:  # a hook may raise anything
            pending.refuse(error)
            return
        pending.expect(reply, self._timeout)

    def response(self, status: int, headers: str, body: bytes, request_id: str) -> bytes:
        """Return the bytes of a response, with what every response has.

        Args:
            status: of the response.
            headers: its own without the length, each with a line break behind it.
            body: of the response.
            request_id: as sent or made.
        """
        close = "connection: close\r\n" if self.draining else ""
        return (
            f"HTTP/1.1 {status} \r\n{headers}content-length: {len(body)}\r\n"
            f"{self._security}{REQUEST_ID_HEADER.lower()}: {request_id}\r\n{self._always}{close}"
            f"date: {self._now()}\r\n\r\n"
        ).encode("latin-1") + body

    def _now(self) -> str:
        second = int(time.time())
        if self._date[0] != second:
            self._date = (second, format_date_time(second))
        return self._date[1]


class _Pending:
    """A publication under way.

    Args:
        hot: makes the response.
        head: of the request.
        respond: called once.
    """

    __slots__ = ("_answer", "_began_at", "_head", "_hot", "_id", "_respond", "_timer")

    def __init__(self, hot: HotRequests, head: Head, respond: Respond) -> None:
        self._hot = hot
        self._head = head
        self._respond: Respond | None = respond
        self._id = request_id_of(head.get(REQUEST_ID_HEADER.lower().encode()) or "")
        self._began_at = time.monotonic()
        self._timer: asyncio.TimerHandle | None = None
        self._answer: Answer

    def expect(self, answer: Answer, timeout: float) -> None:
        """Respond with the outcome of `answer`, or after `timeout` seconds without it."""
        self._answer = answer
        if answer.future.done():
            self._on_outcome(answer.future)
            return
        self._timer = asyncio.get_running_loop().call_later(timeout, self._on_timeout)
        answer.future.add_done_callback(self._on_outcome)

    def _on_outcome(self, future: "Future[object]") -> None:
        try:
            ok = self._answer.make_ok(future.result())
            assert isinstance(ok, PublishOk)  # noqa: S101 - as `publish` makes it
        except asyncio.CancelledError:
            self.refuse(unfinished())
            return
        except Exception as error:
            self.refuse(error)
            return
        self.end(publish_status(ok), _OK_LINES, msgspec.json.encode(ok))

    def _on_timeout(self) -> None:
        self.refuse(unfinished())

    def refuse(self, error: BaseException) -> None:
        """Respond with an error."""
        problem = problems.problem_of(error, self._id)
        self.end(problem.status, _lines(problems.headers_of(problem)), problems.encode(problem))

    def end(self, status: int, headers: str, body: bytes) -> None:
        """Respond, unless that has been done."""
        if self._timer is not None:
            self._timer.cancel()
        respond, self._respond = self._respond, None
        if respond is None:
            return  # It was answered when its time was over.
        log_answer("POST", unquote(self._head.path), status, self._began_at, self._id)
        respond(self._hot.response(status, headers, body, self._id))


def _handshake(head: Head, peer: str | None) -> Handshake:
    """Return what a handshake says.

    Raises:
        Unusual: it is no complete one, or says something unusual.
    """
    tokens = (token.strip() for token in head.headers.get(b"connection", b"").lower().split(b","))
    if (
        head.headers.get(b"upgrade", b"").lower() != b"websocket"
        or b"upgrade" not in tokens
        or head.headers.get(b"sec-websocket-version") != b"13"
        or b"transfer-encoding" in head.headers
        or b"expect" in head.headers
    ):
        raise Unusual
    token = _QUERY_TOKEN.fullmatch(head.query) if head.query else None
    offered = head.get(b"sec-websocket-protocol")
    if (head.query and token is None) or (
        offered is not None and _SUBPROTOCOLS.fullmatch(offered) is None
    ):
        raise Unusual
    return Handshake(
        origin=head.get(b"origin"),
        host=head.get(b"host"),
        authorization=head.all(b"authorization"),
        subprotocols=[] if offered is None else [name.strip() for name in offered.split(",")],
        token=None if token is None else token[1].decode(),
        extensions=head.all(b"sec-websocket-extensions"),
        key=head.get(b"sec-websocket-key") or "",
        forwarded_for=head.all(b"x-forwarded-for"),
        peer=peer,
    )
