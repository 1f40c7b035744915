"""The checker of changed messages: all final views must agree, and match the operations."""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import groupby

from msgspec import Struct

from .folding import fold
from .history import History, Operation, Received, Shown, Stored
from .violation import Violation

TOKEN = re.compile(r"<[^<>]*>")
"""The text of one append."""


class _Work(Struct):
    """The operations on one message: stored ones in order, and possibly stored ones."""

    done: list[Operation]
    maybe: list[Operation]

    def of(self, kind: str) -> tuple[list[Operation], list[Operation]]:
        """Return the operations of one kind."""
        done = [each for each in self.done if each.kind == kind]
        return done, [each for each in self.maybe if each.kind == kind]


def token_of(operation: Operation) -> str:
    """Return the unique text of an append."""
    return f"<{operation.publisher} ü {operation.number}>"


def check_states(history: History) -> Iterator[Violation]:
    """Yield differences between observers, history and operations."""
    for stored in history.stored:
        topic, epoch = stored.topic, stored.position.epoch
        found = {message.seq: message for message in stored.messages}
        yield from _lost(history, stored)
        for observed in history.observers:
            shown = fold(observed.entries) if observed.topic == topic else {}
            for seq, message in shown.items():
                known = found.setdefault(seq, message)
                if known != message:
                    detail = f"{message}, for others {known}"
                    yield Violation("another state", topic, seq, observed.subscriber, detail)
        work, edits = _work_of(history.operations, topic, epoch), _edits(history, topic)
        names = {
            each.seq: each.name
            for each in history.operations
            if (each.kind, each.topic, each.epoch) == ("publish", topic, epoch)
        }
        for seq, message in found.items():
            for kind, detail in _wrong(message, names.get(seq), work[seq], edits):
                yield Violation(kind, topic, seq, "", detail)


def _lost(history: History, stored: Stored) -> Iterator[Violation]:
    """Yield acknowledged messages that are missing in history."""
    place = stored.topic, stored.position.epoch, 0
    acked = {ack.seq for ack in history.acks if (ack.topic, ack.epoch, ack.target) == place}
    kept = sorted(acked)[-history.rules.history[stored.topic] :]
    for seq in {*kept} - {message.seq for message in stored.messages}:
        yield Violation("missing", stored.topic, seq, "history", "acknowledged, and not stored")


def _edits(history: History, topic: str) -> dict[str, int]:
    """Return the observed seq of each edit, by the name of its data."""
    return {
        entry.change.name: entry.seq
        for observed in history.observers
        if observed.topic == topic
        for entry in observed.entries
        if isinstance(entry, Received) and entry.change and entry.change.kind == "edited"
    }


def _work_of(operations: Iterable[Operation], topic: str, epoch: str) -> dict[int, _Work]:
    """Return the operations on each message of an epoch.

    A refused operation counts as possibly stored: a repetition may be refused while the first
    attempt is still under way.
    """
    found: dict[int, _Work] = defaultdict(lambda: _Work([], []))
    for each in sorted(operations, key=lambda each: (each.seq, each.number)):
        if each.topic == topic and each.target:
            if each.seq and each.epoch == epoch:
                found[each.target].done.append(each)
            elif not each.seq and each.attempts:
                found[each.target].maybe.append(each)
    return found


def _wrong(
    message: Shown, name: str | None, work: _Work, edits: dict[str, int]
) -> Iterator[tuple[str, str]]:
    """Yield the faults of a message."""
    deletes, maybe_deletes = work.of("delete")
    if message.deleted or deletes:
        if not message.deleted:
            yield "not deleted", f"{message}, deleted by {deletes[-1]}"
        elif not (deletes or maybe_deletes):
            yield "wrongly deleted", str(message)
        return
    newest = max((each.seq for each in work.done), default=0)
    if message.version < newest:
        yield "missing change", f"{newest} is not part of {message}"
    yield from _wrong_data(message, name, work, edits)
    yield from _wrong_state(message, work)
    yield from _wrong_reactions(message, work)


def _wrong_data(
    message: Shown, name: str | None, work: _Work, edits: dict[str, int]
) -> Iterator[tuple[str, str]]:
    done, maybe = work.of("edit")
    start: int | None = done[-1].seq if done else 0
    expected = done[-1].name if done else name
    if expected is not None and message.name != expected:
        if message.name not in (each.name for each in maybe):
            yield "wrong data", f"{message.name}, not {expected}"
            return
        start = edits.get(message.name)
        if start is not None and done and start < done[-1].seq:
            yield "wrong data", f"{message.name} of {start}, not {expected}"
    if start is not None:
        yield from _wrong_text(message, work, start)


def _wrong_text(message: Shown, work: _Work, start: int) -> Iterator[tuple[str, str]]:
    """Yield the faults of the text appended behind the event `start`."""
    tokens = TOKEN.findall(message.text)
    if "".join(tokens) != message.text:
        yield "broken text", message.text
    if len(set(tokens)) < len(tokens):
        yield "appended twice", message.text
        return
    done, maybe = work.of("append")
    optional = {token_of(each) for each in maybe}
    left = [token for token in tokens if token not in optional]
    for seq, group in groupby((op for op in done if op.seq > start), key=lambda op: op.seq):
        together = list(group)
        part, left = left[: len(together)], left[len(together) :]
        # One that was sent again may have come behind those that were sent after it.
        once = [token_of(each) for each in together if each.attempts == 1]
        if {token_of(each) for each in together} != set(part):
            yield "wrong text", f"{seq} is not where it belongs: {together} in {message.text}"
            return
        if once != [token for token in part if token in once]:
            yield "wrong text", f"{seq} is out of order: {together} in {message.text}"
    if left:
        yield "wrong text", f"nobody has appended {left}"


def _wrong_state(message: Shown, work: _Work) -> Iterator[tuple[str, str]]:
    done, maybe = work.of("append")
    ends = any(each.state for each in done)
    may_end = any(each.state for each in maybe)
    if ends and message.state != "complete":
        yield "wrong state", f"{message.state!r}, though it was completed"
    if message.state == "complete" and not (ends or may_end):
        yield "wrong state", "complete, and nobody has completed it"


def _wrong_reactions(message: Shown, work: _Work) -> Iterator[tuple[str, str]]:
    done, maybe = work.of("react")
    last = {(each.emoji, each.publisher): not each.remove for each in done}
    optional = {(each.emoji, each.publisher) for each in maybe}
    there = {pair for pair, added in last.items() if added}
    shown = {(emoji, user) for emoji, (_, users) in message.reactions.items() for user in users}
    if not there - optional <= shown <= there | optional:
        yield "wrong reactions", f"{message.reactions}, not {sorted(there)}"
    for emoji, (count, users) in message.reactions.items():
        if count != len(users):
            yield "counted wrongly", f"{count} of {emoji} by {users}"
