"""A publication is packed as hiredis packs the same arguments."""

from collections.abc import Callable
from typing import Any, cast

import pytest
from msgspec.structs import replace

from chat_server.broker.redis.pipeline import Pipeline, pack
from chat_server.broker.redis.storage import PUBLISH, Keyspace, Storage
from chat_server.events import Draft, Retention
from chat_server.service.drafts import message_draft
from chat_server.settings import BrokerSettings

PLAIN = Retention(10, 1.5, 1_000)
HELD = Retention(10, 60.0, 0, 20, held_size=100, held_bytes=5_000)


class Recorder:
    """Takes the place of a pipeline."""

    def __init__(self) -> None:
        self.calls: list[tuple[bytes, str]] = []

    def call_packed(self, command: bytes, key: str, decode: Callable[[Any], Any]) -> None:
        self.calls.append((command, key))


def draft(retention: Retention, key: str | None, text: str) -> Draft:
    data = text.encode()
    return message_draft("room:a", b'{"user":"ada"}', data, retention, key)


@pytest.mark.parametrize("text", ["1", '"ü\\u0000\r\n$1"', '"%s %b"', '"' + "x" * 70_000 + '"'])
@pytest.mark.parametrize("key", [None, "3:ada:k", "5:zoë:ключ\r\n"])
@pytest.mark.parametrize("retention", [PLAIN, HELD, replace(PLAIN, size=0, bytes=0)])
def test_a_publication_is_packed_as_by_hiredis(
    retention: Retention, key: str | None, text: str
) -> None:
    recorder, settings = Recorder(), BrokerSettings()
    storage = Storage(settings, "SPUBLISH")
    storage._epochs = iter(["e.1", "e.2"])
    keys = Keyspace("chat", 3).keys("room:a")
    for number, once_ms in ((1, None), (2, 1_000)):
        wanted = draft(retention, key, text)
        storage.publish(cast(Pipeline, recorder), keys, wanted, once_ms=once_ms)
        names = [*keys[:6], *([] if key is None else [f"{keys.once}:{key}"])]
        history_ms = round(retention.seconds * 1_000)
        arguments: list[str | bytes | int] = [
            *(f"e.{number}", "message", wanted.head, wanted.tail, len(text.encode()) + 1),
            *(retention.size, history_ms, round(settings.position_seconds * 1_000)),
            once_ms or round(settings.idempotency_seconds * 1_000),
            *("SPUBLISH", retention.bytes),
        ]
        if retention.held_size:
            arguments += [retention.held_size, retention.held_bytes]
        packed = pack("EVALSHA", PUBLISH.digest, len(names), *names, *arguments)
        assert recorder.calls[-1] == (packed, "chat:{room:a}:meta")
