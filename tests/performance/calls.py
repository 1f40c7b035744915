"""Counts the Python calls that the server makes for something: a price that no machine changes."""

import sys
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any

import msgspec

import chat_server
from chat_server.auth.claims import Claims, TopicGrants
from chat_server.service.service import Service
from chat_server.sessions.connection import Connection
from chat_server.transports.direct import DirectTransport
from chat_server.transports.encoders import DIRECT_ENCODERS

from ..rig.rfc6455 import BINARY, frame, text
from ..rig.waiting import until
from ..transports.doubles import FakeSocket

PACKAGE = str(Path(chat_server.__file__).parent)
SUBPROTOCOL = "chat.v1.json"
GRANTS = TopicGrants(*[("**",)] * 5)


class Calls:
    """The calls of the package's functions within a block, by function.

    Each resumption of a coroutine counts as a call, too.
    """

    def __init__(self) -> None:
        self.counted: Counter[str] = Counter()

    @property
    def total(self) -> int:
        """How many there were."""
        return self.counted.total()

    def __enter__(self) -> "Calls":
        sys.setprofile(self._note)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)

    def __str__(self) -> str:
        return "\n".join(f"{count:4} {name}" for name, count in self.counted.items())

    def _note(self, frame: FrameType, event: str, _: Any) -> None:
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(PACKAGE):
            module = code.co_filename.removeprefix(PACKAGE).removesuffix(".py")
            self.counted[f"{module[1:].replace('/', '.')}:{code.co_qualname}"] += 1


class Peer:
    """A client on the direct transport, whose socket is in the test's hands."""

    def __init__(self, service: Service, user: str, codec: str = SUBPROTOCOL) -> None:
        limits = service.node.settings.limits
        self.socket = FakeSocket()
        self.transport = DirectTransport(
            self.socket,
            DIRECT_ENCODERS[codec],
            max_message_bytes=limits.max_message_bytes,
            slow_buffer_bytes=limits.slow_buffer_bytes,
            close_timeout_seconds=1.0,
        )
        connection = Connection(service, self.transport, "127.0.0.1")
        claims = Claims(sub=user, topics=GRANTS)
        self.transport.serve(connection, lambda: connection.start(claims))

    def say(self, **command: Any) -> None:
        """Let the client send a command in a frame of its own."""
        if self.transport.encoder.codec.binary:
            self.transport.data_received(frame(BINARY, msgspec.msgpack.encode(command)))
        else:
            self.transport.data_received(text(command))

    async def hears(self, words: bytes) -> None:
        """Wait until the client has been written something."""
        await until(lambda: words in self.socket.written)

    def forget(self) -> None:
        """Forget what was written."""
        self.socket.written.clear()
