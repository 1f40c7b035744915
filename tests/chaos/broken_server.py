"""A server that breaks its promises, as `SABOTAGE` says: what looks for lost events must find it.

`python -m tests.chaos.broken_server serve …`
"""

import asyncio
import os
from typing import Any

from chat_server.cli import main
from chat_server.events import Event, PublishResult
from chat_server.realtime import hub
from chat_server.realtime.node import Node
from chat_server.realtime.topic import Topic

SABOTAGE = os.environ["SABOTAGE"]

TIMES = {"loses": 0, "repeats": 2}.get(SABOTAGE, 1)

STRUCK = 2
"""The place in each topic's order whose event comes so many times. Not the last one, or the test
would wait for those who lack it."""

SWALLOWED = "short:0"
"""The topic whose publications are never answered."""


class BrokenTopic(Topic):
    """Delivers one event as often as it should not."""

    def _flush(self) -> None:
        steps, self._steps = self._steps, []
        for push, position in steps:
            struck = isinstance(push, Event) and push.stored and push.seq == STRUCK
            self._steps += [(push, position)] * (TIMES if struck else 1)
        super()._flush()


def _forget(_: hub.Hub, *__: Any) -> None:
    """Repair nothing when the broker is lost or back: the next event shows what is missing."""


_publish = Node.publish


def _swallow(node: Node, topic: str, *more: Any) -> "asyncio.Future[PublishResult]":
    if topic == SWALLOWED:
        return asyncio.get_running_loop().create_future()
    return _publish(node, topic, *more)


def _fail(node: Node, topic: str, *more: Any) -> "asyncio.Future[PublishResult]":
    Node.publish = _publish  # type: ignore[method-assign]
    raise RuntimeError("sabotage")


hub.Topic = BrokenTopic  # type: ignore[attr-defined]
if SABOTAGE == "forgets":
    hub.Hub.on_lost = hub.Hub.on_restored = _forget  # type: ignore[assignment]
elif SABOTAGE == "swallows":
    Node.publish = _swallow  # type: ignore[assignment]
elif SABOTAGE == "fails":
    Node.publish = _fail  # type: ignore[assignment]

if __name__ == "__main__":
    main(prog_name="chat-server")
