"""A server that breaks its promises according to `SABOTAGE`; the checker must detect this.

`python -m tests.chaos.broken_server serve …`
"""

import asyncio
import os
from types import ModuleType
from typing import Any, ClassVar

import msgspec
from msgspec.structs import replace

from chat_server import extension
from chat_server.auth.denials import Denial, Denials, List
from chat_server.broker import factory, topic_log
from chat_server.broker.memory import MemoryBroker
from chat_server.changes import Append, Change, ChangeResult, Edit, Reaction
from chat_server.cli import main
from chat_server.events import Event, PublishResult
from chat_server.operators.hands import Hands
from chat_server.presence import PresenceChange
from chat_server.protocol.commands import Publish
from chat_server.protocol.errors import Unavailable
from chat_server.realtime import hub, presence
from chat_server.realtime.roster import Roster
from chat_server.realtime.topic import Topic
from chat_server.realtime.watchers import Watchers
from chat_server.service.actor import Actor
from chat_server.service.answers import Answer
from chat_server.service.operations import OPERATIONS
from chat_server.service.publishing import publish
from chat_server.service.service import Service
from chat_server.sessions.connection import Connection

SABOTAGE = os.environ["SABOTAGE"]

TIMES = {"loses": 0, "repeats": 2}.get(SABOTAGE, 1)

STRUCK = 2
"""The seq in each topic whose event is delivered `TIMES` times. Not the last seq, because the test
would wait for subscribers without this event.
"""

SWALLOWED = "short:0"
"""The topic whose publications get no answer."""


class BrokenTopic(Topic):
    """Delivers one event a wrong number of times."""

    def _flush(self) -> None:
        steps, self._steps = self._steps, []
        for push, position in steps:
            struck = isinstance(push, Event) and push.stored and push.seq == STRUCK
            self._steps += [(push, position)] * (TIMES if struck else 1)
        super()._flush()


def _forget(_: object, *__: Any) -> None:
    """Repair nothing after the loss or return of the broker: only the next event shows the gap."""


def _swallow(service: Service, actor: Actor, command: Publish) -> Answer:
    if command.topic == SWALLOWED:
        return Answer(asyncio.get_running_loop().create_future(), lambda outcome: outcome)
    return publish(service, actor, command)


FAULTS = ["sabotage"]


def _fail(service: Service, actor: Actor, command: Publish) -> Answer:
    if FAULTS:
        raise RuntimeError(FAULTS.pop())
    return publish(service, actor, command)


class BrokenBroker(MemoryBroker):
    """Spoils every third change of a kind."""

    struck = 0
    edits: ClassVar[dict[tuple[str, int], Edit]] = {}
    again: ClassVar[set[tuple[int, bytes, str]]] = set()

    def change(self, change: Change) -> "asyncio.Future[ChangeResult]":
        kind = {"reorders": Edit, "forgets text": Append, "doubles": Append, "recounts": Reaction}
        if not isinstance(change, kind.get(SABOTAGE, ())):
            return super().change(change)
        if isinstance(change, Append):
            # Of the keys nothing is known that a repetition could meet.
            change = replace(change, pieces=tuple(replace(p, key=None) for p in change.pieces))
        else:
            change = replace(change, key=None)
        BrokenBroker.struck += 1
        if isinstance(change, Edit):
            before = self.edits.get((change.topic, change.target))
            self.edits[change.topic, change.target] = change
            stored = super().change(change)
            if before is not None:
                super().change(before)
            return stored
        if self.struck % 3:
            return super().change(change)
        if isinstance(change, Append) and SABOTAGE == "forgets text":
            pieces = tuple(replace(piece, text=b"", length=0) for piece in change.pieces)
            return super().change(replace(change, pieces=pieces))
        return self._unanswered(change)

    def _unanswered(self, change: Change) -> "asyncio.Future[ChangeResult]":
        """Apply a change, and report an unknown outcome."""
        done = super().change(change)
        if not done.result().places:
            return done
        if isinstance(change, Reaction):
            self.again.add((change.target, change.user, change.emoji))
        failed: asyncio.Future[ChangeResult] = asyncio.get_running_loop().create_future()
        failed.set_exception(Unavailable("sabotage", retry_in_ms=10))
        return failed


_react = topic_log._react


def _recount(
    state: topic_log._State, change: Reaction, place: PublishResult
) -> ChangeResult | None:
    """Count a user again whose reaction got no answer."""
    key = change.target, change.user, change.emoji
    users = state.reactions.get(change.emoji)
    if users is None or change.remove or key not in BrokenBroker.again:
        return _react(state, change, place)
    BrokenBroker.again.discard(key)
    users.count += 1
    return None


class SilentWatchers(Watchers):
    """Pushes no departures."""

    def offer(self, payload: bytes) -> None:
        change = msgspec.json.decode(payload, type=PresenceChange)
        super().offer(msgspec.json.encode(replace(change, left=[])))


class ForgetfulRoster(Roster):
    """Does not write users again after the store has lost a lease."""

    def _send(self, room: Any) -> None:
        if room.again:
            room.dirty = {}
        super()._send(room)


def _keep(_: Roster, *__: Any, **___: Any) -> None:
    """Keep the users of a killed worker."""


_find, _tell = Denials.find, Connection.tell


def _forgive(denials: Denials, name: List, target: str) -> Denial | None:
    """Let a user on one of the lists in."""
    return None if f"forgives {name}" == SABOTAGE else _find(denials, name, target)


async def _sift_nobody(_: Hands) -> int:
    """Keep the connections of revoked tokens."""
    return 0


def _tell_wrongly(client: Connection, packet: bytes) -> bool:
    """Push announcements never, or twice."""
    times = 2 if SABOTAGE == "announces twice" else 0
    return sum(_tell(client, packet) for _ in range(times)) > 0


def _replace(module: ModuleType, name: str, value: object) -> None:
    """Replace a name of a module, which the server must still use: else nothing would break."""
    getattr(module, name)
    setattr(module, name, value)


_replace(hub, "Topic", BrokenTopic)
if SABOTAGE == "forgets":
    hub.Hub.on_lost = hub.Hub.on_restored = _forget  # type: ignore[assignment]
elif SABOTAGE == "swallows":
    _replace(extension, "OPERATIONS", dict(OPERATIONS) | {Publish: _swallow})
elif SABOTAGE == "fails":
    _replace(extension, "OPERATIONS", dict(OPERATIONS) | {Publish: _fail})
elif SABOTAGE in ("reorders", "forgets text", "doubles", "recounts"):
    _replace(factory, "MemoryBroker", BrokenBroker)
    _replace(topic_log, "_react", _recount)
elif SABOTAGE == "forgets leavers":
    _replace(presence, "Watchers", SilentWatchers)
elif SABOTAGE == "forgets members":
    _replace(presence, "Roster", ForgetfulRoster)
elif SABOTAGE == "keeps the dead":
    Roster._end = _keep  # type: ignore[assignment,method-assign]
elif SABOTAGE == "asks nobody again":
    Watchers.ask_again = _forget  # type: ignore[assignment,method-assign]
elif SABOTAGE.startswith("forgives "):
    Denials.find = _forgive  # type: ignore[assignment,method-assign]
elif SABOTAGE == "keeps the revoked":
    Hands.sift = _sift_nobody  # type: ignore[assignment,method-assign]
elif SABOTAGE.startswith("announces "):
    Connection.tell = _tell_wrongly  # type: ignore[assignment,method-assign]

if __name__ == "__main__":
    main(prog_name="chat-server")
