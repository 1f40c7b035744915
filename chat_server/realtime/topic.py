"""One topic on one worker: its place in the order, its subscribers, and fan-out to them."""

from collections import deque
from collections.abc import Iterable

import msgspec

from ..protocol.codecs import JSON
from ..protocol.events import Event, Kind, Slice
from ..protocol.messages import Gap, Position
from .ports import Transport, Wire

MAX_BACKLOG = 1_000
"""Events held for one topic, or one subscriber that joins, while the store is being read. More than
that come only if the store takes seconds to answer; then the read is simply made again."""


class Joining:
    """A subscriber between asking and being live: it misses nothing, because it collects."""

    __slots__ = ("events", "overflowed")

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.overflowed = False

    def collect(self, event: Event) -> None:
        """Keep `event` for when the subscriber's place in the order is known."""
        if len(self.events) >= MAX_BACKLOG:
            self.overflowed = True
        else:
            self.events.append(event)


class Topic:
    """A topic with subscribers on this worker.

    Events are offered in the order the broker delivers them; what subscribers see is every seq
    exactly once, or a `gap`. While `behind` is true there is a hole: new events wait in a backlog
    until the node has read what is missing and calls `catch_up`.

    Subscribers stand in one of three places: `_joining` (collecting), `_ahead` (they have been
    replayed events that this worker has yet to receive) and `_live`.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.position = Position("", 0)
        self.behind = True
        self._backlog: deque[Event] = deque()
        self._live: dict[Wire, dict[Transport, None]] = {}
        self._ahead: dict[Transport, Position] = {}
        self._joining: dict[Transport, Joining] = {}

    @property
    def established(self) -> bool:
        """Whether the topic's position is known."""
        return self.position.epoch != ""

    @property
    def empty(self) -> bool:
        """Whether nobody is subscribed or about to be."""
        return not (self._live or self._ahead or self._joining)

    # Subscribers ---------------------------------------------------------------------------

    def begin_join(self, transport: Transport) -> Joining:
        """Let a subscriber collect events until `attach`."""
        joining = self._joining[transport] = Joining()
        return joining

    def attach(self, transport: Transport, seen: Position) -> list[Event]:
        """Make a subscriber live and return the events that it must be sent first.

        Args:
            transport: the subscriber's.
            seen: the last event that it has, or is about to be sent.
        """
        joining = self._joining.pop(transport, None)
        missed: list[Event] = []
        for event in joining.events if joining else ():
            if event.epoch == seen.epoch and event.seq > seen.seq:
                missed.append(event)
                seen = Position(event.epoch, event.seq)
        self._ahead[transport] = seen
        self._promote()
        return missed

    def detach(self, transport: Transport) -> None:
        """Forget a subscriber, wherever it stands."""
        self._joining.pop(transport, None)
        self._ahead.pop(transport, None)
        members = self._live.get(transport.wire)
        if members is not None:
            members.pop(transport, None)
            if not members:
                del self._live[transport.wire]

    # Events --------------------------------------------------------------------------------

    def offer(self, event: Event) -> bool:
        """Take an event from the broker; return True if the topic has just fallen behind."""
        if event.kind is Kind.SIGNAL:
            self._write(event.frame)
            self._write_to(self._ahead, event.frame)
            return False
        if self.behind:
            self._keep(event)
            return False
        if event.epoch == self.position.epoch:
            if event.seq == self.position.seq + 1:
                self._deliver(event)
                return False
            if event.seq <= self.position.seq:
                return False
        self.behind = True
        self._keep(event)
        return True

    def catch_up(self, found: Slice) -> bool:
        """Take what a read of everything after `position` found; return whether it was enough."""
        if not self.established:
            self._move_to(Position(found.epoch, found.seq))
        elif found.epoch != self.position.epoch or found.seq < self.position.seq:
            self._gap(Position(found.epoch, 0), found.seq + 1, "epoch_changed")
        else:
            self._catch_up_in_epoch(found)
        return self._drain_backlog()

    def _catch_up_in_epoch(self, found: Slice) -> None:
        # A topic that keeps no history still has what came in meanwhile.
        known = {event.seq: event for event in found.events}
        for event in self._backlog:
            if event.epoch == found.epoch and self.position.seq < event.seq <= found.seq:
                known.setdefault(event.seq, event)
        for seq in sorted(known):
            if seq > self.position.seq + 1:
                self._gap(self.position, seq, "expired")
            self._deliver(known[seq])
        if not found.more and self.position.seq < found.seq:
            self._gap(self.position, found.seq + 1, "expired")

    def _drain_backlog(self) -> bool:
        backlog, self._backlog, self.behind = self._backlog, deque(), False
        for event in backlog:
            self.offer(event)
        return not self.behind

    def _keep(self, event: Event) -> None:
        # Past the bound the oldest goes: the read that must follow finds it in the store.
        if len(self._backlog) >= MAX_BACKLOG:
            self._backlog.popleft()
        self._backlog.append(event)

    def _deliver(self, event: Event) -> None:
        self._write(event.frame)
        for joining in self._joining.values():
            joining.collect(event)
        self._move_to(Position(event.epoch, event.seq))

    def _gap(self, after: Position, before: int, reason: str) -> None:
        """Tell that nothing between `after` and `before` comes, and go on from there."""
        frame = self._gap_frame(after, before, reason)
        self._write(frame)
        for transport, seen in list(self._ahead.items()):
            known_to = seen.seq if seen.epoch == after.epoch else after.seq
            if known_to + 1 < before:
                frame = self._gap_frame(Position(after.epoch, known_to), before, reason)
                self._write_to((transport,), frame)
                self._ahead[transport] = Position(after.epoch, before - 1)
        self._move_to(Position(after.epoch, before - 1))

    def _gap_frame(self, after: Position, before: int, reason: str) -> bytes:
        return msgspec.json.encode(
            Gap(topic=self.name, epoch=after.epoch, after=after.seq, before=before, reason=reason)
        )

    def _move_to(self, position: Position) -> None:
        self.position = position
        self._promote()

    def _promote(self) -> None:
        """Make those live that are not ahead any more."""
        if not self._ahead:
            return
        here = self.position
        for transport, seen in list(self._ahead.items()):
            if seen.epoch == here.epoch and seen.seq <= here.seq:
                del self._ahead[transport]
                self._live.setdefault(transport.wire, {})[transport] = None

    # Fan-out -------------------------------------------------------------------------------

    def _write(self, frame: bytes) -> None:
        """Write one push to every live subscriber: encoded once per wire, no task, no await."""
        for wire, transports in self._live.items():
            packet = wire.pack(wire.codec.transcode(frame))
            for transport in transports:
                transport.write(packet)

    @staticmethod
    def _write_to(transports: Iterable[Transport], frame: bytes) -> None:
        for transport in transports:
            transport.write(transport.wire.pack(transport.wire.codec.transcode(frame)))
