"""The JSON text of publications: drafts of stored events, payloads of signals."""

from typing import Any

from ..events import Draft, Kind, Retention
from ..rates import Charge


def message_draft(
    topic: str,
    sender: bytes,
    data: bytes,
    retention: Retention,
    key: str | None,
    *,
    state: str | None = None,
    charges: tuple[Charge, ...] = (),
) -> Draft:
    """Return a message without its place.

    Args:
        topic: a checked topic name.
        sender: the sender as JSON text.
        data: checked JSON text.
        retention: the bounds of the topic's history.
        key: idempotency key, scoped to the sender.
        state: `streaming` for a message that grows by appends.
        charges: the costs against rates of the topic.
    """
    label = b"" if state is None else b',"state":"%b"' % state.encode()
    return Draft(
        topic=topic,
        kind=Kind.MESSAGE,
        head=b'{"type":"message","topic":"%b","seq":' % topic.encode(),
        # `broker.folding` relies on the fields after `from`.
        tail=b',"from":%b%b,"data":%b}' % (sender, label, data),
        content=len(data) + 1,
        retention=retention,
        key=key,
        charges=charges,
    )


def change_fields(
    kind: Kind, topic: str, sender: bytes, target: int, rest: bytes = b"", content: bytes = b""
) -> dict[str, Any]:
    """Return the fields that the drafts of all changes have in common.

    Args:
        kind: the kind of the event.
        topic: a checked topic name.
        sender: the author of the change, as JSON text.
        target: the message's seq.
        rest: JSON text of further members, each with a comma in front.
        content: JSON text that a deletion of the message removes.
    """
    head = b'{"type":"%b","topic":"%b","seq":' % (kind.encode(), topic.encode())
    tail = b',"from":%b,"target":%d%b' % (sender, target, rest)
    # The payload of an append ends with its text, which the broker adds.
    end = b"" if kind is Kind.APPENDED else b"}"
    return {
        "topic": topic,
        "kind": kind,
        "head": head,
        "tail": tail + content + end,
        "content": len(content) + 1 if content else 0,
        "target": target,
    }


def signal_payload(topic: str, sender: bytes, data: bytes, at: int) -> bytes:
    """Return a signal's push; `at` is in milliseconds since 1970, `sender` and `data` are JSON."""
    return b'{"type":"signal","topic":"%b","from":%b,"data":%b,"at":%d}' % (
        topic.encode(),
        sender,
        data,
        at,
    )
