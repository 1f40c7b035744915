"""One topic on one worker: its place in the order, its subscribers, and fan-out to them."""

import logging
from collections import deque
from collections.abc import Iterator, Sequence

import msgspec

from ..events import Event, HistoryPage, Kind, Position
from ..logs import LogThrottle
from ..protocol.codecs import Codec
from ..protocol.messages import Gap
from .ports import Encoder, Transport

logger = logging.getLogger(__name__)
throttle = LogThrottle()

MAX_BACKLOG = 1_000
"""Events held while the store is being read. More come only if that takes seconds; the oldest then
go, and the next read finds them."""


FLUSH_BYTES = 65_536
"""Frames that are written at once; of more, each subscriber gets as much as it can take."""

_Push = tuple[bytes, Position]


def transcoded(frame: bytes, codec: Codec, topic: str) -> bytes | None:
    """Return an event's frame in an encoding, or None if it is no JSON text.

    No worker writes such a thing, but others may write to the store.
    """
    try:
        return codec.transcode(frame)
    except Exception as error:
        if throttle.due("no JSON"):
            logger.error("topic %s: left out an event that is no JSON: %s", topic, error)
        return None


_Place = tuple[int, int | None]
"""A seq, and a digest of the event there if that is known."""


class Topic:
    """A topic with subscribers on this worker.

    Events are offered in the order the broker delivers them; what subscribers see is every seq
    exactly once, or a `gap`. While `behind` is true there may be a hole: new events wait in a
    backlog until the node has read what is missing and calls `catch_up`. `interruptions` counts how
    often events may have been missed: a read is as good as the number it began with.

    A subscriber stands in one of four places:

    - joining: it keeps the topic open, but does not know its place in the order yet;
    - lagging: it is sent stored events by `replay`, as fast as it reads, and nothing else;
    - ahead: by replay it has events that this worker has yet to receive;
    - live: it has seen exactly what this worker has.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.position = Position("", 0)
        self.behind = True
        self.interruptions = 0
        self._last: _Place = (0, None)
        self._furthest: _Place = (0, None)
        self._backlog: deque[Event] = deque()
        self._doubted: set[Position] = set()
        self._pushes: list[_Push] = []
        self._joining: set[Transport] = set()
        self._lagging: dict[Transport, Position] = {}
        self._ahead: dict[Transport, Position] = {}
        self._live: dict[Encoder, dict[Transport, None]] = {}

    @property
    def established(self) -> bool:
        """Whether the topic's position is known."""
        return self.position.epoch != ""

    @property
    def empty(self) -> bool:
        """Whether nobody is subscribed or about to be."""
        return not (self._live or self._ahead or self._lagging or self._joining)

    # Subscribers ---------------------------------------------------------------------------

    def join(self, transport: Transport) -> None:
        """Keep the topic open for a subscriber that is yet to `enter`."""
        self._joining.add(transport)

    def enter(self, transport: Transport, seen: Position, digest: int | None = None) -> None:
        """Place a subscriber that has seen everything up to `seen`, an event with this digest."""
        self._joining.discard(transport)
        same_order = seen.epoch == self.position.epoch
        if same_order and seen.seq > self._furthest[0]:
            self._furthest = (seen.seq, digest)
        if not same_order or seen.seq < self.position.seq or not transport.writable:
            self._lagging[transport] = seen
        elif seen.seq > self.position.seq:
            self._ahead[transport] = seen
        else:
            self._live.setdefault(transport.encoder, {})[transport] = None

    def leave(self, transport: Transport) -> None:
        """Forget a subscriber, wherever it stands."""
        self._joining.discard(transport)
        self._lagging.pop(transport, None)
        self._ahead.pop(transport, None)
        members = self._live.get(transport.encoder)
        if members is not None:
            members.pop(transport, None)
            if not members:
                del self._live[transport.encoder]

    def lag(self, transport: Transport) -> None:
        """Send a subscriber nothing until it is replayed: it reads too slowly."""
        if transport in self._live.get(transport.encoder, ()):
            self.leave(transport)
            self._lagging[transport] = self.position
        elif transport in self._ahead:
            self._lagging[transport] = self._ahead.pop(transport)

    def lag_of(self, transport: Transport) -> Position | None:
        """Return what a lagging subscriber has seen, or None if it does not lag."""
        return self._lagging.get(transport)

    def replay(self, transport: Transport, page: HistoryPage) -> None:
        """Send a lagging subscriber what a read behind its position found, while it is writable."""
        seen = self._lagging.pop(transport)
        if page.epoch != seen.epoch:
            # What was read lies behind the old seq: the new order is yet to be read.
            seen = Position(page.epoch, page.epoch_start)
            self._write_to(transport, self._restart_frame(seen))
            self.enter(transport, seen)
            return
        digest = None
        for event in page.events:
            if not transport.writable:
                break
            if event.seq > seen.seq + 1:
                self._write_to(transport, self._gap_frame(seen, event.seq, "expired"))
            if event.seq > seen.seq:
                self._write_to(transport, event.payload)
                seen, digest = Position(event.epoch, event.seq), hash(event.payload)
        else:
            if transport.writable and not page.more and seen.seq < page.seq:
                self._write_to(transport, self._gap_frame(seen, page.seq + 1, "expired"))
                seen, digest = Position(page.epoch, page.seq), None
        self.enter(transport, seen, digest)

    # Events --------------------------------------------------------------------------------

    def offer(self, events: Sequence[Event]) -> bool:
        """Take events from the broker; return True if the topic has just fallen behind."""
        was_behind = self.behind
        for event in events:
            self._take(event)
        self._flush()
        return self.behind and not was_behind

    def _take(self, event: Event) -> None:
        if event.kind is Kind.SIGNAL:
            self._gather(event.payload, self.position)
            for transport in self._ahead:
                self._write_to(transport, event.payload)
        elif self.behind or event.epoch != self.position.epoch:
            self._keep(event)
        elif event.seq == self.position.seq + 1:
            self._deliver(event)
        elif event.seq > self.position.seq:
            self._keep(event)

    def interrupt(self) -> None:
        """Note that events may be missed, also such as look like the next one."""
        self.behind = True
        self.interruptions += 1

    def catch_up(self, page: HistoryPage) -> bool:
        """Take what a read of everything after `position` found; return whether it was enough."""
        more = page.more
        if not self.established:
            more = False
            self._move_to(Position(page.epoch, page.seq))
            self._remember(page.events)
        else:
            if page.epoch != self.position.epoch or page.seq < self.position.seq:
                self._restart(self._start_of(page))
            self._fill(page)
        self._take_backlog(page, more)
        self._flush()
        return not self.behind

    @property
    def evidence(self) -> dict[int, int | None]:
        """Digests, by seq, of what was passed on: what a read must find if it begins now."""
        return {0: None, self.position.seq: None, **dict([self._furthest, self._last])}

    def contradicts(self, page: HistoryPage, evidence: dict[int, int | None]) -> bool:
        """Return whether a read shows that the store lost events which subscribers have seen.

        Then its seqs are behind, or were given out again: an event is another than in `evidence`.
        """
        return page.epoch == self.position.epoch and (
            page.seq < max(evidence)
            or any(evidence.get(e.seq) not in (None, hash(e.payload)) for e in page.events)
        )

    def _remember(self, events: Sequence[Event]) -> None:
        """Keep what is needed to know the last of these again."""
        for event in events[-1:]:
            self._last = (event.seq, hash(event.payload))

    def _take_backlog(self, page: HistoryPage, more: bool) -> None:
        backlog, self._backlog, self.behind = self._backlog, deque(), more
        for event in backlog:
            found_too = event.epoch == page.epoch and event.seq <= page.seq
            if found_too or Position(event.epoch, event.seq) not in self._doubted:
                self._take(event)
        # What the read did not know is newer than it, or of an order that is lost. The next read is
        # newer for certain; if it does not know of it either, asking on would never end.
        self._doubted = {Position(event.epoch, event.seq) for event in self._backlog}

    def _start_of(self, page: HistoryPage) -> Position:
        """Return where a new order has to start so that no event of it is lost."""
        if any(event.seq == page.epoch_start + 1 for event in page.events[:1]):
            return Position(page.epoch, page.epoch_start)
        held = {event.seq for event in self._backlog if event.epoch == page.epoch}
        seq = page.seq
        while seq in held:
            seq -= 1
        return Position(page.epoch, seq)

    def _fill(self, page: HistoryPage) -> None:
        here = self.position.seq
        known = {event.seq: event for event in page.events if event.seq > here}
        if not page.more:
            # A topic that keeps no history still has what came in meanwhile.
            for event in self._backlog:
                if event.epoch == page.epoch and here < event.seq <= page.seq:
                    known.setdefault(event.seq, event)
        for seq in sorted(known):
            if seq > self.position.seq + 1:
                self._gap(seq, "expired")
            self._deliver(known[seq])
        if not page.more and self.position.seq < page.seq:
            self._gap(page.seq + 1, "expired")

    def _keep(self, event: Event) -> None:
        self.behind = True
        if len(self._backlog) >= MAX_BACKLOG:
            self._backlog.popleft()
        self._backlog.append(event)

    def _deliver(self, event: Event) -> None:
        here = Position(event.epoch, event.seq)
        self._gather(event.payload, here)
        self._last = (event.seq, hash(event.payload))
        self._move_to(here)

    def _gap(self, before: int, reason: str) -> None:
        """Tell that nothing comes before `before`, and go on from there."""
        here = Position(self.position.epoch, before - 1)
        self._gather(self._gap_frame(self.position, before, reason), here)
        for transport, seen in self._ahead.items():
            if seen.seq < here.seq:
                self._write_to(transport, self._gap_frame(seen, before, reason))
                self._ahead[transport] = here
        self._move_to(here)

    def _restart(self, here: Position) -> None:
        """Go on in a new order: the old one, and what was in it, is lost."""
        frame = self._restart_frame(here)
        self._gather(frame, here)
        self._flush()
        self.position = here
        self._last = self._furthest = (0, None)
        ahead, self._ahead = self._ahead, {}
        for transport in ahead:
            self._write_to(transport, frame)
            self.enter(transport, here)

    def _move_to(self, position: Position) -> None:
        self.position = position
        if self._ahead:
            self._flush()  # those who become live have seen all of it
            for transport in [t for t, seen in self._ahead.items() if seen.seq <= position.seq]:
                self.enter(transport, self._ahead.pop(transport))

    # Fan-out -------------------------------------------------------------------------------

    def _gather(self, frame: bytes, here: Position) -> None:
        """Have one push written to every live subscriber, who has then seen all up to `here`."""
        self._pushes.append((frame, here))

    def _flush(self) -> None:
        """Write what was gathered: everything encoded once per encoder, no task, no await."""
        pushes, self._pushes = self._pushes, []
        seen: Position | None = None
        for part in _parts(pushes):
            if seen is not None:
                self._leave_behind(seen)
            for encoder, transports in self._live.items():
                packets = encoder.join(self._pack(encoder, [frame for frame, _ in part]))
                for transport in transports:
                    for packet in packets:
                        transport.write(packet)
            _, seen = part[-1]

    def _leave_behind(self, seen: Position) -> None:
        """Let `replay` send what follows to those who cannot take it at once."""
        for transports in list(self._live.values()):
            for transport in [t for t in transports if not t.writable]:
                self.leave(transport)
                self._lagging[transport] = seen

    def _write_to(self, transport: Transport, frame: bytes) -> None:
        for packet in self._pack(transport.encoder, [frame]):
            transport.write(packet)

    def _pack(self, encoder: Encoder, frames: list[bytes]) -> list[bytes]:
        pushes = (transcoded(frame, encoder.codec, self.name) for frame in frames)
        return [encoder.pack(push) for push in pushes if push is not None]

    def _restart_frame(self, here: Position) -> bytes:
        return self._gap_frame(Position(here.epoch, 0), here.seq + 1, "epoch_changed")

    def _gap_frame(self, after: Position, before: int, reason: str) -> bytes:
        return msgspec.json.encode(
            Gap(topic=self.name, epoch=after.epoch, after=after.seq, before=before, reason=reason)
        )


def _parts(pushes: list[_Push]) -> Iterator[list[_Push]]:
    """Split pushes into such as may be written at once."""
    part: list[_Push] = []
    size = 0
    for push in pushes:
        size += len(push[0])
        if part and size > FLUSH_BYTES:
            yield part
            part, size = [], len(push[0])
        part.append(push)
    if part:
        yield part
