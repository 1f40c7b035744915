"""Messages and changes, as lines."""

import json
from datetime import datetime
from typing import Any

import msgspec

from ..client import Appended, Deleted, Edited, Event, Message, Messages, Reaction, User
from .terminal import escape_controls

GROWS = "streaming"


def event_line(event: Event, messages: Messages) -> str | None:
    """Return an event as a line for people, or None for an event without a line.

    Args:
        event: an event of a topic.
        messages: the topic's messages with the event folded in.
    """
    match event:
        case Message():
            return text_line(event)
        case Appended(state=state) if state == GROWS:
            return None  # The end of the stream gets a line.
        case Appended():
            whole = messages.get(event.target)
            if whole is not None:
                return text_line(whole, at=event.at)
            what = f"#{event.target} added: {event.text}"
        case Edited():
            what = f"edited #{event.target}: {_text(event.data)}"
        case Deleted():
            what = f"deleted #{event.target}"
        case Reaction(remove=True):
            what = f"took {event.emoji} back from #{event.target}"
        case Reaction():
            what = f"reacted {event.emoji} to #{event.target}"
        case _:
            return None
    return escape_controls(f"{_time(event.at)} {_name(event.sender)} {what}")


def text_line(message: Message, at: int | None = None) -> str:
    """Return a message, with its changes, as a line for people.

    Args:
        message: the message.
        at: the time to show, in milliseconds since 1970; the message's own by default.
    """
    parts = [_time(message.at if at is None else at), f"#{message.seq}"]
    parts.append(f"{_name(message.sender)}:")
    parts.append("(deleted)" if message.deleted else _text(message.data))
    if message.state == GROWS:
        parts.append("…")
    elif message.state == "cancelled":
        parts.append("(cancelled)")
    if message.edited_at is not None:
        parts.append("(edited)")
    if message.reactions:
        counts = (f"{emoji} {known.count}" for emoji, known in message.reactions.items())
        parts.append(f"[{', '.join(counts)}]")
    return escape_controls(" ".join(parts))


def json_line(event: Event, messages: Messages | None = None) -> str | None:
    """Return a message or a change as a line for programs, or None for other events."""
    if not isinstance(event, Message | Edited | Appended | Deleted | Reaction):
        return None
    # ASCII, so that no character can act on a terminal.
    return json.dumps(msgspec.to_builtins(event))


def moment(at: int) -> str:
    """Return a time in milliseconds since 1970 with its day."""
    return _time(at, "%Y-%m-%d %H:%M")


def _time(at: int, form: str = "%H:%M:%S") -> str:
    try:
        return datetime.fromtimestamp(at / 1000).strftime(form)
    except (ValueError, OverflowError, OSError):  # beyond all calendars, which a server may send
        return "--:--:--"


def _name(sender: User | None) -> str:
    return (sender.name or sender.user) if sender else "(server)"


def _text(data: Any) -> str:
    text = data.get("text") if isinstance(data, dict) else None
    return text if isinstance(text, str) else json.dumps(data, ensure_ascii=False)
