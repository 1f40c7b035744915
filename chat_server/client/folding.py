"""Applies change events to messages."""

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

from msgspec.structs import replace

from .events import Appended, Change, Deleted, Edited, Event, Gap, Message, Reaction, Reactions

MAX_NAMED = 10
"""Users named in a message for each reaction."""

MAX_BEHIND = 990
"""Users known for one emoji on a message, beyond the named users. Both together are as many as a
server remembers.
"""

MAX_EARLY = 256
"""Changes of unknown messages kept for later: the answer to `history` may arrive behind changes
that the answer does not contain.
"""


def changed(message: Message, event: Change) -> Message:
    """Return `message` with `event` applied.

    The `version` of a message is the seq of its last applied change. Earlier changes are ignored,
    so the order of an answer and a push does not matter.
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
    """Return the text of a message, the target of appends; None for data without a text."""
    text = data.get("text") if isinstance(data, dict) else data
    return text if isinstance(text, str) else None


def with_text(data: Any, text: str) -> Any:
    """Return `data` with another text."""
    return {**data, "text": text} if isinstance(data, dict) else text


def _appended(data: Any, event: Appended) -> Any:
    """Return `data` with the missing part of the text of `event`, possibly of several appends."""
    text = text_of(data)
    if text is None:  # the message is deleted by now
        return data
    missing = event.length - len(text)
    return with_text(data, text + event.text[-missing:]) if missing > 0 else data


class _Named(list[str]):
    """The users that a message names with an emoji, the first ten.

    Attributes:
        behind: users who reacted later, in order. A user moves up only if all earlier users are
            known: a message from history has only the number of users beyond the named ones.
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
    """The newest messages of a topic with their changes applied, ascending.

    The events of one subscription update the messages. Messages are replaced, never modified. A
    `Gap` empties the collection, because changes may have been lost. The application can add
    messages from history again.

    For each emoji a message names the first ten users who reacted, as history does. If a named user
    removes the reaction, the next user moves up, provided all users are known. A message from
    history with more than ten users gives only the number of the other users. While an unknown user
    may be the next, the message names fewer than ten users beside the correct count, until the
    application reads the message from history again.

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
        """Return the message `seq` with its changes; None for a message that is not held."""
        return self._by_seq.get(seq)

    def add(self, messages: Iterable[Message]) -> None:
        """Add messages from history; the later version of each message counts."""
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
        """Apply the next event of the topic."""
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
