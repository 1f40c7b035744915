"""Holds a record to section 4 of docs/protocol.md; knows nothing of how it came about."""

from collections import defaultdict
from collections.abc import Iterator

from msgspec import Struct

from chat_server.events import Position

from .record import Ack, Entered, Record, Rules, Seen, Told, Trail


class Violation(Struct, frozen=True, omit_defaults=True):
    """A promise that was not kept.

    Args:
        kind: which one.
        seq: where in the topic's order, 0 if nowhere.
        subscriber: who saw it, "" if it does not depend on one.
    """

    kind: str
    topic: str
    seq: int
    subscriber: str
    detail: str


class Verdict(Struct, frozen=True):
    """What the trails say together."""

    violations: list[Violation]
    resumes: int
    recovered: int
    gaps: int
    new_epochs: int


def verify(record: Record) -> Verdict:
    """Check every trail by itself, then all of them and the acknowledgements against each other."""
    walks = [_Walk(trail, record.rules, record.final.get(trail.topic)) for trail in record.trails]
    violations = [violation for walk in walks for violation in walk.run()]
    orders = _Orders(walks, record)
    violations += [*orders.check(), *_missing(walks, record.acks), *_repeated(record.acks)]
    return Verdict(
        violations=violations,
        resumes=sum(walk.resumes for walk in walks),
        recovered=sum(walk.recovered for walk in walks),
        gaps=sum(walk.gaps for walk in walks),
        new_epochs=sum(len(walk.starts) - 1 for walk in walks if walk.starts),
    )


class _Walk:
    """One trail, followed from its start: where it stands, what it saw, what it was told is lost.

    Args:
        final: where the topic stood in the end.
    """

    def __init__(self, trail: Trail, rules: Rules, final: Position | None) -> None:
        self.trail = trail
        self.place: Position | None = None
        self.starts: dict[str, int] = {}
        self.seen: dict[str, dict[int, str]] = defaultdict(dict)
        self.lost: dict[str, list[range]] = defaultdict(list)
        self.resumes = self.recovered = self.gaps = 0
        self._history = rules.history[trail.topic]
        self._max_replay = rules.max_replay
        self._final = final

    def run(self) -> Iterator[Violation]:
        """Follow the trail to its end."""
        for entry in self.trail.entries:
            if isinstance(entry, Entered):
                yield from self._enter(entry)
            elif self.place is None:
                yield self._violation("uninvited", 0, f"{entry} before the subscription")
            elif isinstance(entry, Seen):
                yield from self._see(entry, self.place)
            else:
                yield from self._gap(entry, self.place)
        if self.place != self._final:
            seq = 0 if self.place is None else self.place.seq + 1
            yield self._violation(
                "left behind", seq, f"it ended at {self.place}, the topic at {self._final}"
            )

    def _enter(self, entry: Entered) -> Iterator[Violation]:
        if entry.since is None or self.place is None:
            self._move(Position(entry.epoch, entry.seq - entry.replayed))
            return
        since = self.place
        self.resumes += 1
        if entry.recovered:
            self.recovered += 1
            if entry.epoch != since.epoch or entry.seq - entry.replayed != since.seq:
                yield self._violation("wrong resume", since.seq, f"from {since} by {entry}")
            return
        if entry.epoch == since.epoch:
            missed = entry.seq - since.seq
            if missed <= min(self._history, self._max_replay):
                yield self._violation("not recovered", since.seq + 1, f"{missed} missed: {entry}")
            self.lost[entry.epoch].append(range(since.seq + 1, entry.seq + 1))
            if missed >= 0:
                self._move(Position(entry.epoch, entry.seq))
        else:
            yield from self._restart(Position(entry.epoch, entry.seq), f"told by {entry}")

    def _see(self, event: Seen, place: Position) -> Iterator[Violation]:
        seen = self.seen[place.epoch]
        if event.seq <= place.seq:
            kind = "twice" if event.seq in seen else "out of order"
            yield self._violation(kind, event.seq, f"{event.payload} behind {place.seq}")
            return
        if event.seq > place.seq + 1:
            yield self._violation(
                "skipped", place.seq + 1, f"{event.seq - place.seq - 1} events before {event.seq}"
            )
        seen[event.seq] = event.payload
        self.place = Position(place.epoch, event.seq)

    def _gap(self, gap: Told, place: Position) -> Iterator[Violation]:
        self.gaps += 1
        here = Position(gap.epoch, gap.before - 1)
        if gap.epoch != place.epoch:
            yield from self._restart(here, f"told by {gap}")
            return
        if gap.after > place.seq:
            yield self._violation("skipped", place.seq + 1, f"not in {gap}")
        if here.seq < place.seq:
            yield self._violation("went back", place.seq, f"told by {gap}")
            return
        final = self._final
        if final is not None and final.epoch == gap.epoch and here.seq > final.seq - self._history:
            yield self._violation("needless gap", here.seq, f"still stored, and yet {gap}")
        self.lost[gap.epoch].append(range(place.seq + 1, gap.before))
        self.place = here

    def _restart(self, here: Position, why: str) -> Iterator[Violation]:
        if here.epoch in self.starts:
            yield self._violation("went back", here.seq, f"to an earlier epoch, {why}")
        self._move(here)

    def _move(self, here: Position) -> None:
        self.starts.setdefault(here.epoch, here.seq)
        self.place = here

    def _violation(self, kind: str, seq: int, detail: str) -> Violation:
        return Violation(kind, self.trail.topic, seq, self.trail.subscriber, detail)


