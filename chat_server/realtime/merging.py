"""Merges neighbouring appends to one message, for a subscriber that lagged."""

from collections.abc import Iterable, Iterator, Sequence

import msgspec
from msgspec import Raw, Struct, field
from msgspec.structs import replace

from ..events import Event, Kind


class _Appended(Struct, omit_defaults=True, tag_field="type", tag="appended"):
    topic: str
    seq: int
    at: int
    sender: Raw = field(name="from")
    target: int
    length: int
    state: str
    text: str
    first: int | None = None


_decode = msgspec.json.Decoder(_Appended).decode


def merge_appends(events: Sequence[Event]) -> Sequence[Event]:
    """Merge neighbouring appends to the same message (docs/protocol.md, section 4.8).

    Args:
        events: stored events in the order of their seqs.
    """
    before = None
    for event in events:
        if before is event.kind is Kind.APPENDED:
            return list(_merged(events))
        before = event.kind
    return events


def _merged(events: Iterable[Event]) -> Iterator[Event]:
    run: list[tuple[Event, _Appended]] = []
    for event in events:
        appended = _read(event)
        if run and (appended is None or not _together(run[-1], (event, appended))):
            yield _joined(run)
            run = []
        if appended is None:
            yield event
        else:
            run.append((event, appended))
    if run:
        yield _joined(run)


def _read(event: Event) -> _Appended | None:
    if event.kind is not Kind.APPENDED:
        return None
    try:
        return _decode(event.payload)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None  # another program has written the event


def _together(one: tuple[Event, _Appended], next: tuple[Event, _Appended]) -> bool:
    """Return whether two appends are neighbours, of the same author and to the same message."""
    return (
        next[1].target == one[1].target
        and next[1].sender == one[1].sender
        and next[0].seq == one[0].seq + 1
    )


def _joined(run: list[tuple[Event, _Appended]]) -> Event:
    event, last = run[-1]
    if len(run) == 1:
        return event
    first, text = run[0][0].seq, "".join(each.text for _, each in run)
    payload = msgspec.json.encode(replace(last, text=text, first=first))
    return replace(event, payload=payload, first=first)
