"""One topic of the memory broker: keeps in lists what the scripts of Redis keep in sorted sets."""

from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Sequence
from heapq import merge
from itertools import islice
from operator import attrgetter
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from ..changes import (
    MAX_EMOJI,
    MAX_REACTING,
    NAMED_USERS,
    STREAMING,
    Append,
    Change,
    ChangeResult,
    Edit,
    MessageState,
    Outcome,
    Reacted,
    Reaction,
    Split,
)
from ..events import HELD, Draft, Event, HistoryPage, Kind, Position, PublishResult, Retention
from .common import assemble
from .folding import ERASED, erased, folded, tombstone

ENTRY_BYTES: Final = 200
"""Estimated overhead of a stored event in bytes."""

_seq = attrgetter("seq")


class _Entry(Struct):
    """A stored event; `content` is 0 once a deletion has removed the content."""

    seq: int
    kind: Kind
    payload: bytes
    content: int
    target: int = 0


class _Users(Struct):
    """The users who reacted with one emoji: their number, and the places of the remembered ones."""

    count: int
    places: dict[bytes, PublishResult]


class _State(Struct):
    """The result of a message's changes; `text` is the text appended after `split.front`."""

    version: int
    edited_at: int = 0
    label: str = ""
    data: bytes | None = None
    split: Split | None = None
    text: list[bytes] = []
    length: int = 0
    bytes: int = 0
    reactions: dict[str, _Users] = {}

    def message_state(self) -> MessageState:
        """Return the state for folding into the message."""
        data = self.data
        if self.split is not None:
            # Appended texts are joined only when the message is read.
            self.text = [b"".join(self.text)]
            data = self.split.front + self.text[0] + self.split.back
        return MessageState(
            version=self.version,
            edited_at=self.edited_at,
            state=self.label,
            data=data,
            reactions=tuple(
                Reacted(emoji, users.count, tuple(islice(users.places, NAMED_USERS)))
                for emoji, users in self.reactions.items()
            ),
        )


class Kept(Struct, frozen=True):
    """A message to restore into a log.

    Args:
        seq: the message's seq.
        payload: the published message.
        content: see `Draft`; 0 for a deleted message.
        state: the result of the message's changes, if any.
        reacting: the number of users and the remembered users, as JSON, by emoji.
    """

    seq: int
    payload: bytes
    content: int
    state: MessageState | None = None
    reacting: dict[str, tuple[int, list[bytes]]] = {}


