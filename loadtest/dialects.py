"""The messages of the load test for each kind of server, and the patterns of the answers.

Every message carries `{"pad": "xx…", "due": 123}`: its due time, in ns of the monotonic clock that
all processes of one machine share.
"""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import ClassVar

from msgspec import Struct

from .wire import frame

DUE = re.compile(rb'"due": ?(\d+)\}').findall
"""Finds the due times of all messages in some frames."""

UNREAD_TOPICS = 100

BATCH = 100
"""Messages in one request of a batch."""

NOT_SERVED = "not served"
"""Beginning of the refusal of a server without this endpoint."""

API_KEY = "loadtest"
"""Key of the HTTP API, for servers that require one."""

_BARE_DATA = len(b'{"pad":"","due":1234567890123456}')

Step = tuple[bytes, bytes]
"""The expected bytes, and the frames to send next; no bytes: send immediately after connecting."""


class Position(Struct, frozen=True):
    """A position in a topic's order."""

    epoch: str
    seq: int


_CODES = re.compile(rb'"code": ?"?(\w+)').findall
_ACCEPTED = re.compile(rb'"type":"ok".*?"topic":"[^"]*"(?:,"epoch":"([^"]*)")?,"seq":(\d+)').search


class Dialect:
    """The dialect `chat.v1.json`; subclasses define the dialects of other servers.

    `steps` makes a new connection ready; the answer of each step triggers the next step.
    """

    http: ClassVar[bool] = False
    """True for a dialect over an `Exchange` instead of a `Socket`."""
    authenticates: ClassVar[bool] = True
    acknowledges: ClassVar[bool] = True
    orders: ClassVar[bool] = True

    seqs = staticmethod(re.compile(rb'"type":"message","topic":"[^"]*","seq":(\d+)').findall)
    """Finds the seqs of all messages in some frames."""
    stamps = staticmethod(DUE)
    acknowledged = staticmethod(re.compile(rb'"type":"ok","id":(\d+)').findall)
    errors = staticmethod(re.compile(rb'"type":"error"[^}]*?"code":"(\w+)"').findall)

    def path(self, topic: str) -> str:
        """Return the request path of a client of a topic."""
        return "/ws"

    def headers(self, token: str) -> str:
        """Return the request's header lines with the token."""
        return f"Sec-WebSocket-Protocol: chat.v1.json\r\nAuthorization: Bearer {token}\r\n"

    def steps(self, topic: str | None, token: str, since: Position | None) -> Sequence[Step]:
        """Return the steps to readiness.

        Args:
            topic: the topic to subscribe to; None for a client that only publishes.
            token: the client's token, for dialects without a token in the headers.
            since: the position to resume from; None begins with new messages.
        """
        if topic is None:
            return [(b'"welcome"', b"")]
        place = b""
        if since is not None:
            place = b',"since":{"epoch":"%s","seq":%d}' % (since.epoch.encode(), since.seq)
        subscribe = b'{"type":"subscribe","id":1,"topic":"%s"%s}' % (topic.encode(), place)
        return [(b'"welcome"', frame(subscribe)), (b'"ok"', b"")]

    def position(self, data: bytes) -> Position | None:
        """Return the position in the answer to a subscription; messages follow this position."""
        found = _ACCEPTED(data)
        return Position((found[1] or b"").decode(), int(found[2])) if found else None

    def refusal(self, data: bytes) -> str:
        """Return the text of an error answer."""
        return data[2:].decode(errors="replace")

    def publish(self, topic: str, number: int, data: bytes) -> bytes:
        """Return the frame that publishes `data`; its answer carries `number`."""
        text = b'{"type":"publish","id":%d,"topic":"%s","data":%s}'
        return frame(text % (number, topic.encode(), data))


class Plain(Dialect):
    """The same protocol without tokens, order and acknowledgements, for the servers of `peers`."""

    authenticates = False
    acknowledges = False
    orders = False

    def headers(self, token: str) -> str:
        return ""


class SocketIO(Dialect):
    """Engine.IO 4 and Socket.IO 5 on its WebSocket."""

    authenticates = False
    acknowledges = False
    orders = False

    def path(self, topic: str) -> str:
        return "/socket.io/?EIO=4&transport=websocket"

    def headers(self, token: str) -> str:
        return ""

    def steps(self, topic: str | None, token: str, since: Position | None) -> Sequence[Step]:
        joined = b"" if topic is None else frame(b'420["subscribe","%s"]' % topic.encode())
        steps = [(b"0{", frame(b"40")), (b"40{", joined)]
        return steps if topic is None else [*steps, (b"430[", b"")]

    def publish(self, topic: str, number: int, data: bytes) -> bytes:
        return frame(b'42["publish","%s",%s]' % (topic.encode(), data))


