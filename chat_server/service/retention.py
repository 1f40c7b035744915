"""The retention of each topic's history."""

from collections.abc import Callable
from functools import lru_cache
from typing import Final

from ..auth.permissions import allows
from ..events import Retention, held
from ..settings import Settings

MAX_REMEMBERED: Final = 10_000
"""Topics for which the need of webhooks is cached; some 200 bytes each."""


def retentions(settings: Settings) -> Callable[[str], Retention]:
    """Return the function from a topic to its retention.

    Topics with webhooks are not trimmed before their events are sent. Without webhooks the function
    looks at the namespace alone.
    """
    named = {name: _retention(settings, name) for name in settings.namespaces}
    rest = _retention(settings, "")
    patterns = [pattern for webhook in settings.webhooks.values() for pattern in webhook.topics]

    def of_namespace(topic: str) -> Retention:
        return named.get(topic.partition(":")[0], rest)

    @lru_cache(MAX_REMEMBERED)
    def of_topic(topic: str) -> Retention:
        kept = of_namespace(topic)
        return held(kept) if kept.size and allows(patterns, topic, "") else kept

    return of_topic if patterns else of_namespace


def _retention(settings: Settings, topic: str) -> Retention:
    namespace = settings.namespace(topic)
    kept = Retention(
        size=namespace.history_size,
        seconds=namespace.history_seconds,
        bytes=namespace.history_bytes,
        changes=settings.limits.max_replay,
    )
    return held(kept) if namespace.archive else kept
