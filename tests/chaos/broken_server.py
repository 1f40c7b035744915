"""A server that breaks its promises, as `SABOTAGE` says: what looks for lost events must find it.

`python -m tests.chaos.broken_server serve …`
"""

import asyncio
import os
from typing import Any

from chat_server import app
from chat_server.cli import main
from chat_server.events import Event
from chat_server.protocol.commands import Publish
from chat_server.realtime import hub
from chat_server.realtime.topic import Topic
from chat_server.service.actor import Actor
from chat_server.service.answers import Answer
from chat_server.service.publishing import publish
from chat_server.service.service import Service

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


def _swallow(service: Service, actor: Actor, command: Publish) -> Answer:
    if command.topic == SWALLOWED:
        return Answer(asyncio.get_running_loop().create_future(), lambda outcome: outcome)
    return publish(service, actor, command)


FAULTS = ["sabotage"]


def _fail(service: Service, actor: Actor, command: Publish) -> Answer:
    if FAULTS:
        raise RuntimeError(FAULTS.pop())
    return publish(service, actor, command)


hub.Topic = BrokenTopic  # type: ignore[attr-defined]
if SABOTAGE == "forgets":
    hub.Hub.on_lost = hub.Hub.on_restored = _forget  # type: ignore[assignment]
elif SABOTAGE == "swallows":
    app.OPERATIONS = {**app.OPERATIONS, Publish: _swallow}  # type: ignore[attr-defined]
elif SABOTAGE == "fails":
    app.OPERATIONS = {**app.OPERATIONS, Publish: _fail}  # type: ignore[attr-defined]

if __name__ == "__main__":
    main(prog_name="chat-server")
