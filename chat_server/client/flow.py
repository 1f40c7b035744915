"""The one bound on what a client holds for its consumers."""

from asyncio import Event

MAX_HELD_BYTES = 64 * 2**20
"""Frames of events that wait for their consumers: a server may send large ones."""


class Flow:
    """Counts the events that wait for their consumers, over all subscriptions of a client.

    At the limit the client stops reading its socket. What is sent meanwhile fills the buffers up
    to the server, which then stops sending live events and replays them once there is room again:
    a slow consumer costs bounded memory on both sides, and loses nothing that is stored.

    A command that waits for its answer keeps the socket being read all the same, or a consumer
    that publishes for each event it receives would wait for an answer that is never read. Events
    that are read past the limit in this way are dropped, and asked for again later.

    Args:
        limit: events.
        limit_bytes: of the events' frames; one event is always held.
    """

    def __init__(self, limit: int, limit_bytes: int = MAX_HELD_BYTES) -> None:
        self._limit = limit
        self._limit_bytes = limit_bytes
        self._held = 0
        self._held_bytes = 0
        self._commands = 0
        self._may_read = Event()
        self._may_read.set()
        self._has_room = Event()
        self._has_room.set()

    @property
    def full(self) -> bool:
        """Whether another event must not be held."""
        return self._held >= self._limit or self._held_bytes >= self._limit_bytes

    def add(self, size: int = 0) -> None:
        """Count an event of `size` bytes that waits for its consumer."""
        self._held += 1
        self._held_bytes += size
        self._update()

    def remove(self, size: int = 0, count: int = 1) -> None:
        """Count events of `size` bytes together that are gone."""
        self._held -= count
        self._held_bytes -= size
        self._update()

    def begin_command(self) -> None:
        """Count a command that waits for its answer, and so keep the socket being read."""
        self._commands += 1
        self._update()

    def end_command(self) -> None:
        """Count a command as answered, or given up."""
        self._commands -= 1
        self._update()

    async def may_read(self) -> None:
        """Wait until the socket may be read."""
        await self._may_read.wait()

    async def has_room(self) -> None:
        """Wait until at most half of the limit is held, so that a replay makes headway."""
        await self._has_room.wait()

    def _update(self) -> None:
        _switch(self._may_read, not self.full or self._commands > 0)
        half_full = self._held > self._limit // 2 or self._held_bytes > self._limit_bytes // 2
        _switch(self._has_room, not half_full)


def _switch(event: Event, on: bool) -> None:
    if on:
        event.set()
    else:
        event.clear()