class _Orders:
    """What stands at each place of each topic's orders, by whoever knows of it."""

    def __init__(self, walks: list[_Walk], record: Record) -> None:
        self._rules = record.rules
        self._known: dict[tuple[str, str], dict[int, str]] = defaultdict(dict)
        self._conflicts: list[Violation] = []
        for ack in record.acks:
            self._note(ack.topic, ack.epoch, ack.seq, ack.payload, "")
        for walk in walks:
            topic, subscriber = walk.trail.topic, walk.trail.subscriber
            for epoch in walk.starts:
                self._known[topic, epoch]
            for epoch, events in walk.seen.items():
                for seq, payload in events.items():
                    self._note(topic, epoch, seq, payload, subscriber)

    def check(self) -> Iterator[Violation]:
        """Yield places of which two things are told, events with two places, and false epochs."""
        yield from self._conflicts
        epochs: dict[str, int] = defaultdict(int)
        for (topic, _), events in self._known.items():
            epochs[topic] += 1
            places: dict[str, int] = {}
            for seq, payload in sorted(events.items()):
                first = places.setdefault(payload, seq)
                if first != seq:
                    yield Violation("stored twice", topic, seq, "", f"{payload}, also at {first}")
        for topic, count in epochs.items():
            if count > 1 + self._rules.wipes:
                detail = f"{count} epochs, though the store was wiped {self._rules.wipes} times"
                yield Violation("needless epoch", topic, 0, "", detail)

    def _note(self, topic: str, epoch: str, seq: int, payload: str, subscriber: str) -> None:
        known = self._known[topic, epoch].setdefault(seq, payload)
        if known != payload:
            detail = f"{payload}, for others {known}"
            self._conflicts.append(Violation("another event", topic, seq, subscriber, detail))


def _missing(walks: list[_Walk], acks: list[Ack]) -> Iterator[Violation]:
    """Yield acknowledged events that a subscriber neither got nor was told of.

    When it is told that an epoch is over, what it had not seen of it is lost and declared so.
    """
    stored: dict[tuple[str, str], list[Ack]] = defaultdict(list)
    for ack in acks:
        stored[ack.topic, ack.epoch].append(ack)
    for walk in walks:
        for epoch, start in walk.starts.items():
            is_last = walk.place is not None and walk.place.epoch == epoch
            seen, lost = walk.seen[epoch], walk.lost[epoch]
            end = None if is_last else max(seen, default=start)
            for ack in stored[walk.trail.topic, epoch]:
                expected = ack.seq > start and (end is None or ack.seq <= end)
                if expected and ack.seq not in seen and not any(ack.seq in gap for gap in lost):
                    trail = walk.trail
                    yield Violation(
                        "missing", trail.topic, ack.seq, trail.subscriber, f"{ack.payload}, {epoch}"
                    )


def _repeated(acks: list[Ack]) -> Iterator[Violation]:
    """Yield publications that were acknowledged at two places of one order."""
    places: dict[tuple[str, str, str], int] = {}
    for ack in acks:
        first = places.setdefault((ack.topic, ack.epoch, ack.payload), ack.seq)
        if first != ack.seq:
            detail = f"{ack.payload} acknowledged also at {first}"
            yield Violation("stored twice", ack.topic, ack.seq, "", detail)
