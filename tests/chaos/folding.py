"""Applies change events to messages, according to section 4.8 of docs/protocol.md."""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from msgspec.structs import replace

from .history import Change, Entry, GapReceived, Loaded, Received, Shown, Subscribed
from .payloads import name_of, text_of

STREAMING = "streaming"


def received(push: dict[str, Any]) -> Received | None:
    """Return the stored event in a push; None for another push."""
    kind, seq = push["type"], push.get("seq")
    if kind == "message":
        if push.get("deleted"):
            return Received(push["seq"], "", deleted=push["version"])
        return Received(push["seq"], name_of(push["data"]))
    if kind not in ("edited", "appended", "deleted", "reaction"):
        return None
    data = push.get("data")
    change = Change(
        kind=kind,
        target=push["target"],
        user=push["from"]["user"],
        name=name_of(data) if data is not None else "",
        text=push.get("text", ""),
        length=push.get("length", 0),
        state=push.get("state", STREAMING) if kind == "appended" else "",
        emoji=push.get("emoji", ""),
        remove=push.get("remove", False),
    )
    return Received(push["seq"], change.payload, change, push.get("first") or 0) if seq else None


def shown(message: dict[str, Any]) -> Shown:
    """Return a message of history."""
    deleted = message.get("deleted", False)
    return Shown(
        seq=message["seq"],
        version=message.get("version", message["seq"]),
        name="" if deleted else name_of(message["data"]),
        text="" if deleted else text_of(message["data"]),
        state=message.get("state", ""),
        deleted=deleted,
        reactions={
            emoji: (each["count"], tuple(each["users"]))
            for emoji, each in message.get("reactions", {}).items()
        },
    )


def fold(entries: Iterable[Entry]) -> dict[int, Shown]:
    """Return the messages that an observer knows after these entries."""
    messages: dict[int, Shown] = {}
    changes: dict[int, list[Received]] = defaultdict(list)
    for entry in entries:
        if isinstance(entry, GapReceived) or (
            isinstance(entry, Subscribed) and entry.since is not None and not entry.recovered
        ):
            # What is known may have changed unseen.
            messages.clear()
            changes.clear()
        elif isinstance(entry, Loaded):
            for message in entry.messages:
                known = messages.get(message.seq)
                if known is None or message.version > known.version:
                    messages[message.seq] = _all_applied(message, changes[message.seq])
        elif isinstance(entry, Received):
            change = entry.change
            if change is None:
                messages.setdefault(entry.seq, _published(entry))
                continue
            changes[change.target].append(entry)
            if change.target in messages:
                messages[change.target] = _applied(messages[change.target], entry, change)
    return messages


def _published(event: Received) -> Shown:
    if event.deleted:
        return Shown(event.seq, event.deleted, deleted=True)
    return Shown(event.seq, event.seq, event.payload)


def _all_applied(message: Shown, events: Iterable[Received]) -> Shown:
    for event in events:
        assert event.change is not None
        message = _applied(message, event, event.change)
    return message


def _applied(message: Shown, event: Received, change: Change) -> Shown:
    """Return a message with a change applied, unless the message includes the change already."""
    if event.seq <= message.version or message.deleted:
        return message
    match change.kind:
        case "deleted":
            return Shown(message.seq, event.seq, deleted=True)
        case "edited":
            return replace(message, version=event.seq, name=change.name, text="")
        case "appended":
            text = change.text
            if event.start <= message.version:
                fresh = change.length - len(message.text)
                text = text[len(text) - fresh :] if fresh > 0 else ""
            return replace(message, version=event.seq, text=message.text + text, state=change.state)
    return replace(message, version=event.seq, reactions=_reacted(message.reactions, change))


def _reacted(
    reactions: dict[str, tuple[int, tuple[str, ...]]], change: Change
) -> dict[str, tuple[int, tuple[str, ...]]]:
    count, users = reactions.get(change.emoji, (0, ()))
    others = tuple(user for user in users if user != change.user)
    found = {**reactions}
    if change.remove:
        found[change.emoji] = count - 1, others
    else:
        found[change.emoji] = count + 1, (*others, change.user)
    if not found[change.emoji][0]:
        del found[change.emoji]
    return found
