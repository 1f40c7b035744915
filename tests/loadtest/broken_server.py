"""A server that breaks its promises, as `SABOTAGE` says: what looks for lost events must find it.

`python -m tests.loadtest.broken_server serve …`
"""

import os

from chat_server.cli import main
from chat_server.protocol.events import Event
from chat_server.realtime import hub
from chat_server.realtime.topic import Topic

TIMES = {"loses": 0, "repeats": 2}[os.environ["SABOTAGE"]]

STRUCK = 2
"""The place in each topic's order whose event comes so many times. Not the last one, or the test
would wait for those who lack it."""


class BrokenTopic(Topic):
    """Delivers one event as often as it should not."""

    _times = 1

    def _deliver(self, event: Event) -> None:
        self._times = TIMES if event.seq == STRUCK else 1
        super()._deliver(event)
        self._times = 1

    def _write(self, frame: bytes) -> None:
        for _ in range(self._times):
            super()._write(frame)


hub.Topic = BrokenTopic  # type: ignore[attr-defined]

if __name__ == "__main__":
    main(prog_name="chat-server")