class TopicLog:
    """A topic's position, its messages and their changes.

    Args:
        epoch: the topic's epoch.

    Attributes:
        epoch: the topic's epoch.
        epoch_start: the seq after which the epoch began.
        epoch_before: the previous epoch, taken over up to `epoch_start`; empty without one.
        seq: the last seq.
        size: estimated bytes of all stored events.
        taken: the seq up to which consumers have taken the events.
    """

    __slots__ = (
        *("_changes", "_messages", "_sizes", "_states", "_trimmed"),
        *("epoch", "epoch_before", "epoch_start", "seq", "taken"),
    )

    def __init__(self, epoch: str) -> None:
        self.epoch, self.epoch_before = epoch, ""
        self.seq = self.epoch_start = self.taken = 0
        self._messages: deque[_Entry] = deque()
        self._changes: deque[_Entry] = deque()
        self._states: dict[int, _State] = {}
        # Payload bytes of messages and of changes, and bytes of states.
        self._sizes = [0, 0, 0]
        # The seq of the last message that was trimmed.
        self._trimmed = 0

    def __len__(self) -> int:
        """Return the number of messages."""
        return len(self._messages)

    @property
    def size(self) -> int:
        """Estimated bytes of all stored events."""
        messages, changes, states = self._sizes
        count = len(self._messages) + len(self._changes)
        return messages + changes + states + ENTRY_BYTES * count

    def clear(self) -> None:
        """Delete every event; the position stays."""
        self._trimmed = self.seq
        self._messages.clear()
        self._changes.clear()
        self._states.clear()
        self._sizes = [0, 0, 0]

    def drop_oldest(self) -> int:
        """Delete the oldest message with its state; return the decrease of `size`."""
        if len(self._messages) == 1:
            freed = self.size
            self.clear()
            return freed
        oldest = self._messages.popleft()
        self._trimmed = oldest.seq
        freed = len(oldest.payload)
        self._sizes[0] -= freed
        return freed + ENTRY_BYTES + (self._forget(oldest.seq) if self._states else 0)

    def begin_epoch(self, epoch: str) -> None:
        """Go on in another epoch; stored events stay."""
        self.epoch_before, self.epoch, self.epoch_start = self.epoch, epoch, self.seq

    def counts(self, seq: int, epoch: str | None) -> bool:
        """Return whether a seq of an epoch belongs to the same event in the present epoch.

        The present epoch has taken over the events of the previous one up to `epoch_start`. Epochs
        further back are not known any more.
        """
        if epoch is None or epoch == self.epoch:
            return True
        return epoch == self.epoch_before and seq <= self.epoch_start

    def restore(self, position: Position, kept: Iterable[Kept]) -> None:
        """Continue a lost log at its position, with some of its newest messages.

        Args:
            position: the position of the lost log.
            kept: messages, ascending.
        """
        self.epoch, self.seq = position.epoch, position.seq
        self.taken = self._trimmed = position.seq
        for message in kept:
            if not self._messages:
                self._trimmed = message.seq - 1
            entry = _Entry(message.seq, Kind.MESSAGE, message.payload, message.content)
            self._messages.append(entry)
            self._sizes[0] += len(message.payload)
            if message.state is not None:
                state = self._states[message.seq] = _restored(message, position)
                self._sizes[2] += _held(state)

    # Writing -------------------------------------------------------------------------------

    def publish(self, draft: Draft, at: int) -> tuple[bytes, int]:
        """Store a message as the next event; `at` is in milliseconds.

        Returns:
            The payload, and the increase of `size`.
        """
        retention = draft.retention
        self.seq = seq = self.seq + 1
        payload = assemble(draft.head, seq, at, draft.tail)
        if retention.size == 0:
            held = self.size
            self.clear()
            return payload, -held
        self._messages.append(_Entry(seq, draft.kind, payload, draft.content))
        grown = len(payload)
        self._sizes[0] += grown
        while self._overflows(retention):
            grown -= self.drop_oldest()
        return payload, grown + ENTRY_BYTES

    def _overflows(self, retention: Retention) -> bool:
        count, size = len(self._messages), self._sizes[0]
        if (count <= retention.size and not 0 < retention.bytes < size) or count <= 1:
            return False
        # Events that consumers have not taken are held back.
        held = count <= retention.held_size and size <= retention.held_bytes
        return not (held and self._messages[0].seq > self.taken)

    def change(self, change: Change, at: int) -> tuple[ChangeResult, bytes]:
        """Store a change as the next event.

        Args:
            change: the change. All pieces of an append are stored: none of the pieces is a
                duplicate.
            at: milliseconds since 1970.

        Returns:
            The outcome, and the payload of the event; empty for no event.
        """
        message = self._target(change)
        if isinstance(message, Outcome):
            return ChangeResult(message), b""
        known = self._states.get(change.target)
        state = _State(change.target) if known is None else known
        held = 0 if known is None else _held(known)
        tail, content = change.tail, change.content
        match change:
            case Edit():
                state.edited_at, state.data, state.split, state.text = at, change.data, None, []
            case Append():
                refused = _append(state, message, change)
                if refused is not None:
                    return refused, b""
                text = b"".join(piece.text for piece in change.pieces)
                content = len(text) + 2
                tail += b',"length":%d,"state":"%b","text":"%b"}' % (
                    state.length,
                    state.label.encode(),
                    text,
                )
            case Reaction():
                place = PublishResult(self.seq + 1, self.epoch, at)
                refused = _react(state, change, place)
                if refused is not None:
                    return refused, b""
            case _:
                self._delete(message)
        self.seq += 1
        payload = assemble(change.head, self.seq, at, tail)
        self._changes.append(_Entry(self.seq, change.kind, payload, content, change.target))
        self._sizes[1] += len(payload)
        if change.kind is not Kind.DELETED:
            state.version = self.seq
            self._states[change.target] = state
            self._sizes[2] += _held(state) - held
        self._trim_changes(change.retention)
        place = PublishResult(self.seq, self.epoch, at, length=state.length)
        count = len(change.pieces) if isinstance(change, Append) else 1
        return ChangeResult(Outcome.STORED, (place,) * count), payload

    def _target(self, change: Change) -> _Entry | Outcome:
        """Return the message to be changed, or the reason why it cannot be changed at all."""
        if not self.counts(change.target, change.epoch):
            return Outcome.BEGUN_ANEW
        message = _at(self._messages, change.target)
        if message is None:
            return Outcome.NOT_FOUND
        if message.content == 0:
            return Outcome.GONE
        return message if _is_by(message.payload, change.author) else Outcome.FORBIDDEN

    def _trim_changes(self, retention: Retention) -> None:
        while len(self._changes) > 1 and (
            self._changes[0].seq + retention.changes <= self.seq
            or 0 < retention.bytes < self._sizes[1]
        ):
            if retention.held_size and self._holds_changes(retention):
                break
            self._sizes[1] -= len(self._changes.popleft().payload)

    def _holds_changes(self, retention: Retention) -> bool:
        """Return whether consumers that have not taken the oldest change hold the change back."""
        return (
            self._changes[0].seq > self.taken
            and len(self._changes) <= HELD * retention.changes
            and (not retention.bytes or self._sizes[1] <= HELD * retention.bytes)
        )

    def _delete(self, message: _Entry) -> None:
        """Remove the content of a message, and of all its edits and appends."""
        rest = tombstone(message.payload, message.content, self.seq + 1)
        self._sizes[0] += len(rest) - len(message.payload)
        message.payload, message.content = rest, 0
        self._forget(message.seq)
        for change in self._changes:
            if change.target == message.seq and change.kind in ERASED and change.content:
                rest = erased(change.kind, change.payload, change.content)
                self._sizes[1] += len(rest) - len(change.payload)
                change.payload, change.content = rest, 0

    def _forget(self, target: int) -> int:
        """Delete the state of a message; return the decrease of `size`."""
        state = self._states.pop(target, None)
        if state is None:
            return 0
        freed = _held(state)
        self._sizes[2] -= freed
        return freed

    # Reading -------------------------------------------------------------------------------

    def read(
        self,
        topic: str,
        *,
        after: int,
        before: int | None,
        limit: int,
        newest: bool,
        max_bytes: int,
        folded: bool,
    ) -> HistoryPage:
        """Return a page; see `realtime.ports.EventLog.history`."""
        sources = [self._messages] if folded else [self._messages, self._changes]
        # One entry above the limit shows whether there are more.
        chosen = [_between(source, after, before, limit + 1, newest) for source in sources]
        entries: list[_Entry] = list(merge(*chosen, key=_seq))
        count = len(entries)
        if newest:
            entries.reverse()
        events: list[Event] = []
        size = 0
        for entry in islice(entries, limit):
            payload = self._fold(entry) if folded else entry.payload
            size += len(payload)
            if events and size > max_bytes:
                break
            events.append(Event(topic, self.epoch, entry.seq, entry.kind, payload))
        if newest:
            events.reverse()
        missing = 0
        if not folded and after < self.seq:
            stored = sum(len(source) - _index(source, after + 1) for source in sources)
            missing = self.seq - after - stored
        return HistoryPage(
            epoch=self.epoch,
            seq=self.seq,
            events=events,
            more=0 < len(events) < count,
            epoch_start=self.epoch_start,
            missing=missing,
            folded=folded,
        )

    def newest(self, topic: str) -> Event | None:
        """Return the newest message in its present state, if the log has messages."""
        if not self._messages:
            return None
        message = self._messages[-1]
        return Event(topic, self.epoch, message.seq, message.kind, self._fold(message))

    def count_behind(self, cursor: int, author: bytes) -> tuple[int, bool]:
        """Count the messages of other users after a seq, without deleted ones.

        Args:
            cursor: the seq.
            author: JSON text at the beginning of `from` in the user's own messages.

        Returns:
            The number of messages, and whether messages after the seq are not stored any more.
        """
        behind = islice(self._messages, _index(self._messages, cursor + 1), None)
        count = sum(1 for each in behind if each.content and not _is_by(each.payload, author))
        return count, self._trimmed > cursor

    def _fold(self, message: _Entry) -> bytes:
        state = self._states.get(message.seq)
        if state is None:
            return message.payload
        return folded(message.payload, message.content, state.message_state())


