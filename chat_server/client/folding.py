"""Puts messages together with the events that change them."""

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

from msgspec.structs import replace

from .events import Appended, Change, Deleted, Edited, Event, Gap, Message, Reaction, Reactions

MAX_NAMED = 10
"""The number of users that a message names with each reaction."""

MAX_BEHIND = 990
"""Users behind the named ones that are known of one emoji on a message. With the named ones they
are as many as a server remembers."""

MAX_EARLY = 256
"""Changes of unknown messages that are remembered: the answer to `history` may come behind changes
that it does not contain yet."""


def changed(message: Message, event: Change) -> Message:
    """Return `message` as `event` leaves it.

    A message says by its `version` which event was the last that is part of it. Earlier events are
    ignored, so it does not matter in which order an answer and a push arrive.
    """
    version = message.seq if message.version is None else message.version
    if event.seq <= version or message.deleted:
        return message
    match event:
        case Edited():
            return replace(message, data=event.data, edited_at=event.at, version=event.seq)
        case Appended():
            data = _appended(message.data, event)
            return replace(message, data=data, state=event.state, version=event.seq)
        case Reaction():
            reactions = _reacted(message.reactions, event)
            return replace(message, reactions=reactions, version=event.seq)
        case Deleted():
            return Message(
                topic=message.topic,
                seq=message.seq,
                at=message.at,
                sender=message.sender,
                data=None,
                deleted=True,
                version=event.seq,
            )


def text_of(data: Any) -> str | None:
    """Return the text of a message, to which appends add; None if it has none."""
    text = data.get("text") if isinstance(data, dict) else data
    return text if isinstance(text, str) else None


def with_text(data: Any, text: str) -> Any:
    """Return `data` with another text."""
    return {**data, "text": text} if isinstance(data, dict) else text


def _appended(data: Any, event: Appended) -> Any:
    """Return `data` with what it lacks of the text of `event`, which may stand for several."""
    text = text_of(data)
    if text is None:  # of a message that is deleted by now
        return data
    missing = event.length - len(text)
    return with_text(data, text + event.text[-missing:]) if missing > 0 else data


class _Named(list[str]):
    """The users that a message names with an emoji, the first ten.

    Attributes:
        behind: users who reacted later, in their order. They move up as long as nobody unknown may
            stand between: a message from history tells only how many users it does not name.
    """

    behind: tuple[str, ...] = ()


def _reacted(reactions: dict[str, Reactions], event: Reaction) -> dict[str, Reactions]:
    known = reactions.get(event.emoji, Reactions(0, []))
    named = _Named(known.users)
    behind = list(known.users.behind) if isinstance(known.users, _Named) else []
    user = event.sender.user if event.sender is not None else ""
    count = known.count - 1 if event.remove else known.count + 1
    if event.remove:
        for users in (named, behind):
            if user in users:
                users.remove(user)
    elif len(behind) < MAX_BEHIND:
        behind.append(user)
    if len(named) + len(behind) == count:
        room = MAX_NAMED - len(named)
        named += behind[:room]
        del behind[:room]
    named.behind = tuple(behind)
    if count > 0:
        return {**reactions, event.emoji: Reactions(count, named)}
    return {emoji: other for emoji, other in reactions.items() if emoji != event.emoji}


class Messages:
    """The newest messages of a topic as they now are, ascending.

    Made up to date by the events of one subscription. Messages are replaced, never changed in
    place. A `Gap` empties the collection, because changes may have been lost. What history still
    has can be added again.

    A message names the first ten users who reacted with an emoji, as history does. When one of
    these takes the reaction back, the next one moves up if all who reacted are known. A message
    that came from history with more than ten says of the others only how many they are. As long as
    one of these may be next, the message names fewer than ten beside the right count, until it is
    read from history again.

    Args:
        limit: messages held at most; the oldest are dropped.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._by_seq: dict[int, Message] = {}
        self._early: deque[Change] = deque(maxlen=MAX_EARLY)

    def __len__(self) -> int:
        """Return the number of messages held."""
        return len(self._by_seq)

    def __iter__(self) -> Iterator[Message]:
        """Iterate over the messages held, the oldest first."""
        return iter(list(self._by_seq.values()))

    def get(self, seq: int) -> Message | None:
        """Return the message `seq` as it now is, or None if it is not held."""
        return self._by_seq.get(seq)

    def add(self, messages: Iterable[Message]) -> None:
        """Add messages from history: of each the later version counts."""
        for message in messages:
            known = self._by_seq.get(message.seq)
            if known is None or _version(known) < _version(message):
                self._by_seq[message.seq] = message
            if known is None:
                for event in self._early:
                    if event.target == message.seq:
                        self._change(event)
        self._by_seq = dict(sorted(self._by_seq.items()))
        self._drop_oldest()

    def apply(self, event: Event) -> None:
        """Bring the messages up to date with the next event of the topic."""
        match event:
            case Message():
                newest = next(reversed(self._by_seq), 0)
                if event.seq > newest:
                    self._by_seq[event.seq] = event
                    self._drop_oldest()
                else:
                    self.add([event])
            case Edited() | Appended() | Deleted() | Reaction():
                if event.target in self._by_seq:
                    self._change(event)
                elif self._limit:
                    self._early.append(event)
            case Gap():
                self._by_seq.clear()
                self._early.clear()

    def _change(self, event: Change) -> None:
        self._by_seq[event.target] = changed(self._by_seq[event.target], event)

    def _drop_oldest(self) -> None:
        while len(self._by_seq) > self._limit:
            del self._by_seq[next(iter(self._by_seq))]


def _version(message: Message) -> int:
    return message.seq if message.version is None else message.version