class Nats(Dialect):
    """The NATS client protocol in binary frames."""

    authenticates = False
    acknowledges = False
    orders = False

    def path(self, topic: str) -> str:
        return "/"

    def headers(self, token: str) -> str:
        return ""

    def steps(self, topic: str | None, token: str, since: Position | None) -> Sequence[Step]:
        subscribe = b"" if topic is None else b"SUB %s 1\r\n" % topic.encode()
        hello = b'CONNECT {"verbose":false,"pedantic":false}\r\n' + subscribe + b"PING\r\n"
        return [(b"INFO ", frame(hello, binary=True)), (b"PONG", b"")]

    def publish(self, topic: str, number: int, data: bytes) -> bytes:
        text = b"PUB %s %d\r\n%s\r\n" % (topic.encode(), len(data), data)
        return frame(text, binary=True)


class Centrifugo(Dialect):
    """Centrifugo's bidirectional protocol in JSON; one frame may contain several lines."""

    seqs = staticmethod(re.compile(rb'"due": ?\d+\},(?:"info":\{[^}]*\},)?"offset":(\d+)').findall)
    acknowledged = staticmethod(re.compile(rb'"id":(\d+),"publish":').findall)
    errors = staticmethod(re.compile(rb'"error":\{"code":(\d+)').findall)
    _subscribed = staticmethod(
        re.compile(rb'"subscribe":\{[^\[]*?"epoch":"([^"]*)"(?:,"offset":(\d+))?').search
    )

    def path(self, topic: str) -> str:
        return "/connection/websocket"

    def headers(self, token: str) -> str:
        return ""

    def steps(self, topic: str | None, token: str, since: Position | None) -> Sequence[Step]:
        connect = frame(b'{"id":1,"connect":{"token":"%s"}}' % token.encode())
        if topic is None:
            return [(b"", connect), (b'"connect":{', b"")]
        place = b""
        if since is not None:
            text = b',"recover":true,"epoch":"%s","offset":%d'
            place = text % (since.epoch.encode(), since.seq)
        subscribe = b'{"id":2,"subscribe":{"channel":"%s"%s}}' % (topic.encode(), place)
        return [(b"", connect), (b'"connect":{', frame(subscribe)), (b'"subscribe":{', b"")]

    def position(self, data: bytes) -> Position | None:
        # Centrifugo omits an offset of 0.
        found = self._subscribed(data)
        return Position(found[1].decode(), int(found[2] or 0)) if found else None

    def publish(self, topic: str, number: int, data: bytes) -> bytes:
        text = b'{"id":%d,"publish":{"channel":"%s","data":%s}}'
        return frame(text % (number, topic.encode(), data))


class Verb(Dialect):
    """The dialect `chat.v1.json` with another command; each sender publishes one message first.

    Args:
        name: the name of the command.
        fields: returns the fields behind the topic, by the number of the command in its topic.
    """

    def __init__(self, name: bytes, fields: Callable[[int, bytes], bytes]) -> None:
        self._name = name
        self._fields = fields
        self._sent: Counter[str] = Counter()

    def publish(self, topic: str, number: int, data: bytes) -> bytes:
        first = b"" if self._sent[topic] else self._prepared(topic)
        self._sent[topic] += 1
        fields = self._fields(self._sent[topic], data)
        text = b'{"type":"%s","id":%d,"topic":"%s"%s}'
        return first + frame(text % (self._name, number, topic.encode(), fields))

    def _prepared(self, topic: str) -> bytes:
        text = b'{"type":"publish","topic":"%s","data":{"text":""}}'
        return frame(text % topic.encode())


class Appends(Verb):
    """Appends of 20 bytes of text each; several appends may come as one event."""

    seqs = staticmethod(re.compile(rb'"type":"appended","topic":"[^"]*","seq":(\d+)').findall)
    stamps = staticmethod(re.compile(rb"0{4}\d{16}").findall)


class Unread(Verb):
    """Commands for a hundred topics each, with a message in each topic."""

    def __init__(self) -> None:
        super().__init__(b"unread", lambda number, data: b"")

    def publish(self, topic: str, number: int, data: bytes) -> bytes:
        topics = [f"{topic}:{each}" for each in range(UNREAD_TOPICS)]
        first = b"" if self._sent[topic] else b"".join(map(self._prepared, topics))
        self._sent[topic] += 1
        asked = ",".join(f'"{each}"' for each in topics).encode()
        return first + frame(b'{"type":"unread","id":%d,"topics":[%b]}' % (number, asked))


