"""The JSON text of what is published: drafts of stored events, payloads of signals."""

from ..events import Draft, Kind, Retention


def message_draft(
    topic: str, sender: bytes, data: bytes, retention: Retention, key: str | None
) -> Draft:
    """Return a message without its place.

    Args:
        topic: a checked topic name.
        sender: the sender as JSON text.
        data: checked JSON text.
        retention: how much of the topic's history is kept.
        key: idempotency key, scoped to the sender.
    """
    return Draft(
        topic=topic,
        kind=Kind.MESSAGE,
        head=b'{"type":"message","topic":"%b","seq":' % topic.encode(),
        tail=b',"from":%b,"data":%b}' % (sender, data),
        retention=retention,
        key=key,
    )


def signal_payload(topic: str, sender: bytes, data: bytes, at: int) -> bytes:
    """Return a signal's push; `at` is in milliseconds since 1970, `sender` and `data` are JSON."""
    return b'{"type":"signal","topic":"%b","from":%b,"data":%b,"at":%d}' % (
        topic.encode(),
        sender,
        data,
        at,
    )