def _index(entries: Sequence[_Entry], seq: int) -> int:
    """Return the index of the first entry whose seq is at least `seq`."""
    return bisect_left(entries, seq, key=_seq)


def _at(entries: Sequence[_Entry], seq: int) -> _Entry | None:
    index = _index(entries, seq)
    entry = entries[index] if index < len(entries) else None
    return entry if entry is not None and entry.seq == seq else None


def _between(
    entries: deque[_Entry], after: int, before: int | None, count: int, newest: bool
) -> list[_Entry]:
    """Return the entries with `after < seq < before`, at most `count` from one end."""
    start = _index(entries, after + 1)
    end = len(entries) if before is None else max(start, _index(entries, before))
    if newest:
        start = max(start, end - count)
    return list(islice(entries, start, min(end, start + count)))


def _restored(message: Kept, position: Position) -> _State:
    known = message.state or MessageState(message.seq)
    place = PublishResult(known.version, position.epoch, known.edited_at)
    return _State(
        known.version,
        known.edited_at,
        known.state,
        known.data,
        reactions={
            emoji: _Users(count, dict.fromkeys(users[:MAX_REACTING], place))
            for emoji, (count, users) in message.reacting.items()
        },
    )


def _held(state: _State) -> int:
    """Return the estimated bytes of a state."""
    data = state.bytes if state.split is not None else len(state.data or b"")
    reacting: Iterable[_Users] = state.reactions.values()
    return data + ENTRY_BYTES * (1 + sum(len(users.places) for users in reacting))


