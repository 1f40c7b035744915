"""The limit on events that a client holds for its consumers."""

from asyncio import Event

MAX_HELD_BYTES = 64 * 2**20
"""Bytes of events held for their consumers at most, by default. Single events may be large."""


class Flow:
    """Counts the events that wait for their consumers, over all subscriptions of a client.

    At the limit the client stops reading its socket. The buffers up to the server fill. The server
    then stops sending live events, and replays them once there is room again. A slow consumer
    therefore costs bounded memory on both sides, and loses no stored event.

    While a command waits for its answer, the client reads the socket even at the limit. Otherwise a
    consumer that publishes for each event would wait for an answer that the client never reads. The
    client drops events beyond the limit, and requests them again later.

    Args:
        limit: events held at most.
        limit_bytes: bytes of their payloads at most; one event is always held.
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
        """True if the limit is reached."""
        return self._held >= self._limit or self._held_bytes >= self._limit_bytes

    def add(self, size: int = 0) -> None:
        """Count an event of `size` bytes as held."""
        self._held += 1
        self._held_bytes += size
        self._update()

    def remove(self, size: int = 0, count: int = 1) -> None:
        """Count `count` events of `size` bytes in all as consumed or dropped."""
        self._held -= count
        self._held_bytes -= size
        self._update()

    def begin_command(self) -> None:
        """Count a command that waits for its answer; the client reads the socket meanwhile."""
        self._commands += 1
        self._update()

    def end_command(self) -> None:
        """Count a command as answered or given up."""
        self._commands -= 1
        self._update()

    async def may_read(self) -> None:
        """Wait until the socket may be read."""
        await self._may_read.wait()

    async def has_room(self) -> None:
        """Wait until at most half of the limit is held, so that a replay makes progress."""
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
