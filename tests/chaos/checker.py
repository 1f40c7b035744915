"""The checker: a pure function that checks a history against section 4 of docs/protocol.md."""

from collections import defaultdict
from collections.abc import Iterator

from msgspec import Struct

from chat_server.events import Position

from .history import (
    Ack,
    GapReceived,
    History,
    Observations,
    Received,
    Rules,
    Subscribed,
)
from .states import check_states
from .violation import Violation


class Verdict(Struct, frozen=True):
    """The result of a check."""

    violations: list[Violation]
    resumes: int
    recovered: int
    gaps: int
    new_epochs: int


def check(history: History) -> Verdict:
    """Check each observer's records, then all observers and acknowledgements against each other."""
    followers = [
        _Follower(observed, history.rules, history.final.get(observed.topic))
        for observed in history.observers
    ]
    violations = [violation for follower in followers for violation in follower.run()]
    logs = _Logs(followers, history)
    violations += [*logs.check(), *_missing(followers, history.acks), *_repeated(history.acks)]
    violations += [*_misdirected(history.acks), *check_states(history)]
    return Verdict(
        violations=violations,
        resumes=sum(follower.resumes for follower in followers),
        recovered=sum(follower.recovered for follower in followers),
        gaps=sum(follower.gaps for follower in followers),
        new_epochs=sum(len(follower.starts) - 1 for follower in followers if follower.starts),
    )


class _Follower:
    """One observer of one topic, replayed from the start: position, seen and lost events.

    Args:
        final: the final position of the topic.
    """

    def __init__(self, observed: Observations, rules: Rules, final: Position | None) -> None:
        self.observed = observed
        self.place: Position | None = None
        self.starts: dict[str, int] = {}
        self.seen: dict[str, dict[int, Received | None]] = defaultdict(dict)
        self.lost: dict[str, list[range]] = defaultdict(list)
        self.resumes = self.recovered = self.gaps = 0
        self._changes = any(isinstance(e, Received) and e.change for e in observed.entries)
        self._history = rules.history[observed.topic]
        self._max_replay = rules.max_replay
        self._final = final

    def run(self) -> Iterator[Violation]:
        """Yield the violations in the observations, in their order."""
        for entry in self.observed.entries:
            if isinstance(entry, Subscribed):
                yield from self._enter(entry)
            elif self.place is None:
                yield self._violation("uninvited", 0, f"{entry} before the subscription")
            elif isinstance(entry, Received):
                yield from self._see(entry, self.place)
            elif isinstance(entry, GapReceived):
                yield from self._gap(entry, self.place)
        if self.place != self._final:
            seq = 0 if self.place is None else self.place.seq + 1
            yield self._violation(
                "left behind", seq, f"it ended at {self.place}, the topic at {self._final}"
            )

    def _enter(self, entry: Subscribed) -> Iterator[Violation]:
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

    def _see(self, event: Received, place: Position) -> Iterator[Violation]:
        seen = self.seen[place.epoch]
        if event.seq <= place.seq:
            kind = "twice" if event.seq in seen else "out of order"
            yield self._violation(kind, event.seq, f"{event.payload} behind {place.seq}")
            return
        if event.start <= place.seq:
            yield self._violation("twice", event.start, f"{event.payload} behind {place.seq}")
        if event.start > place.seq + 1:
            missed = event.start - place.seq - 1
            yield self._violation("skipped", place.seq + 1, f"{missed} events before {event.start}")
        # What each of several events was that came as one, nobody can tell.
        seen.update(dict.fromkeys(range(event.start, event.seq)))
        seen[event.seq] = None if event.first or event.deleted else event
        self.place = Position(place.epoch, event.seq)

    def _gap(self, gap: GapReceived, place: Position) -> Iterator[Violation]:
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
        kept = min(self._history, self._max_replay) if self._changes else self._history
        if final is not None and final.epoch == gap.epoch and here.seq > final.seq - kept:
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
        return Violation(kind, self.observed.topic, seq, self.observed.subscriber, detail)