class Post(Dialect):
    """`POST /api/topics/{topic}/messages`, each answered before the next.

    An answer has no number, so `acknowledged` finds a 0 instead.
    """

    http = True
    orders = False

    def path(self, topic: str) -> str:
        return f"/api/topics/{topic}/messages"

    def headers(self, token: str) -> str:
        return f"Authorization: Bearer {token}\r\n"

    def steps(self, topic: str | None, token: str, since: Position | None) -> Sequence[Step]:
        # A first request detects whether the server has this endpoint.
        return [(b"", self.publish(topic or "", 0, data_of(0, 0))), (b"HTTP/1.1 20", b"")]

    def refusal(self, data: bytes) -> str:
        status = data.split(b" ", 2)[1].decode()
        return f"{NOT_SERVED}: HTTP {status}" if status in ("404", "405") else f"HTTP {status}"

    def acknowledged(self, data: bytes) -> list[bytes]:  # type: ignore[override]
        return [b"0"] if data.startswith(b"HTTP/1.1 20") and b'"error"' not in data else []

    def errors(self, data: bytes) -> list[bytes]:  # type: ignore[override]
        # One answer is one acknowledgement or one error, regardless of the number of failures in a
        # batch.
        if self.acknowledged(data):
            return []
        codes: list[bytes] = _CODES(data)
        return codes[:1] or [data.split(b" ", 2)[1]]

    def publish(self, topic: str, number: int, data: bytes) -> bytes:
        return b'{"data":%s}' % data


class PostBatch(Post):
    """`POST /api/messages`: messages for several topics below the connection's topic."""

    def path(self, topic: str) -> str:
        return "/api/messages"

    def publish(self, topic: str, number: int, data: bytes) -> bytes:
        text = b'{"topic":"%s","data":%s}'
        return b'{"messages":[%s]}' % b",".join(text % (each, data) for each in _below(topic))


class CentrifugoPost(Post):
    """Centrifugo's `POST /api/publish`."""

    def path(self, topic: str) -> str:
        return "/api/publish"

    def headers(self, token: str) -> str:
        return f"X-API-Key: {API_KEY}\r\n"

    def publish(self, topic: str, number: int, data: bytes) -> bytes:
        return b'{"channel":"%s","data":%s}' % (topic.encode(), data)


class CentrifugoPostBatch(CentrifugoPost):
    """Centrifugo's `POST /api/batch`; its option `parallel` would add half of the cost."""

    def path(self, topic: str) -> str:
        return "/api/batch"

    def publish(self, topic: str, number: int, data: bytes) -> bytes:
        text = b'{"publish":{"channel":"%s","data":%s}}'
        commands = b",".join(text % (each, data) for each in _below(topic))
        return b'{"commands":[%s]}' % commands


def _below(topic: str) -> Sequence[bytes]:
    return [b"%s:%d" % (topic.encode(), each) for each in range(BATCH)]


def _reaction(number: int, data: bytes) -> bytes:
    """Add a reaction, then remove the reaction: each command stores an event."""
    remove = b"false" if number % 2 else b"true"
    return b',"seq":1,"emoji":"\xf0\x9f\x91\x8d","remove":' + remove


def _appended(number: int, data: bytes) -> bytes:
    return b',"seq":1,"text":"%020d"' % int(DUE(data)[0])


DIALECTS: dict[str, Dialect] = {
    "chat": Dialect(),
    "plain": Plain(),
    "socketio": SocketIO(),
    "nats": Nats(),
    "edit": Verb(b"edit", lambda number, data: b',"seq":1,"data":' + data),
    "react": Verb(b"react", _reaction),
    "append": Appends(b"append", _appended),
    "history": Verb(b"history", lambda number, data: b',"limit":1'),
    "unread": Unread(),
    "chat http": Post(),
    "chat batch": PostBatch(),
    "centrifugo": Centrifugo(),
    "centrifugo http": CentrifugoPost(),
    "centrifugo batch": CentrifugoPostBatch(),
}


def data_of(due_ns: int, payload_bytes: int) -> bytes:
    """Return a message's `data` with `payload_bytes`, or more if the due time needs more."""
    padding = b"x" * max(0, payload_bytes - _BARE_DATA)
    return b'{"pad":"%s","due":%d}' % (padding, due_ns)
