"""The requests that the front door serves itself: WebSocket handshakes, publications and files.

This module decides which requests are hot. A hot request runs the same functions as a request
through Quart. If a hot request is refused before it has any effect, Quart gets the request and
sends the only refusal (docs/design/front-door.md).
"""

import asyncio
import re
import time
from collections.abc import Callable, Mapping
from functools import partial

from ..addresses import client_address
from ..extension import ChatServer
from ..http import hosts, problems
from ..http.pages import File
from ..http.requests import log_answer, request_id_of
from ..protocol.errors import RateLimited
from ..realtime.refusals import count_refusal
from ..transports.opening import Handshake, Opening
from .hot_files import HotFiles
from .hot_publications import BATCH, PUBLISH, HotPublications, Request
from .request_head import MAX_DIGITS, Head, Unusual
from .responses import REQUEST_ID, SECURITY, Responses, lines

# Werkzeug rejects some host names that are longer or have other characters.
_HOST = re.compile(
    rb"(?:[A-Za-z0-9-]{1,57}(?:\.[A-Za-z0-9-]{1,57})*|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?"
)
_QUERY_TOKEN = re.compile(rb"token=([A-Za-z0-9._-]+)")
_SUBPROTOCOLS = re.compile(r"[A-Za-z0-9._+/=-]+(?:, ?[A-Za-z0-9._+/=-]+)*")
_LENGTH = re.compile(rb"[0-9]{1,%d}" % MAX_DIGITS)

_CHANGING = frozenset(
    (b"expect", b"transfer-encoding", b"content-encoding", b"upgrade", b"origin", b"te")
)
"""Headers with which an HTTP request is unusual; `Origin` requires CORS headers."""


class HotRequests:
    """Executes hot requests for the front doors of a worker.

    Args:
        chat: the worker's `ChatServer`.
        vary: the header `Vary` of every response; empty for none.
        largest: the largest body of a message and of a batch, in bytes.
        files: the page's files, by path.

    Attributes:
        publications: executes requests that publish.
        files: answers requests for a file.
    """

    def __init__(
        self, chat: ChatServer, vary: str, largest: tuple[int, int], files: Mapping[str, File]
    ) -> None:
        settings = chat.settings
        self._chat = chat
        self._responses = responses = Responses(chat.node.drain)
        self._always = {"Vary": vary} if vary else {}
        self.publications = HotPublications(chat, responses, vary)
        self.files = HotFiles(files, chat.node.numbers, responses, vary)
        self._opening = Opening(chat.service)
        self._drain = chat.node.drain
        self._hops = settings.server.trusted_proxy_hops
        self._largest = largest
        self._takes_sockets = not settings.gateway.leaves_sockets
        self._only_this_machine = hosts.restricts(settings)

    @property
    def draining(self) -> bool:
        """True if every answer is the last one of its connection."""
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
            if head.path != b"/ws":
                self.files.check(head)
            elif not self._takes_sockets or b"content-length" in head.headers:
                raise Unusual
            return 0
        length = head.headers.get(b"content-length", b"")
        is_batch = head.path == BATCH
        if (
            (not is_batch and PUBLISH.fullmatch(head.path) is None)
            or head.query
            or _LENGTH.fullmatch(length) is None
            or not head.keeps_alive
            or not _CHANGING.isdisjoint(head.headers)
            or int(length) > self._largest[is_batch]
        ):
            raise Unusual
        return int(length)

    def repeats(self, request: Request, data: bytes) -> tuple[int, int] | None:
        """Return the start and end of the body of another request with the same head.

        Args:
            request: an earlier hot request.
            data: the received bytes; the end of the body may be missing.

        Returns:
            None for another head.

        Raises:
            Unusual: the request is not hot.
        """
        found = None if request.pattern is None else request.pattern.match(data)
        if found is None:
            return None
        length, begin = found
        if self._drain.announced or length > self._largest[request.is_batch]:
            raise Unusual
        return begin, begin + length

    def address_of(self, head: Head, peer: str | None) -> str:
        """Return the client's address; `peer` is the address at the other end of the socket."""
        return client_address(peer, head.all(b"x-forwarded-for"), self._hops)

    # WebSockets ----------------------------------------------------------------------------

    def admit(self, head: Head, peer: str | None) -> "Callable[[asyncio.Transport], None] | bytes":
        """Return a function that connects the client of a handshake, or the bytes of a refusal.

        The function gets the client's socket. Only a client beyond its rate is refused here,
        because such a refusal must cost next to nothing.

        Args:
            head: the handshake.
            peer: the address at the other end of the socket.

        Raises:
            Unusual: another reason refuses the handshake, or verifying its token takes time.
        """
        handshake = _handshake(head, peer)
        try:
            accept = handshake.accept_key()
            admission = self._opening.admit_now(handshake)
        except RateLimited as error:
            return self._too_often(head, handshake, error)
        except Exception:  # also a fault: Quart answers and logs faults
            raise Unusual from None
        if admission is None:
            raise Unusual
        return partial(
            self._opening.connect, handshake=handshake, accept=accept, admission=admission
        )

    def _too_often(self, head: Head, handshake: Handshake, error: RateLimited) -> bytes:
        began_at, numbers = time.monotonic(), self._chat.node.numbers
        request_id = request_id_of(head.get(REQUEST_ID) or "")
        problem = problems.problem_of(error, request_id)
        body = problems.encode(problem)
        self._chat.handshake_log.note_from(
            *(self._opening.address_of(handshake), problem.status, problem.detail),
            origin=handshake.origin,
            host=handshake.host,
        )
        count_refusal(numbers, error)
        numbers.http_responses[problem.status] += 1
        log_answer("GET", "/ws", problem.status, began_at, request_id)
        headers = problems.headers_of(problem) | {"Content-Length": str(len(body))} | self._always
        begin = b"HTTP/1.1 %d \r\n%b%b" % (problem.status, lines(headers), SECURITY)
        return self._responses.make(begin, body, request_id, {})


def _handshake(head: Head, peer: str | None) -> Handshake:
    """Return the parsed handshake.

    Raises:
        Unusual: the handshake is incomplete or unusual.
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
        agent=head.get(b"user-agent"),
    )