def _is_by(payload: bytes, author: bytes | None) -> bool:
    """Return whether a message's `from` begins with a text; no user controls the text before it."""
    if author is None:
        return True
    _, _, sender = payload.partition(b'"from":')
    rest = sender.removeprefix(author)
    return len(rest) < len(sender) and rest[:1] in (b",", b"}")


def _append(state: _State, message: _Entry, change: Append) -> ChangeResult | None:
    """Add text to a message, or return the reason of a refusal."""
    if state.label not in ("", STREAMING):
        return ChangeResult(Outcome.GONE)
    split, text, length, size = state.split, state.text, state.length, state.bytes
    if split is None:
        split = change.split
        if split is None or split.version != state.version:
            data = message.payload[-message.content : -1] if state.data is None else state.data
            return ChangeResult(Outcome.SPLIT, data=data, version=state.version)
        text, length, size = [], split.length, len(split.front) + len(split.back)
    size += sum(len(piece.text) for piece in change.pieces)
    if size > change.max_bytes:
        return ChangeResult(Outcome.TOO_LARGE)
    state.split, state.data, state.text, state.bytes = split, None, text, size
    state.text += [piece.text for piece in change.pieces]
    state.length = length + sum(piece.length for piece in change.pieces)
    state.label = change.state
    return None


def _react(state: _State, change: Reaction, place: PublishResult) -> ChangeResult | None:
    """Add or remove a reaction, or return the reason of a refusal."""
    users = state.reactions.get(change.emoji)
    if change.remove:
        if users is None or (change.user not in users.places and users.count <= len(users.places)):
            return ChangeResult(Outcome.NO_REACTION)
        users.places.pop(change.user, None)
        users.count -= 1
        if users.count == 0:
            del state.reactions[change.emoji]
        return None
    if users is None:
        if len(state.reactions) >= MAX_EMOJI:
            return ChangeResult(Outcome.TOO_MANY)
        users = state.reactions[change.emoji] = _Users(0, {})
    if change.user in users.places:
        known = replace(users.places[change.user], duplicate=True)
        return ChangeResult(Outcome.STORED, (known,))
    if len(users.places) < MAX_REACTING:
        users.places[change.user] = place
    users.count += 1
    return None