class _Logs:
    """The event at each position of each epoch's log, from all observers and acknowledgements."""

    def __init__(self, followers: list[_Follower], history: History) -> None:
        self._rules = history.rules
        self._known: dict[tuple[str, str], dict[int, tuple[str, int]]] = defaultdict(dict)
        self._conflicts: list[Violation] = []
        for ack in history.acks:
            self._note(ack.topic, ack.epoch, ack.seq, (ack.payload, ack.target), "")
        for follower in followers:
            topic, subscriber = follower.observed.topic, follower.observed.subscriber
            for epoch in follower.starts:
                self._known[topic, epoch]
            for epoch, events in follower.seen.items():
                for seq, event in events.items():
                    if event is not None:
                        target = event.change.target if event.change else 0
                        self._note(topic, epoch, seq, (event.payload, target), subscriber)
        for stored in history.stored:
            for message in stored.messages:
                if message.version == message.seq:
                    told = message.name, 0
                    self._note(stored.topic, stored.position.epoch, message.seq, told, "history")

    def check(self) -> Iterator[Violation]:
        """Yield positions with two events, events with two positions, and false epochs."""
        yield from self._conflicts
        epochs: dict[str, int] = defaultdict(int)
        for (topic, _), events in self._known.items():
            epochs[topic] += 1
            places: dict[str, int] = {}
            for seq, (payload, target) in sorted(events.items()):
                first = places.setdefault(payload, seq)
                if first != seq and not target:
                    yield Violation("stored twice", topic, seq, "", f"{payload}, also at {first}")
        for topic, count in epochs.items():
            if count > 1 + self._rules.wipes:
                detail = f"{count} epochs, though the store was wiped {self._rules.wipes} times"
                yield Violation("needless epoch", topic, 0, "", detail)

    def _note(
        self, topic: str, epoch: str, seq: int, event: tuple[str, int], subscriber: str
    ) -> None:
        known = self._known[topic, epoch].setdefault(seq, event)
        if known != event:
            detail = f"{event[0]}, for others {known[0]}"
            self._conflicts.append(Violation("another event", topic, seq, subscriber, detail))


def _missing(followers: list[_Follower], acks: list[Ack]) -> Iterator[Violation]:
    """Yield acknowledged events that a subscriber neither received nor saw declared as lost.

    The announcement of an epoch's end declares all unseen events of this epoch as lost.
    """
    stored: dict[tuple[str, str], list[Ack]] = defaultdict(list)
    for ack in acks:
        stored[ack.topic, ack.epoch].append(ack)
    for follower in followers:
        for epoch, start in follower.starts.items():
            is_last = follower.place is not None and follower.place.epoch == epoch
            seen, lost = follower.seen[epoch], follower.lost[epoch]
            end = None if is_last else max(seen, default=start)
            for ack in stored[follower.observed.topic, epoch]:
                expected = ack.seq > start and (end is None or ack.seq <= end)
                if expected and ack.seq not in seen and not any(ack.seq in gap for gap in lost):
                    observed = follower.observed
                    yield Violation(
                        "missing",
                        observed.topic,
                        ack.seq,
                        observed.subscriber,
                        f"{ack.payload}, {epoch}",
                    )


def _repeated(acks: list[Ack]) -> Iterator[Violation]:
    """Yield publications that were acknowledged at two positions of one epoch."""
    places: dict[tuple[str, str, str], int] = {}
    for ack in acks:
        if ack.target:
            continue
        first = places.setdefault((ack.topic, ack.epoch, ack.payload), ack.seq)
        if first != ack.seq:
            detail = f"{ack.payload} acknowledged also at {first}"
            yield Violation("stored twice", ack.topic, ack.seq, "", detail)


def _misdirected(acks: list[Ack]) -> Iterator[Violation]:
    """Yield changes that reached another message than the one named with its epoch."""
    stored = {(ack.topic, ack.epoch, ack.seq): ack.payload for ack in acks if not ack.target}
    for ack in acks:
        # Of a message that the epoch took over, the publication was acknowledged in another one.
        found = stored.get((ack.topic, ack.epoch, ack.target), ack.meant)
        if ack.meant and found != ack.meant:
            detail = f"{ack.payload} meant {ack.meant}, and changed {found}"
            yield Violation("another message", ack.topic, ack.target, ack.publisher, detail)
