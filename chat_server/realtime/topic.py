"""One topic on one worker: its position, its subscribers, and the fan-out to them."""

from collections import deque
from collections.abc import Collection, Iterable, Sequence
from operator import attrgetter

from ..events import Event, HistoryPage, Kind, Position
from ..metrics.numbers import Numbers
from ..protocol.messages import Gap
from .divergence import Delivered, Snapshot
from .merging import merge_appends
from .ports import Encoder, Push, Transport
from .shared_reads import SharedPage
from .trail import NO_TRAIL, Trail

MAX_BACKLOG = 1_000
"""Events held while the store is read. More events arrive only if the read takes seconds. The
oldest are then dropped, and the next read finds them."""

FLUSH_BYTES = 65_536
"""Bytes written to a subscriber before its buffer is looked at again."""

_kind = attrgetter("kind")

_Step = tuple[Push, Position]
"""A push, and the position of a subscriber after the push."""

_Batches = dict[tuple[Encoder, int], tuple[list[bytes], int, int]]
"""Packets of a batch by encoder and first index, with their bytes and the next batch's index."""


class Topic:
    """A topic with subscribers on this worker.

    The broker delivers events in the order of their `seq`, but after trouble events may be missing
    or come again. Subscribers get every seq exactly once, or a `gap`. While the topic is stale,
    events may be missing: new ones wait in a backlog until the hub has read the log and calls
    `catch_up`.

    The states of a subscriber (docs/design/delivery.md):

        joining   keeps the topic open; its position is not known yet
        lagging   has seen less than this worker; gets stored events from `replay`, and nothing else
        ahead     has seen more than this worker: a replay has read past the worker's position
        live      has seen exactly as much as this worker

        joining ── enter() ───────────────────────────▶ lagging, ahead or live
        lagging ── replay() sent what is stored ──────▶ ahead or live
        ahead   ── this worker's position gets there ─▶ live
        live    ── its buffer is full, or lag() ──────▶ lagging
        ahead   ── lag() ─────────────────────────────▶ lagging
    """

    def __init__(
        self,
        name: str,
        numbers: Numbers,
        *,
        latest_only: bool = False,
        trail: Trail = NO_TRAIL,
    ) -> None:
        self.name = name
        self._numbers = numbers
        self._trail = trail
        # Subscribers whose buffers were full, if these skip missed events; else None.
        self._skipping: set[Transport] | None = set() if latest_only else None
        # The last event of the log that live subscribers have seen. An empty epoch: not known yet.
        self.position = Position("", 0)
        # Whether events may be missing after `position`.
        self.stale = True
        # Counts interruptions. A page whose read began in an earlier generation is outdated.
        self.generation = 0
        # Evidence against a log that has lost events: see `snapshot`.
        self._delivered = Delivered()
        # Events that came while the topic was stale, in the order of arrival.
        self._backlog: deque[Event] = deque()
        # Positions of backlog events that were not on the last page. An event that is missing from
        # two pages is dropped.
        self._unconfirmed: set[Position] = set()
        # Pushes for the live subscribers, written together by `_flush`.
        self._steps: list[_Step] = []
        # Subscribers by state. Lagging and ahead: with the position that the subscriber has seen.
        # Live: by encoder, in the order of arrival.
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
        """Whether the topic has no subscribers, not even pending ones."""
        return not (self._live or self._ahead or self._lagging or self._joining)

    @property
    def subscriber_count(self) -> int:
        """Number of subscribers, with pending ones."""
        live = sum(map(len, self._live.values()))
        return live + len(self._ahead) + len(self._lagging) + len(self._joining)

    # Subscribers ---------------------------------------------------------------------------

    def join(self, transport: Transport) -> bool:
        """Keep the topic open for a subscriber before its `enter`; return True if it is new."""
        new = transport not in self._joining
        self._joining.add(transport)
        return new

    def enter(self, transport: Transport, seen: Position, fingerprint: int | None = None) -> bool:
        """Place a subscriber by the position that it has seen.

        Args:
            transport: the subscriber's transport.
            seen: the subscriber's position; later events follow.
            fingerprint: fingerprint of the event at `seen`, if known.

        Returns:
            True if the subscriber lags.
        """
        self._joining.discard(transport)
        same_epoch = seen.epoch == self.position.epoch
        if same_epoch and seen.seq > self._delivered.max_delivered[0]:
            self._delivered.max_delivered = (seen.seq, fingerprint)
        if not same_epoch or seen.seq < self.position.seq or not transport.writable:
            self._lagging[transport] = seen
            return True
        if seen.seq > self.position.seq:
            self._ahead[transport] = seen
        else:
            self._live.setdefault(transport.encoder, {})[transport] = None
        return False

    def leave(self, transport: Transport) -> None:
        """Forget a subscriber in any state."""
        self._joining.discard(transport)
        self._lagging.pop(transport, None)
        self._ahead.pop(transport, None)
        if self._skipping is not None:
            self._skipping.discard(transport)
        members = self._live.get(transport.encoder)
        if members is not None:
            members.pop(transport, None)
            if not members:
                del self._live[transport.encoder]

    def lag(self, transport: Transport) -> None:
        """Stop sending to a subscriber until `replay`, because the subscriber reads too slowly."""
        if transport in self._live.get(transport.encoder, ()):
            self.leave(transport)
            self._fall_behind(transport, self.position)
        elif transport in self._ahead:
            self._fall_behind(transport, self._ahead.pop(transport))

    def _fall_behind(self, transport: Transport, seen: Position) -> None:
        self._lagging[transport] = seen
        self._trail.moved(self.name, transport, "lagging", seen)
        if self._skipping is not None:
            self._skipping.add(transport)

    def skips(self, transport: Transport) -> bool:
        """Return whether a lagging subscriber gets nothing but the last event."""
        return self._skipping is not None and transport in self._skipping

    def lag_of(self, transport: Transport) -> Position | None:
        """Return the position of a lagging subscriber, or None if the subscriber does not lag."""
        return self._lagging.get(transport)

    def seen_by(self, transport: Transport) -> Position | None:
        """Return a subscriber's position, or None for other transports and before `enter`."""
        if transport in self._live.get(transport.encoder, ()):
            return self.position
        return self._lagging.get(transport) or self._ahead.get(transport)

    def replay(
        self, transport: Transport, page: HistoryPage, start: Position | None = None
    ) -> bool:
        """Send a subscriber a page after its position, until its buffer is full.

        Args:
            transport: the subscriber's transport.
            page: the events after the subscriber's position.
            start: the position of a joining subscriber; None for a lagging one.

        Returns:
            True if the subscriber lags from now on.
        """
        seen = start or self._lagging.pop(transport)
        skips = self._skipping is not None and transport in self._skipping
        if skips and self._skipping is not None:
            self._skipping.discard(transport)
        if page.epoch != seen.epoch:
            # The page follows a seq of the old epoch. The new epoch is yet to be read.
            start = Position(page.epoch, page.epoch_start)
            self._write_to(transport, self._epoch_changed(start))
            self._trail.missed(self.name, transport, 0, start, "epoch_changed")
            return self.enter(transport, start)
        if isinstance(page, SharedPage):
            steps, made = self._prepare(page, seen)
        else:
            steps, made = self._replayed(page, seen, "skipped" if skips else "expired"), None
        at = 0
        while at < len(steps) and transport.writable:
            at = self._write_batch(transport.encoder, (transport,), steps, at, made)
        self._numbers.replayed_events += at
        if at == 0:
            return self.enter(transport, seen)
        push, seen = steps[at - 1]
        if self._trail.enabled:
            self._trail.replayed(self.name, transport, steps[:at])
        # Folded messages and merged appends differ from the log's events: no fingerprint.
        if not isinstance(push, Event) or push.kind is Kind.APPENDED or page.folded:
            return self.enter(transport, seen)
        return self.enter(transport, seen, hash(push.payload))

    def _prepare(self, page: SharedPage, seen: Position) -> tuple[list[_Step], _Batches]:
        """Return a page's steps for all subscribers at `seen`, and the packets made so far."""
        prepared: tuple[list[_Step], _Batches] | None = page.prepared.get(seen.seq)
        if prepared is None:
            prepared = page.prepared[seen.seq] = self._replayed(page, seen), {}
        return prepared

    def _replayed(self, page: HistoryPage, seen: Position, reason: str = "expired") -> list[_Step]:
        """Return a page's steps for a subscriber that has seen everything up to `seen`.

        Args:
            page: the events after `seen`.
            seen: the subscriber's position.
            reason: why events are missing from the page.
        """
        if page.folded:
            return self._listed(page)
        steps: list[_Step] = []
        events: Sequence[Event] = page.events
        if Kind.APPENDED in map(_kind, events):
            events = merge_appends(events)
        for event in events:
            first = event.first or event.seq
            if first > seen.seq + 1:
                here = Position(event.epoch, first - 1)
                steps.append((self._gap(seen.seq, here, reason), here))
            if event.seq > seen.seq:
                seen = Position(event.epoch, event.seq)
                steps.append((event, seen))
        if not page.more and seen.seq < page.seq:
            here = Position(page.epoch, page.seq)
            steps.append((self._expired(seen, here), here))
        return steps

    def _listed(self, page: HistoryPage) -> list[_Step]:
        """Return the messages of a page; other events are changes, which the messages include."""
        steps: list[_Step] = [(each, Position(page.epoch, each.seq)) for each in page.events]
        if steps and not page.more:
            steps[-1] = (steps[-1][0], Position(page.epoch, page.seq))
        return steps

    # Events --------------------------------------------------------------------------------

    def offer(self, events: Sequence[Event]) -> bool:
        """Take events from the broker; return True if the topic has just become stale."""
        was_stale = self.stale
        for event in events:
            self._on_event(event)
        self._flush()
        return self.stale and not was_stale

    def _on_event(self, event: Event) -> None:
        if event.kind is Kind.PRESENCE:
            return  # these events are for watchers: see watchers.py
        if not event.stored:
            self._steps.append((event, self.position))
            for transport in self._ahead:
                self._write_to(transport, event)
        elif self.stale or event.epoch != self.position.epoch:
            self._keep(event)
        elif event.seq == self.position.seq + 1:
            self._deliver(event)
        elif event.seq > self.position.seq:
            self._keep(event)

    def interrupt(self) -> None:
        """Note that events may be missing.

        Even an event with the next `seq` may belong to a log that has lost events.
        """
        self.stale = True
        self.generation += 1

    def snapshot(self) -> Snapshot:
        """Return the evidence that a page must agree with, if its read begins now."""
        return self._delivered.snapshot(self.position)

    def catch_up(self, page: HistoryPage) -> bool:
        """Take a page of all events after `position`; return False if the topic is still stale.

        The first page gives the topic its position, and must have the newest event of the log.
        """
        more = page.more
        if not self.established:
            more = False
            self.position = Position(page.epoch, page.seq)
            for event in page.events[-1:]:
                self._delivered.last = (event.seq, hash(event.payload))
        else:
            if page.epoch != self.position.epoch or page.seq < self.position.seq:
                self._restart(self._start_of(page))
            self._fill(page)
        self._offer_backlog(page, more)
        self._flush()
        return not self.stale

    def _offer_backlog(self, page: HistoryPage, more: bool) -> None:
        backlog, self._backlog, self.stale = self._backlog, deque(), more
        for event in backlog:
            on_page = event.epoch == page.epoch and event.seq <= page.seq
            if on_page or Position(event.epoch, event.seq) not in self._unconfirmed:
                self._on_event(event)
        # An event that is not on the page is newer than the page, or belongs to a lost log. The
        # next page is certainly newer than the event. An event that is missing there too is
        # dropped: otherwise reading would never end.
        self._unconfirmed = {Position(event.epoch, event.seq) for event in self._backlog}

    def _start_of(self, page: HistoryPage) -> Position:
        """Return the position where a new epoch must start, so that none of its events is lost."""
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
            # A topic without history still has the events that arrived meanwhile.
            for event in self._backlog:
                if event.epoch == page.epoch and here < event.seq <= page.seq:
                    known.setdefault(event.seq, event)
        for seq in sorted(known):
            if seq > self.position.seq + 1:
                self._skip_to(seq - 1)
            self._deliver(known[seq])
        if not page.more and self.position.seq < page.seq:
            self._skip_to(page.seq)

    def _keep(self, event: Event) -> None:
        self.stale = True
        if len(self._backlog) >= MAX_BACKLOG:
            self._backlog.popleft()
        self._backlog.append(event)

    def _deliver(self, event: Event) -> None:
        self._delivered.last = (event.seq, hash(event.payload))
        self.position = Position(event.epoch, event.seq)
        self._steps.append((event, self.position))
        if self._ahead:
            self._promote()

    def _skip_to(self, seq: int) -> None:
        """Send subscribers a gap for the expired events up to `seq`, and go on after `seq`."""
        before, self.position = self.position, Position(self.position.epoch, seq)
        self._steps.append((self._expired(before, self.position), self.position))
        self._trail.missed(self.name, None, before.seq, self.position, "expired")
        if self._ahead:
            for transport, seen in self._ahead.items():
                if seen.seq < seq:
                    self._write_to(transport, self._expired(seen, self.position))
                    self._ahead[transport] = self.position
            self._promote()

    def _restart(self, start: Position) -> None:
        """Go on in another epoch: the old epoch is lost with all its events."""
        gap = self._epoch_changed(start)
        self._steps.append((gap, start))
        self._trail.missed(self.name, None, 0, start, "epoch_changed")
        self._flush()
        self.position = start
        self._delivered = Delivered()
        ahead, self._ahead = self._ahead, {}
        for transport in ahead:
            self._write_to(transport, gap)
            self.enter(transport, start)

    def _promote(self) -> None:
        """Make subscribers live whose position the worker has reached."""
        self._flush()  # these subscribers have already seen the unwritten pushes
        for transport, seen in list(self._ahead.items()):
            if seen.seq <= self.position.seq:
                self.enter(transport, self._ahead.pop(transport))

    # Fan-out -------------------------------------------------------------------------------

    def _flush(self) -> None:
        """Write the pushes to the live subscribers, without a task or an await."""
        if not self._steps:
            return
        steps, self._steps = self._steps, []
        for encoder, members in list(self._live.items()):
            at = self._write_batch(encoder, members, steps, 0)
            while at < len(steps):
                self._leave_behind(members, steps[at - 1][1])
                at = self._write_batch(encoder, members, steps, at)

    def _write_batch(
        self,
        encoder: Encoder,
        transports: Collection[Transport],
        steps: Sequence[_Step],
        at: int,
        made: _Batches | None = None,
    ) -> int:
        """Write pushes from index `at` on, about `FLUSH_BYTES`; return the index of the next push.

        Args:
            encoder: the encoder of the transports.
            transports: the transports to write to.
            steps: the pushes.
            at: the index of the first push.
            made: shared batches of these steps by encoder and index; this batch is added.
        """
        batch = None if made is None else made.get((encoder, at))
        if batch is None:
            packets: list[bytes] = []
            size, end = 0, at
            while end < len(steps) and size < FLUSH_BYTES:
                packet = encoder.encode(steps[end][0])
                if packet is not None:
                    packets.append(packet)
                    size += len(packet)
                end += 1
            batch = packets, size, end
            if made is not None:
                made[encoder, at] = batch
        packets, size, end = batch
        if packets:
            encoder.write(transports, packets)
            self._numbers.deliveries += len(packets) * len(transports)
            self._numbers.delivered_bytes += size * len(transports)
        return end

    def _leave_behind(self, members: Iterable[Transport], seen: Position) -> None:
        """Make subscribers with a full buffer lag; `replay` sends the rest."""
        for transport in [each for each in members if not each.writable]:
            self.leave(transport)
            self._fall_behind(transport, seen)

    def _write_to(self, transport: Transport, push: Push) -> None:
        packet = transport.encoder.encode(push)
        if packet is not None:
            transport.write(packet)

    def _expired(self, seen: Position, here: Position) -> Gap:
        return self._gap(seen.seq, here, "expired")

    def _epoch_changed(self, start: Position) -> Gap:
        return self._gap(0, start, "epoch_changed")

    def _gap(self, after: int, here: Position, reason: str) -> Gap:
        before = here.seq + 1
        self._numbers.gaps[reason] += 1
        return Gap(topic=self.name, epoch=here.epoch, after=after, before=before, reason=reason)
