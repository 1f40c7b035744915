"""The floor without a C compiler: a bare `send()` for each subscriber, in Python."""

import selectors
import socket
import sys

from ..wire import unmask

WELCOME = b'{"type":"welcome"}'
SUBSCRIBED = b'{"type":"ok","id":1}'
UPGRADED = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"


class Floor:
    """All connections, including the subscribers."""

    def __init__(self, port: int) -> None:
        self._selector = selectors.DefaultSelector()
        self._listener = socket.create_server(("127.0.0.1", port), backlog=1024)
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._rest: dict[socket.socket, bytes] = {}
        self._upgraded: set[socket.socket] = set()
        self._subscribers: dict[socket.socket, None] = {}
        self._seq = 0

    def serve(self) -> None:
        """Serve until the process is ended."""
        while True:
            for key, _ in self._selector.select():
                if key.fileobj is self._listener:
                    self._accept()
                elif isinstance(key.fileobj, socket.socket):
                    self._read(key.fileobj)

    def _accept(self) -> None:
        connection, _ = self._listener.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._rest[connection] = b""
        self._selector.register(connection, selectors.EVENT_READ)

    def _read(self, connection: socket.socket) -> None:
        try:
            data = connection.recv(65536)
        except ConnectionError:
            data = b""
        if not data:
            self._drop(connection)
            return
        data = self._rest[connection] + data
        if connection not in self._upgraded:
            _, end, data = data.partition(b"\r\n\r\n")
            if not end:
                return
            self._upgraded.add(connection)
            connection.sendall(UPGRADED + _frame(WELCOME))
        while (found := unmask(data)) is not None:
            text, data = found
            self._on_text(connection, text)
        self._rest[connection] = data

    def _on_text(self, connection: socket.socket, text: bytes) -> None:
        _, published, data = text.partition(b'"data":')
        if published:
            self._publish(data)
        elif b'"subscribe"' in text:
            self._subscribers[connection] = None
            connection.sendall(_frame(SUBSCRIBED))

    def _publish(self, data: bytes) -> None:
        self._seq += 1
        frame = _frame(
            b'{"type":"message","topic":"room:loadtest","seq":%d,"at":1700000000000,'
            b'"from":{"user":"publisher-0"},"data":%s' % (self._seq, data)
        )
        for subscriber in self._subscribers:
            subscriber.send(frame)

    def _drop(self, connection: socket.socket) -> None:
        self._selector.unregister(connection)
        self._subscribers.pop(connection, None)
        self._upgraded.discard(connection)
        del self._rest[connection]
        connection.close()


def _frame(text: bytes) -> bytes:
    if len(text) < 126:
        return bytes((0x81, len(text))) + text
    return b"\x81\x7e" + len(text).to_bytes(2, "big") + text


if __name__ == "__main__":
    Floor(int(sys.argv[1])).serve()
