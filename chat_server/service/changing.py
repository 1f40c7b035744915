"""`edit`, `append`, `delete` and `react`: the operations that change a message."""

from collections.abc import Mapping
from functools import partial
from types import MappingProxyType
from typing import Any

import msgspec
import regex

from .. import changes
from ..changes import MAX_EMOJI, Change, ChangeResult, Outcome, Piece
from ..events import Kind, PublishResult
from ..protocol import commands
from ..protocol.commands import ChangeCommand
from ..protocol.errors import (
    BadRequest,
    ChatError,
    Forbidden,
    Gone,
    NotFound,
    RateLimited,
    TooLarge,
)
from ..protocol.messages import AppendOk, ChangeOk
from .actor import Actor
from .answers import Answer
from .drafts import change_fields
from .service import Service

_ONE_CHARACTER = regex.compile(r"(?=.*[^\p{C}\p{Z}\p{M}\p{DI}])\X", regex.DOTALL)
"""One character as a reader counts them, with at least one visible part."""

_NO_EMOJI = regex.compile(r"[\p{C}\p{Z}--[\u200d\U000e0020-\U000e007f]]|\p{M}{5}", regex.V1)
"""Control and format characters and spaces, except for parts of emoji; and so many combining marks
that they cover neighbouring lines."""

_REFUSALS: Mapping[Outcome, tuple[type[ChatError], str]] = MappingProxyType(
    {
        Outcome.NOT_FOUND: (NotFound, "seq: there is no message {0.seq} in the topic's history"),
        Outcome.BEGUN_ANEW: (
            NotFound,
            "epoch: the topic has begun anew since, without message {0.seq}",
        ),
        Outcome.FORBIDDEN: (Forbidden, "seq: message {0.seq} is another user's"),
        Outcome.GONE: (Gone, "seq: message {0.seq} is deleted or finished"),
        Outcome.TOO_LARGE: (TooLarge, "text: message {0.seq} would become too large"),
        Outcome.TOO_MANY: (
            BadRequest,
            f"emoji: message {{0.seq}} has {MAX_EMOJI} different reactions already",
        ),
        Outcome.NO_REACTION: (NotFound, "emoji: message {0.seq} has no such reaction of yours"),
        Outcome.SPLIT: (BadRequest, "seq: message {0.seq} has no text to append to"),
    }
)


def edit(service: Service, actor: Actor, command: commands.Edit) -> Answer:
    """Replace the data of a message.

    Raises:
        TooLarge: `data` has more than `limits.max_message_bytes` of JSON.
        NotFound: the message does not exist (by the future, like all following errors).
        Forbidden: the message belongs to another user.
        Gone: the message is deleted.
        Unavailable: the broker cannot be reached.
    """
    topic, data = command.topic, bytes(command.data)
    service.check_size(topic, data)
    fields = _fields(service, actor, command, Kind.EDITED, b',"data":', data)
    return _change(service, command, changes.Edit(**fields, data=data))


def delete(service: Service, actor: Actor, command: commands.Delete) -> Answer:
    """Remove a message's data.

    Raises:
        NotFound: the message does not exist (by the future, like all following errors).
        Forbidden: the message belongs to another user.
        Gone: the message is deleted already.
        Unavailable: the broker cannot be reached.
    """
    return _change(service, command, Change(**_fields(service, actor, command, Kind.DELETED)))


def react(service: Service, actor: Actor, command: commands.React) -> Answer:
    """Add a user's reaction to a message, or remove a reaction.

    Raises:
        BadRequest: `emoji` is no single visible character, or the actor has no name.
        NotFound: the message or reaction does not exist (by the future, like all following errors).
        Gone: the message is deleted.
        Unavailable: the broker cannot be reached.
    """
    topic, emoji = command.topic, command.emoji
    if _NO_EMOJI.search(emoji) or not _ONE_CHARACTER.fullmatch(emoji):
        raise BadRequest("emoji: must be one visible character", topic=topic)
    if not actor.user:
        raise BadRequest("emoji: only a user can react", topic=topic)
    rest = b',"emoji":%b,"remove":%b' % (
        msgspec.json.encode(emoji),
        b"true" if command.remove else b"false",
    )
    reaction = changes.Reaction(
        **{**_fields(service, actor, command, Kind.REACTION, rest), "author": None},
        user=msgspec.json.encode(actor.user),
        emoji=emoji,
        remove=command.remove,
    )
    return _change(service, command, reaction)


def append(service: Service, actor: Actor, command: commands.Append) -> Answer:
    """Add to the text of a message.

    Raises:
        BadRequest: `text` is empty and `state` does not end the message; or the message has no text
            (by the future, like all following errors).
        NotFound: the message does not exist.
        Forbidden: the message belongs to another user.
        Gone: the message is deleted, or is not streaming any more.
        TooLarge: the data would have more than `limits.max_message_bytes` of JSON.
        Unavailable: the broker cannot be reached.
    """
    topic, text = command.topic, command.text
    if not text and command.state == changes.STREAMING:
        raise BadRequest("text: must not be empty unless `state` ends the message", topic=topic)
    added = msgspec.json.encode(text)[1:-1]
    fields = _fields(service, actor, command, Kind.APPENDED, size=len(added))
    piece = Piece(added, len(text), fields.pop("key"))
    draft = changes.Append(
        **fields,
        pieces=(piece,),
        state=command.state,
        max_bytes=service.node.settings.limits.max_message_bytes,
    )
    return Answer(service.appends.append(draft), partial(_appended, command))


def _fields(
    service: Service,
    actor: Actor,
    command: ChangeCommand,
    kind: Kind,
    rest: bytes = b"",
    content: bytes = b"",
    size: int | None = None,
) -> dict[str, Any]:
    """Return the fields of a command's draft; `size` is the size of `content`."""
    topic, target = command.topic, command.seq
    moderates = actor.may("moderate", topic)
    return {
        **change_fields(kind, topic, actor.sender, target, rest, content),
        "epoch": command.epoch,
        "author": None if moderates else b'{"user":%b' % msgspec.json.encode(actor.user),
        "retention": service.retention(topic),
        "key": actor.scoped(command.key, f"{kind}:{target}:"),
        "charges": service.charges(actor, topic, kind, len(content) if size is None else size),
    }


def _change(service: Service, command: ChangeCommand, change: Change) -> Answer:
    return Answer(service.appends.change(change), partial(_changed, command))


def _changed(command: ChangeCommand, result: ChangeResult) -> ChangeOk:
    return ChangeOk(**_place(command, place_of(result, command)))


def _appended(command: ChangeCommand, result: ChangeResult) -> AppendOk:
    place = place_of(result, command)
    return AppendOk(**_place(command, place), length=place.length)


def _place(command: ChangeCommand, place: PublishResult) -> dict[str, Any]:
    return {
        "topic": command.topic,
        "seq": place.seq,
        "target": command.seq,
        "epoch": place.epoch,
        "at": place.at,
        "duplicate": place.duplicate,
    }


def place_of(result: ChangeResult, command: ChangeCommand) -> PublishResult:
    """Return the place of a stored change.

    Raises:
        ChatError: the change was not stored, for the error's reason.
    """
    if result.outcome is Outcome.STORED:
        return result.places[0]
    if result.limited is not None:
        raise RateLimited.of_topic(result.limited, command.topic)
    error, text = _REFUSALS[result.outcome]
    raise error(text.format(command), topic=command.topic)
