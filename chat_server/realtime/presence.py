"""The users in this worker's topics of namespaces with presence (docs/design/presence.md)."""

import asyncio
from asyncio import TimerHandle
from collections.abc import Iterable, Sequence

from ..events import Event, Kind
from ..logs import LogThrottle
from ..presence import Attended, PresencePage
from ..settings import Namespace, Settings
from .drain import Drain
from .ports import Listener, PresenceStore, Transport
from .roster import Roster
from .watchers import Watchers

# To look up a member of an enumeration costs a quarter of a microsecond in Python 3.11.
_PRESENCE = Kind.PRESENCE

STOP_SECONDS = 2.0
"""Seconds for which a stopping worker may write to the store which users have left."""

RECOVER_SECONDS = 1.0
"""Seconds between two checks of watchers that were passed over."""


class TopicPresence:
    """Connects the subscribers of this worker, the store of presence, and the watchers.

    This is the broker's listener, and passes all events on to the hub.

    Args:
        store: the broker's store of presence.
        hub: takes all events.
        settings: the settings of namespaces with presence.
        name: the worker's name.
        drain: tells the time within which the clients of a stopping worker come back.
    """

    def __init__(
        self, store: PresenceStore, hub: Listener, settings: Settings, name: str, drain: Drain
    ) -> None:
        self._store = store
        self._hub = hub
        self._settings = settings
        self._drain = drain
        self._stop_seconds = min(settings.redis.timeout_seconds, STOP_SECONDS)
        self._watchers: dict[str, Watchers] = {}
        self._throttle = LogThrottle()
        self._timer: TimerHandle | None = None
        self._roster = Roster(
            store,
            name,
            grace=self._grace,
            lease_seconds=settings.broker.presence_lease_seconds,
            on_attended=self._note_counts,
        )

    def covers(self, topic: str) -> bool:
        """Return whether the topic's namespace has presence."""
        return self._namespace(topic).presence

    def _namespace(self, topic: str) -> Namespace:
        return self._settings.namespace(topic)

    def _grace(self, topic: str) -> float:
        grace = self._namespace(topic).presence_grace_seconds
        # Clients of a draining worker are told to come back within this time.
        return grace + self._drain.spread_seconds if grace and self._drain.begun else grace

    def start(self) -> None:
        """Begin to keep the store up to date."""
        self._roster.start()
        self._recover()

    async def stop(self) -> None:
        """Write that all users of this worker have left; their connections are closed."""
        if self._timer is not None:
            self._timer.cancel()
        await self._roster.stop(self._stop_seconds)

    # Users ---------------------------------------------------------------------------------

    def join(
        self, topic: str, transport: Transport, user: str, profile: bytes, *, watches: bool
    ) -> None:
        """Count a subscriber; if `watches`, send presence pushes from `enter` on."""
        self._roster.add(topic, transport, user, profile)
        if watches:
            watchers = self._watchers.get(topic)
            if watchers is None:
                batch = self._namespace(topic).presence_batch
                watchers = self._watchers[topic] = Watchers(topic, batch, self._throttle)
            watchers.join(transport)

    def enter(self, topic: str, transport: Transport) -> None:
        """Send a watcher every change since `join`; called right behind its `ok`."""
        if (watchers := self._watchers.get(topic)) is not None:
            watchers.enter(transport)

    def rename(self, topics: Iterable[str], transport: Transport, profile: bytes) -> None:
        """Note that a subscriber has a new profile, because a new token has another name."""
        for topic in topics:
            self._roster.rename(topic, transport, profile)

    def leave(self, topic: str, transport: Transport) -> None:
        """Stop counting a subscriber."""
        self._roster.remove(topic, transport)
        watchers = self._watchers.get(topic)
        if watchers is not None and watchers.leave(transport):
            del self._watchers[topic]

    def watches(self, topic: str, transport: Transport) -> bool:
        """Return whether a subscriber gets presence pushes."""
        watchers = self._watchers.get(topic)
        return watchers is not None and transport in watchers

    async def written(self, topic: str, user: str) -> None:
        """Wait until the store has a user of this worker, or does not answer."""
        await self._roster.written(topic, user)

    async def page(
        self, topic: str, *, after: str = "", limit: int, max_bytes: int
    ) -> PresencePage:
        """Read the users in a topic; see `ports.PresenceStore`."""
        page = await self._store.page(topic, after=after, limit=limit, max_bytes=max_bytes)
        self._note_counts(topic, page)
        return page

    def _note_counts(self, topic: str, counts: Attended | PresencePage) -> None:
        if (watchers := self._watchers.get(topic)) is not None:
            watchers.count(counts.count, counts.connections)

    def _recover(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(RECOVER_SECONDS, self._recover)
        for watchers in self._watchers.values():
            watchers.recover()

    # The broker's listener -----------------------------------------------------------------

    def on_events(self, events: Sequence[Event]) -> None:
        """Pass events on, and push presence changes to watchers; see `ports.Listener`."""
        self._hub.on_events(events)
        for event in events:
            if event.kind is Kind.PRESENCE:
                watchers = self._watchers.get(event.topic)
                if watchers is not None:
                    watchers.offer(event.payload)

    def on_lost(self, topics: Iterable[str] | None = None) -> None:
        """Pass the call on; see `ports.Listener`."""
        self._hub.on_lost(topics)

    def on_restored(self, topics: Iterable[str] | None = None) -> None:
        """Pass the call on, and compare with the store: either side may have missed changes."""
        topics = None if topics is None else list(topics)
        self._hub.on_restored(topics)
        self._roster.renew(topics)
        for topic in list(self._watchers if topics is None else topics):
            if (watchers := self._watchers.get(topic)) is not None:
                watchers.ask_again()
