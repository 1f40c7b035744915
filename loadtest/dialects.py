"""What the load test says to each kind of server, and how it recognises the answers.

Every message carries `{"pad": "xx…", "due": 123}`: when it was due, in ns of the monotonic clock
that all processes of one machine share.
"""

import re
from collections.abc import Sequence
from typing import ClassVar

from .wire import frame

DUE = re.compile(rb'"due": ?(\d+)\}').findall
"""Finds the stamps of all messages in some frames."""

_BARE_DATA = len(b'{"pad":"","due":1234567890123456}')

Step = tuple[bytes, bytes]
"""Bytes to wait for, and the frames to send then."""


class Dialect:
    """`chat.v1.json`; other servers differ from it where they are subclasses.

    `steps` leads a new connection to where it is ready: each step's answer is the next one's cause.
    """

    path: ClassVar[str] = "/ws"
    acknowledges: ClassVar[bool] = True
    orders: ClassVar[bool] = True

    seqs = staticmethod(re.compile(rb'"type":"message","topic":"[^"]*","seq":(\d+)').findall)
    """Finds the places in the topic's order of all messages in some frames."""
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

    acknowledges = False
    orders = False

    def headers(self, token: str) -> str:
        return ""


class SocketIO(Dialect):
    """Engine.IO 4 and Socket.IO 5 on its WebSocket."""

    path = "/socket.io/?EIO=4&transport=websocket"
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


DIALECTS: dict[str, Dialect] = {
    "chat": Dialect(),
    "plain": Plain(),
    "socketio": SocketIO(),
    "nats": Nats(),
}


def data_of(due_ns: int, payload_bytes: int) -> bytes:
    """Return a message's `data`, `payload_bytes` long unless that is too short for the stamp."""
    padding = b"x" * max(0, payload_bytes - _BARE_DATA)
    return b'{"pad":"%s","due":%d}' % (padding, due_ns)
