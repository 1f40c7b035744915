"""Applies events to messages: rows of the archive, before they are written."""

from typing import Any, Final

import msgspec
from msgspec import Raw, Struct, field

from ..broker.folding import erased, folded, tombstone
from ..changes import NAMED_USERS, MessageState, Reacted, split_of
from ..events import Kind
from .tables import USER_LENGTH

MAX_TEXT: Final = 100_000
"""Characters of a message in the search index."""


class _From(Struct, gc=False):
    user: str = ""


class Parsed(Struct, gc=False):
    """The fields of an event's payload that the archive reads."""

    at: int = 0
    sender: _From | None = field(name="from", default=None)
    data: Raw = Raw(b"null")
    deleted: bool = False
    version: int = 0
    target: int = 0
    state: str = ""
    text: Raw = Raw(b'""')
    emoji: str = ""
    remove: bool = False

    @property
    def user(self) -> str | None:
        """The id of the event's author; None without an author."""
        return self.sender.user[:USER_LENGTH] if self.sender is not None else None


_parse = msgspec.json.Decoder(Parsed).decode


class _Texted(Struct, gc=False):
    text: Any = None


_texted = msgspec.json.Decoder(_Texted).decode
_string = msgspec.json.Decoder(str).decode
_reactions = msgspec.json.Decoder(list[tuple[str, int, list[str]]]).decode


def parse(payload: bytes) -> Parsed | None:
    """Return the fields of a payload; None for a payload of another program."""
    try:
        return _parse(payload)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def text_of(data: bytes) -> str | None:
    """Return the searchable text of `data`: the text itself, or its member `text`."""
    try:
        text = _string(data) if data[:1] == b'"' else _texted(data).text
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    # PostgreSQL allows no NUL in a text.
    return text[:MAX_TEXT].replace("\0", "") or None if isinstance(text, str) else None


class Message:
    """A message with its changes applied; the fields are columns of `MessageRow`."""

    __slots__ = (
        *("_appended", "_reactions", "_split", "at", "author", "content", "data", "edited_at"),
        *("payload", "seq", "state", "text", "version"),
    )

    def __init__(self, seq: int, payload: bytes, parsed: Parsed) -> None:
        self.seq = seq
        self.at = parsed.at
        self.author = parsed.user
        self.payload = payload
        self.version = parsed.version or seq
        self.edited_at = 0
        self.state = ""
        self.data: bytes | None = None
        self._split: tuple[bytes, bytes] | None = None
        self._appended: list[bytes] = []
        self._reactions: dict[str, tuple[int, list[str]]] = {}
        if parsed.deleted:
            self.content, self.text = 0, None
        else:
            self.content, self.text = len(parsed.data) + 1, text_of(bytes(parsed.data))

    @classmethod
    def of_row(cls, row: Any) -> "Message":
        """Return the message in a row of `MessageRow`."""
        message = cls.__new__(cls)
        for name in ("seq", "at", "author", "payload", "version", "edited_at", "state"):
            setattr(message, name, getattr(row, name))
        message.content, message.data, message.text = row.content, row.data, row.text
        message._split, message._appended, message._reactions = None, [], {}
        if row.reactions:
            message._reactions = {
                emoji: (count, users) for emoji, count, users in _reactions(row.reactions)
            }
        return message

    @property
    def reactions(self) -> bytes | None:
        """The reactions in their stored form."""
        listed = [(emoji, *each) for emoji, each in self._reactions.items()]
        return msgspec.json.encode(listed) if listed else None

    def change(self, kind: Kind, seq: int, parsed: Parsed) -> None:
        """Apply an event; ignore an event that is already applied or follows a deletion."""
        if self.content == 0 or seq <= self.version:
            return
        self.version = seq
        match kind:
            case Kind.EDITED:
                self.edited_at = parsed.at
                self._put(bytes(parsed.data))
            case Kind.APPENDED:
                self.state = parsed.state
                self._append(bytes(parsed.text)[1:-1])
            case Kind.REACTION:
                self._react(parsed.emoji, parsed.user or "", remove=parsed.remove)
            case Kind.DELETED:
                self._delete()

    def finish(self) -> None:
        """Join appended texts; called after the last event."""
        if self._split is not None:
            front, back = self._split
            self._put(b"".join((front, *self._appended, back)))

    def state_of(self) -> MessageState:
        """Return the state for folding into the payload."""
        return MessageState(
            version=self.version,
            edited_at=self.edited_at,
            state=self.state,
            data=self.data,
            reactions=tuple(
                Reacted(emoji, count, tuple(map(msgspec.json.encode, users[:NAMED_USERS])))
                for emoji, (count, users) in self._reactions.items()
            ),
        )

    def folded(self) -> bytes:
        """Return the message with its changes, in the form of the store."""
        if self.content == 0 or self.version == self.seq:
            return self.payload
        return folded(self.payload, self.content, self.state_of())

    def reacting(self) -> dict[str, tuple[int, list[str]]]:
        """Return the number of users and the known users, by emoji."""
        return self._reactions

    def _put(self, data: bytes) -> None:
        self._split, self._appended = None, []
        self.data, self.text = data, text_of(data)

    def _append(self, text: bytes) -> None:
        if self._split is None:
            data = self.payload[-self.content : -1] if self.data is None else self.data
            split = split_of(data, 0)
            if split is None:
                return  # The data has no text: the append only ended the message.
            self._split = (split.front, split.back)
        self._appended.append(text)

    def _react(self, emoji: str, user: str, *, remove: bool) -> None:
        count, users = self._reactions.get(emoji, (0, []))
        if user in users:
            users.remove(user)
            count -= 1
        elif remove:
            count -= 1
        if not remove:
            users.append(user)
            count += 1
        if count > 0:
            self._reactions[emoji] = (count, users)
        else:
            self._reactions.pop(emoji, None)

    def _delete(self) -> None:
        self.payload = tombstone(self.payload, self.content, self.version)
        self.content, self.state, self.edited_at = 0, "", 0
        self.data = self.text = None
        self._split, self._appended, self._reactions = None, [], {}


def erased_change(kind: str, payload: bytes) -> bytes:
    """Return a change without its content, after the deletion of its message."""
    parsed = parse(payload)
    if parsed is None:
        return payload
    match kind:
        case Kind.EDITED:
            return erased(Kind.EDITED, payload, len(parsed.data) + 1)
        case Kind.APPENDED:
            return erased(Kind.APPENDED, payload, len(parsed.text))
    return payload
