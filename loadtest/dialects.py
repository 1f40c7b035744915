"""What the load test says to each kind of server, and how it recognises the answers.

Every message carries `{"pad": "xx…", "due": 123}`: when it was due, in ns of the monotonic clock
that all processes of one machine share.
"""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import ClassVar

from .wire import frame

DUE = re.compile(rb'"due": ?(\d+)\}').findall
"""Finds the stamps of all messages in some frames."""

UNREAD_TOPICS = 100

_BARE_DATA = len(b'{"pad":"","due":1234567890123456}')

Step = tuple[bytes, bytes]
"""Bytes to wait for, and the frames to send then."""


class Dialect:
    """`chat.v1.json`; other servers differ from it where they are subclasses.

    `steps` leads a new connection to where it is ready: each step's answer is the next one's cause.
    """

    path: ClassVar[str] = "/ws"
    authenticates: ClassVar[bool] = True
    acknowledges: ClassVar[bool] = True
    orders: ClassVar[bool] = True

    seqs = staticmethod(re.compile(rb'"type":"message","topic":"[^"]*","seq":(\d+)').findall)
    """Finds the places in the topic's order of all messages in some frames."""
    stamps = staticmethod(DUE)
    start = staticmethod(re.compile(rb'"type":"ok".*?"seq":(\d+)').search)
    """Finds in the answer to a subscription the place after which messages come."""
    acknowledged = staticmethod(re.compile(rb'"type":"ok","id":(\d+)').findall)
    errors = staticmethod(re.compile(rb'"type":"error"[^}]*?"code":"(\w+)"').findall)

    def headers(self, token: str) -> str:
        """Return the request's header lines that present a token."""
        return f"Sec-WebSocket-Protocol: chat.v1.json\r\nAuthorization: Bearer {token}\r\n"

    def steps(self, topic: str | None) -> Sequence[Step]:
        """Return what leads to readiness; `topic` is None for one that only publishes."""
        if topic is None:
            return [(b'"welcome"', b"")]
        subscribe = b'{"type":"subscribe","id":1,"topic":"%s"}' % topic.encode()
        return [(b'"welcome"', frame(subscribe)), (b'"ok"', b"")]

    def publish(self, topic: str, number: int, data: bytes) -> bytes:
        """Return the frame that publishes `data`; its answer bears `number`."""
        text = b'{"type":"publish","id":%d,"topic":"%s","data":%s}'
        return frame(text % (number, topic.encode(), data))


class Plain(Dialect):
    """The same words without tokens, order and acknowledgements: for the servers of `peers`."""

    authenticates = False
    acknowledges = False
    orders = False

    def headers(self, token: str) -> str:
        return ""


class SocketIO(Dialect):
    """Engine.IO 4 and Socket.IO 5 on its WebSocket."""

    path = "/socket.io/?EIO=4&transport=websocket"
    authenticates = False
    acknowledges = False
    orders = False

    def headers(self, token: str) -> str:
        return ""

    def steps(self, topic: str | None) -> Sequence[Step]:
        joined = b"" if topic is None else frame(b'420["subscribe","%s"]' % topic.encode())
        steps = [(b"0{", frame(b"40")), (b"40{", joined)]
        return steps if topic is None else [*steps, (b"430[", b"")]

    def publish(self, topic: str, number: int, data: bytes) -> bytes:
        return frame(b'42["publish","%s",%s]' % (topic.encode(), data))


class Nats(Dialect):
    """The NATS client protocol in binary frames."""

    path = "/"
    authenticates = False
    acknowledges = False
    orders = False

    def headers(self, token: str) -> str:
        return ""

    def steps(self, topic: str | None) -> Sequence[Step]:
        subscribe = b"" if topic is None else b"SUB %s 1\r\n" % topic.encode()
        hello = b'CONNECT {"verbose":false,"pedantic":false}\r\n' + subscribe + b"PING\r\n"
        return [(b"INFO ", frame(hello, binary=True)), (b"PONG", b"")]

    def publish(self, topic: str, number: int, data: bytes) -> bytes:
        text = b"PUB %s %d\r\n%s\r\n" % (topic.encode(), len(data), data)
        return frame(text, binary=True)


class Verb(Dialect):
    """`chat.v1.json` in which each sender publishes once, and then sends another command.

    Args:
        name: of the command.
        fields: returns what stands behind the topic, by the number of the command in its topic.
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
    """Each message is 20 bytes of text that are appended; several may come as one event."""

    seqs = staticmethod(re.compile(rb'"type":"appended","topic":"[^"]*","seq":(\d+)').findall)
    stamps = staticmethod(re.compile(rb"0{4}\d{16}").findall)


class Unread(Verb):
    """Each command asks for a hundred topics, in each of which there is a message."""

    def __init__(self) -> None:
        super().__init__(b"unread", lambda number, data: b"")

    def publish(self, topic: str, number: int, data: bytes) -> bytes:
        topics = [f"{topic}:{each}" for each in range(UNREAD_TOPICS)]
        first = b"" if self._sent[topic] else b"".join(map(self._prepared, topics))
        self._sent[topic] += 1
        asked = ",".join(f'"{each}"' for each in topics).encode()
        return first + frame(b'{"type":"unread","id":%d,"topics":[%b]}' % (number, asked))


def _reaction(number: int, data: bytes) -> bytes:
    """Add a reaction, and take it back: each stores an event."""
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
}


def data_of(due_ns: int, payload_bytes: int) -> bytes:
    """Return a message's `data`, `payload_bytes` long unless that is too short for the stamp."""
    padding = b"x" * max(0, payload_bytes - _BARE_DATA)
    return b'{"pad":"%s","due":%d}' % (padding, due_ns)
